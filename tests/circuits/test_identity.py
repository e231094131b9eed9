"""Two values have the same fingerprint only if they are identical."""

import enum
import functools

import numpy as np
import pennylane as qml
import pytest
import scipy.sparse
import tensorflow as tf

from qshift.circuits.identity import fingerprint, kept


class Plain:
    def __init__(self, **entries):
        vars(self).update(entries)


class Slotted:
    __slots__ = ("_Slotted__hidden", "shown")

    def __init__(self, hidden, shown=0):
        self.__hidden, self.shown = hidden, shown


class OwnList(list):
    pass


class Colour(enum.Enum):
    RED, GREEN = 1, 2


def adds(number):
    return lambda x: x + number


def with_default(number):
    def function(x=number):
        return x

    return function


def own_list(note):
    made = OwnList([1])
    made.note = note
    return made


DIFFERENT = {
    "numbers": (lambda: 1.0, lambda: 2.0),
    "int and float": (lambda: 1, lambda: 1.0),
    "int and bool": (lambda: [1], lambda: [True]),
    "signed zeros": (lambda: 0.0, lambda: -0.0),
    "beyond 64 bits": (lambda: 2**70, lambda: 2**71),
    "precision": (lambda: np.ones(2), lambda: np.ones(2, np.float32)),
    "shape": (lambda: np.ones((2, 1)), lambda: np.ones((1, 2))),
    "array": (lambda: np.array([1.0, 2.0]), lambda: np.array([1.0, 2.1])),
    "objects": (lambda: np.array([1, "a"], object), lambda: np.array([1, "b"], object)),
    "sparse": (lambda: scipy.sparse.eye(3), lambda: 2 * scipy.sparse.eye(3)),
    "tensor": (lambda: tf.constant(1.0), lambda: tf.constant(2.0)),
    "list": (lambda: [1, [2]], lambda: [1, [3]]),
    "list and tuple": (lambda: [1], lambda: (1,)),
    "dict": (lambda: {"a": [1]}, lambda: {"a": [2]}),
    "keys": (lambda: {"a": 1}, lambda: {"b": 1}),
    "set": (lambda: {1, "a"}, lambda: {1, "b"}),
    "attributes": (lambda: Plain(a=1), lambda: Plain(a=2)),
    "arrays in attributes": (lambda: Plain(a=np.ones(2)), lambda: Plain(a=np.zeros(2))),
    "slots": (lambda: Slotted(1), lambda: Slotted(2)),
    "slots shown": (lambda: Slotted(1, 2), lambda: Slotted(1, 3)),
    "a list of a class": (lambda: own_list("a"), lambda: own_list("b")),
    "enum": (lambda: Colour.RED, lambda: Colour.GREEN),
    "closure": (lambda: adds(1), lambda: adds(2)),
    "closure over an array": (lambda: adds(np.ones(2)), lambda: adds(np.zeros(2))),
    "default": (lambda: with_default(1), lambda: with_default(2)),
    "partial": (lambda: functools.partial(min, 1), lambda: functools.partial(min, 2)),
    "method": (lambda: [1].append, lambda: [2].append),
    "gates": (lambda: qml.RX(0.1, 0), lambda: qml.RX(0.2, 0)),
    "wires": (lambda: qml.RX(0.1, 0), lambda: qml.RX(0.1, 1)),
    "classes": (lambda: qml.RX(0.1, 0), lambda: qml.RY(0.1, 0)),
    "hyperparameters": (lambda: qml.PauliRot(0.1, "X", 0), lambda: qml.PauliRot(0.1, "Y", 0)),
    "operands": (lambda: qml.X(0) @ qml.Z(1), lambda: qml.X(0) @ qml.Y(1)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_only_what_is_identical_has_the_same_fingerprint(name):
    one, other = DIFFERENT[name]
    if name != "method":  # of a list that is made anew
        assert fingerprint(one()) == fingerprint(one())
        assert hash(fingerprint(one())) == hash(fingerprint(one()))
    assert fingerprint(one()) != fingerprint(other())


def test_order_does_not_matter_in_sets_and_content_is_that_of_the_call():
    assert fingerprint({1, 2, 3}) == fingerprint({3, 2, 1})
    array = np.ones(2)
    before = fingerprint([array])
    array[0] = 2.0
    assert fingerprint([array]) != before


def test_objects_may_refer_to_themselves():
    def ring(number):
        one = Plain(number=number)
        one.other = Plain(back=one)
        return one

    assert fingerprint(ring(1)) == fingerprint(ring(1))
    assert fingerprint(ring(1)) != fingerprint(ring(2))


def test_what_cannot_be_looked_into_is_compared_by_identity():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)

    @tf.function(autograph=False)  # which would convert what is tested
    def traced(x):
        y = x + 1.0
        assert fingerprint(y) == fingerprint(y)
        assert fingerprint(y) != fingerprint(x + 1.0)
        return y

    traced(tf.constant(1.0))


def test_numbers_are_not_a_number_only_once():
    assert fingerprint(float("nan")) == fingerprint(float("nan"))
    assert fingerprint(qml.RX(np.nan, 0)) == fingerprint(qml.RX(np.nan, 0))


def test_what_users_gates_keep():
    class Gate(qml.operation.Operation):
        num_wires, num_params = 1, 1

    def with_note(angle, note):
        gate = Gate(angle, 0)
        gate.note = note
        return gate

    assert kept(qml.RX(0.1, 0)) == ()
    assert kept(with_note(0.1, [1])) == kept(with_note(0.2, [1]))
    assert kept(with_note(0.1, [1])) != kept(with_note(0.1, [2]))
    assert kept(qml.adjoint(with_note(0.1, 1))) != kept(qml.adjoint(with_note(0.1, 2)))
