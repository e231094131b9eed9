"""Two tapes have one signature only if nothing but the numbers in tensors tells them apart."""

import itertools

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.circuits.compiler import Compiler, signature

X, Y = (tf.constant(number, tf.float64) for number in (0.3, 0.7))
Z = [qml.expval(qml.Z(0))]


def tape(*operations, measurements=None, shots=None):
    return qml.tape.QuantumScript(operations, measurements or Z, shots=shots)


class Own(qml.RX):
    """A user's gate."""


DIFFERENT = [
    tape(qml.RX(X, 0)),
    tape(qml.RY(X, 0)),
    tape(qml.RX(X, 1)),
    tape(qml.RX(X, "0")),
    tape(qml.RX(X, 0), shots=10),
    tape(qml.RX(X, 0), shots=[10, 10]),
    tape(qml.RX(X, 0), qml.RX(X, 0)),
    tape(qml.RX(X, 0), measurements=Z * 2),
    tape(qml.RX(X, 0), measurements=[qml.var(qml.Z(0))]),
    tape(qml.RX(X, 0), measurements=[qml.probs(wires=0)]),
    tape(qml.RX(X, 0), measurements=[qml.probs()]),
    tape(qml.RX(X, 0), measurements=[qml.expval(qml.Z(0) @ qml.Z(1))]),
    tape(qml.RX(X, 0), measurements=[qml.expval(qml.Z(1) @ qml.Z(0))]),
    tape(qml.RX(X, 0), measurements=[qml.expval(qml.Z(0) + qml.Z(1))]),
    tape(qml.RX(X, 0), measurements=[qml.expval(2.0 * qml.Z(0))]),
    tape(qml.RX(X, 0), measurements=[qml.expval(3.0 * qml.Z(0))]),
    tape(qml.RX(X, 0), measurements=[qml.expval(qml.prod(qml.Z(0), qml.prod(qml.Z(1), qml.Z(2))))]),
    tape(qml.RX(X, 0), measurements=[qml.expval(qml.prod(qml.prod(qml.Z(0), qml.Z(1)), qml.Z(2)))]),
    tape(qml.RX(tf.stack([X, X]), 0)),
    tape(qml.RX(tf.stack([X, X, X]), 0)),
    tape(qml.RX(tf.cast(X, tf.float32), 0)),
    tape(qml.RX(0.3, 0)),
    tape(qml.RX(0.3 + 1e-16, 0)),
    tape(qml.RX(np.float64(0.3), 0)),
    tape(qml.RX(0.0, 0)),
    tape(qml.RX(-0.0, 0)),
    tape(qml.RX(0, 0)),
    tape(qml.RX(np.inf, 0)),
    tape(qml.RX(X, 0), qml.RY(0.1, 0)),
    tape(qml.RX(0.1, 0), qml.RY(X, 0)),
    tape(qml.CRX(X, [0, 1])),
    tape(qml.CRX(X, [1, 0])),
    tape(qml.ctrl(qml.RX(X, 1), 0, control_values=[0])),
    tape(qml.ctrl(qml.RX(X, 2), [0, 1], control_values=[0, 1])),
    tape(qml.ctrl(qml.RX(X, 2), [0, 1], control_values=[1, 0])),
    tape(qml.adjoint(qml.RX(X, 0))),
    tape(qml.PauliRot(X, "XY", [0, 1])),
    tape(qml.PauliRot(X, "YX", [0, 1])),
    tape(qml.CNOT([0, 1])),
    tape(qml.CNOT([1, 0])),
    tape(qml.CNOT(["1", 0])),
    tape(qml.CZ([0, 1])),
    tape(qml.Toffoli([0, 1, 2])),
    tape(qml.Toffoli([1, 0, 2])),
    tape(qml.CSWAP([0, 1, 2])),
    tape(qml.ctrl(qml.CNOT([1, 2]), 0, control_values=[0])),
    tape(qml.CNOT([0, 1]), qml.CNOT([0, 1])),
    tape(qml.Rot(X, 0.1, 0.2, 0)),
    tape(qml.Rot(0.1, X, 0.2, 0)),
]


def test_whatever_differs_has_another_signature():
    found = list(map(signature, DIFFERENT))
    for (i, one), (j, other) in itertools.combinations(enumerate(found), 2):
        assert one is None or one != other, (DIFFERENT[i].circuit, DIFFERENT[j].circuit)
    assert found.count(None) <= 2


@pytest.mark.parametrize("i", range(len(DIFFERENT)))
def test_it_is_found_again(i):
    again = qml.pytrees.unflatten(*qml.pytrees.flatten(DIFFERENT[i]))
    assert signature(again) == signature(DIFFERENT[i])


def test_numbers_in_tensors_are_not_looked_at():
    assert signature(tape(qml.RX(X, 0))) == signature(tape(qml.RX(Y, 0))) is not None


def test_numbers_may_be_tensors():
    one, other = (tape(qml.RX(x, 0), qml.RY(np.float64(0.1), 0)) for x in (0.3, 0.7))
    assert signature(one, float) == signature(other, float) is not None
    assert signature(one, float) != signature(tape(qml.RX(0.3, 0), qml.RY(1, 0)), float)


def test_what_arrays_become_is_asked_each_time():
    """A `SpecialUnitary` is decomposed only if something differentiates by its parameters."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(theta):
        qml.SpecialUnitary(theta, 0)
        return qml.expval(qml.Z(0))

    theta = tf.Variable([0.1, 0.2, 0.3], dtype=tf.float64)
    value = circuit(theta)
    with tf.GradientTape() as tape_:
        again = circuit(theta)
    np.testing.assert_allclose(value, again, atol=1e-12)
    assert np.abs(tape_.gradient(again, theta)).max() > 0.1


def test_numbers_without_a_rule_are_looked_at_each_time():
    """Nothing is remembered of tapes with such: sums are unitary for some numbers only."""
    compiler = Compiler(None, tf.is_tensor)
    compiler(tape(qml.s_prod(tf.constant(-1.0, tf.float64), qml.X(0))))
    assert not compiler._known
    with pytest.raises(qshift.UnsupportedError, match="no unitary"):
        compiler(tape(qml.s_prod(tf.constant(1.5, tf.float64), qml.X(0))))


@pytest.mark.parametrize(
    "other",
    [
        tape(Own(X, 0)),
        tape(qml.RX(X, 0), measurements=[qml.expval(X * qml.Z(0))]),
        tape(qml.RX(X, 0), measurements=[qml.expval(qml.Hermitian(np.eye(2), 0))]),
        tape(qml.QubitUnitary(np.eye(2), 0)),
        tape(qml.RX(np.array([0.1, 0.2]), 0)),
        tape(qml.RX(tf.Variable(0.3, dtype=tf.float64), 0)),
    ],
    ids=str,
)
def test_what_may_be_anything_has_none(other):
    assert signature(other) is None


def test_one_tensor_in_two_gates_is_not_the_rule():
    """What is known of a tape of two gates with one angle holds for two angles as well."""
    compiler = Compiler(None, tf.is_tensor)
    same = compiler(tape(qml.RX(X, 0), qml.RY(X, 0)))
    apart = compiler(tape(qml.RX(X, 0), qml.RY(Y, 0)))
    assert same.circuit is apart.circuit and len(compiler._known) == 1
    assert same.parameters[0] is same.parameters[1] is apart.parameters[0] is X
    assert apart.parameters[1] is Y


def test_parts_of_rotations_are_found_again():
    """Rot becomes three gates, in an order that no angle changes; others come after it."""
    numbers = [tf.constant(0.1 * k, tf.float64) for k in range(10)]
    compiler = Compiler(None, tf.is_tensor, adjoint=True)

    def tape_of(a, b, c, d, e, f, g):
        return tape(
            *(qml.RX(a, 0), qml.Rot(b, c, d, 0), qml.CNOT([0, 1]), qml.Rot(0.3, e, f, 1)),
            *(qml.RY(a, 1), qml.Rot(0.3, 0.3, g, 0)),
        )

    compiled = [compiler(tape_of(*numbers[k : k + 7])) for k in range(4)]
    assert len(compiler._known) == 1 and len({id(each.circuit) for each in compiled}) == 1
    assert [gate.name for gate in compiled[0].circuit.operations] == (
        "RX RZ RY RZ CNOT RZ RY RZ RY RZ RY RZ".split()
    )
    for k, each in enumerate(compiled):
        a, *others, last = numbers[k : k + 7]
        assert all(x is y for x, y in zip(each.parameters, [a, *others, a, last], strict=True))


def test_parts_with_the_same_tensor_say_nothing_of_other_tapes():
    compiler = Compiler(None, tf.is_tensor, adjoint=True)
    same = compiler(tape(qml.Rot(X, X, Y, 0)))
    assert not compiler._known
    apart = compiler(tape(qml.Rot(X, Y, X, 0)))
    assert [x is X for x in same.parameters] == [True, True, False]
    assert [x is X for x in apart.parameters] == [True, False, True]
    gate = qml.Rot(X, Y, tf.constant(0.7, tf.float64), 0)
    compiler(tape(gate, gate))
    assert not compiler._known


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "gates",
    [
        # The first vanishes, the second becomes two: the parameters are where they were, but those
        # of other gates.
        lambda x, y: [qml.PauliRot(x, "II", [0, 1]), qml.U2(y, x, 0)],
        lambda x, y: [qml.Rot(x, y, x, 0), qml.Barrier(0)],
        lambda x, y: [qml.CRot(x, y, 0.1, [0, 1])],
        lambda x, y: [qml.prod(qml.RX(x, 0), qml.RY(y, 1))],
        lambda x, y: [qml.QFT([0, 1]), qml.RX(x, 0), qml.RZ(y, 0), qml.Hadamard(0)],
        lambda x, y: [qml.IsingXY(x, [0, 1]), qml.DoubleExcitation(y, [0, 1, 2, 3])],
    ],
)
@pytest.mark.parametrize("adjoint", [False, True])
def test_calls_after_the_first_are_right(gates, adjoint):
    device = qml.device("default.qubit")

    def circuit(x, y):
        qml.Hadamard(0)
        qml.RY(0.4, 1)
        qml.CNOT([0, 1])
        gates(x, y)
        first = qml.expval(qml.X(0) @ qml.Z(1))
        return first, qml.expval(qml.Y(0)) if adjoint else qml.var(qml.Y(0))

    method = "adjoint" if adjoint else "shift"
    node = qshift.qnode(device, diff_method=method)(circuit)
    exact = qml.QNode(circuit, device, interface="tf", diff_method="backprop")
    for x, y in ((0.3, 0.3), (0.3, 0.7), (-1.1, 0.2)):
        x, y = (tf.Variable(number, dtype=tf.float64) for number in (x, y))
        found, right = [], []
        for call, into in ((node, found), (exact, right)):
            with tf.GradientTape(persistent=True) as tape_:
                values = tf.stack(call(x, y))
            into += [values, *tape_.jacobian(values, [x, y], experimental_use_pfor=False)]
        for one, other in zip(found, right, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)
