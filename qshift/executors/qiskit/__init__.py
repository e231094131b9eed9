"""Qiskit's primitives: Aer, fake backends, IBM hardware."""
