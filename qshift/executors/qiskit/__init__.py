"""Qiskit's primitives: Aer, fake backends, IBM hardware."""

from qshift.extras import require

# This check is here so that every import of these modules, also by PennyLane's plugins, says which
# packages are missing.
require("qiskit", "The device qshift.estimator (aer, fake and ibm backends)")
