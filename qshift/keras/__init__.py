"""Quantum circuits as Keras 3 layers."""

from qshift.keras.layer import QuantumLayer as QuantumLayer
from qshift.keras.saving import register as register
