"""A PennyLane tape taken apart: structure, parameters, spectra, measurements.

Importing any of these modules changes PennyLane: they rely on that.
"""

from qshift.circuits import pennylane_changes_internals as pennylane_changes_internals
