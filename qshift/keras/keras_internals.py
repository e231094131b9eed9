"""Every name beneath Keras's public interface that qshift uses, with what it must do.

No other module names `keras.src`. tests/keras/test_keras_internals.py tests what this module
promises, without the rest of qshift. Importing this module changes Keras, in the whole process.
"""

from __future__ import annotations

from keras.src.saving.keras_saveable import KerasSaveable

from qshift.keras.copies import taking_qnodes_along

# The standard library copies and pickles layers and models by this method. It returns a function
# and arguments that make the object again, from its settings (`get_config`) and weights.
KerasSaveable.__reduce__ = taking_qnodes_along(KerasSaveable.__reduce__)
