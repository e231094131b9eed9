"""Every name beneath Keras's public interface that qshift uses, with what it must do.

No other module names `keras.src`. What is promised here is tested alone, in
tests/keras/test_keras_internals.py. To import this module is to change Keras, in the whole process.
"""

from __future__ import annotations

from keras.src.saving.keras_saveable import KerasSaveable

from qshift.keras.copies import taking_qnodes_along

# By it the standard library copies and pickles layers and models. It returns a function and
# arguments that make one again, from the settings (`get_config`) and the weights.
KerasSaveable.__reduce__ = taking_qnodes_along(KerasSaveable.__reduce__)
