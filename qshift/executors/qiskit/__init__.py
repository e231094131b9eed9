"""Qiskit's primitives: Aer, fake backends, IBM hardware."""

from qshift.extras import require

# Here, so that whatever leads to these modules, PennyLane's plugins included, says what is missing.
require("qiskit", "The device qshift.estimator (aer, fake and ibm backends)")
