"""What `qshift.keras.keras_internals` promises of Keras's private names, each alone."""

import copy
import pathlib
import pickle

import keras
import numpy as np
import pytest

import qshift
from qshift.keras import keras_internals as internals


def test_nothing_else_names_them():
    package = pathlib.Path(qshift.__file__).parent
    named = [path.name for path in package.rglob("*.py") if "keras.src" in path.read_text()]
    assert named == ["keras_internals.py"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_layers_and_models_are_copied_by_what_reduce_returns(duplicate, monkeypatch):
    reduced = []
    reduce = internals.KerasSaveable.__reduce__

    def seen(self):
        reduced.append(type(self).__name__)
        return reduce(self)

    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    monkeypatch.setattr(internals.KerasSaveable, "__reduce__", seen)
    copied = duplicate(model)
    assert "Sequential" in reduced
    make, arguments = reduce(model)
    for each in (copied, make(*arguments)):
        for a, b in zip(each.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert type(each) is keras.Sequential and each is not model


def test_what_is_changed_is_on():
    assert internals.KerasSaveable.__reduce__.__wrapped__.__module__.startswith("keras.")
    assert issubclass(keras.layers.Layer, internals.KerasSaveable)
    assert issubclass(keras.Model, internals.KerasSaveable)
