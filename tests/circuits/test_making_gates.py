"""Gates of quantum functions are those that PennyLane makes, with the numbers in tensors."""

import itertools

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane.measurements import ExpectationMP
from pennylane.operation import Operator
from pennylane.queuing import AnnotatedQueue
from pennylane.wires import Wires

import qshift
from qshift.circuits import making_gates
from qshift.circuits.making_gates import COPIED, recorded

LABELS = {"numbers": (3, 1, 2), "names": ("a", "b", "c"), "both": (0, "1", 1)}


def made(function):
    """Returns what a quantum function records, and what it returns."""
    with AnnotatedQueue() as queue:
        result = recorded(function)
    return queue.queue, result


def parts(value):
    """Returns an operator, and all that it has, as containers that can be compared."""
    if isinstance(value, Operator):
        return type(value), parts(vars(value))
    if isinstance(value, dict):
        return {name: parts(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [parts(each) for each in value]
    if isinstance(value, Wires):
        return Wires, [(type(each), each) for each in value.labels]
    return type(value), value


def changing(value):
    """Returns the ids of all operators and containers in an operator that can be changed."""
    inside = vars(value).values() if isinstance(value, Operator) else value
    inside = inside.values() if isinstance(inside, dict) else inside
    own = {id(value)} if isinstance(value, Operator | list | dict) else set()
    kinds = Operator | list | dict | tuple
    return own.union(*(changing(each) for each in inside if isinstance(each, kinds)))


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", COPIED, ids=lambda kind: kind.__name__)
def test_ordinary_gates_are_those_of_pennylane(kind, labels):
    wires = LABELS[labels][: kind.num_wires]
    forms = [list(wires), wires, Wires(wires), *(wires if len(wires) == 1 else ())]
    for numbers, wires in itertools.product(((0.1, 0.2, 0.3), (0.4, 0, np.float64(2))), forms):
        data = numbers[: COPIED[kind]]
        expected = kind(*data, wires=wires)
        queue, found = made(lambda d=data, w=wires: [kind(*d, wires=w), kind(*d, w)])
        assert len(queue) == 2 and all(a is b for a, b in zip(queue, found, strict=True))
        assert parts(found) == parts([expected] * 2)
        assert not changing(found[0]) & changing(found[1])
        for each in found:
            assert all(a is b for a, b in zip(each.data, data, strict=True))
            assert each.wires == expected.wires and each.hash == expected.hash
            np.testing.assert_array_equal(each.matrix(), expected.matrix())


def test_what_happens_to_a_gate_happens_to_no_other():
    def circuit(change):
        gates = qml.CNOT([0, 1]), qml.RX(0.1, 0), qml.X(0)
        if change:
            gates[0].hyperparameters["control_values"][0] = False
            gates[0].hyperparameters["more"] = 1
            gates[0].base.data = (1,)
            gates[1].grad_recipe[0] = "changed"
            gates[1].hyperparameters["more"] = 1
            gates[2].more = 1
        return gates

    before = parts(made(lambda: circuit(False))[1])
    made(lambda: circuit(True))
    assert parts(made(lambda: circuit(False))[1]) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: qml.RX(),
        lambda: qml.RX(0.1),
        lambda: qml.RX(0.1, [0, 1]),
        lambda: qml.CNOT(0.1, [0, 1], 0, 0),
        lambda: qml.RX(0.1, wires=None),
        lambda: qml.RX(0.1, 0, wires=0),
        lambda: qml.RX(0.1, 0, angle=0),
        lambda: qml.CNOT(),
        lambda: qml.CNOT(3),
        lambda: qml.CNOT([0]),
        lambda: qml.CNOT([0, 0]),
        lambda: qml.CNOT([0, [1]]),
        lambda: qml.CNOT([0, 1, 2]),
        lambda: qml.SWAP(["a", "a"]),
    ],
)
def test_wrong_arguments_are_pennylanes_errors(make):
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever it raises
        make()
    for _ in range(2):
        with pytest.raises(type(expected.value)) as found:
            made(make)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: qml.RX(0.1, True),
        lambda: qml.RX(0.1, 0.0),
        lambda: qml.RX(0.1, np.int64(0)),
        lambda: qml.RX(0.1, [np.int64(0)]),
        lambda: qml.CNOT([0.0, True]),
        lambda: qml.CNOT(range(2)),
        lambda: qml.CNOT(np.array([0, 1])),
        lambda: qml.RX([0.1, 0.2], 0),
        lambda: qml.RX(0.1, 0, None),
        lambda: qml.RX(phi=0.1, wires=0),
        lambda: qml.Rot(0.1, (0.2, 0.3), 0.4, wires="a"),
        lambda: qml.RX("angle", 0),
    ],
)
def test_unusual_arguments_are_kept(make):
    made(lambda: [qml.RX(0.1, 0), qml.RX(0.1, 1), qml.CNOT([0, 1])])  # equal to some of them
    (gate,), found = made(make)
    assert gate is found and repr(parts(found)) == repr(parts(make()))


def test_classes_of_users_are_their_own(monkeypatch):
    class Mine(qml.RX):
        def __init__(self, phi, wires):
            super().__init__(2 * phi, wires=wires)

    ((mine,), _) = made(lambda: Mine(0.1, 0))
    assert type(mine) is Mine and mine.data == (0.2,)
    made(lambda: qml.RX(0.1, 0))
    own = qml.RX.__init__
    monkeypatch.setattr(qml.RX, "__init__", lambda self, phi, wires: own(self, 3 * phi, wires))
    ((other,), _) = made(lambda: qml.RX(0.1, 0))
    assert other.data == pytest.approx((0.3,))


def test_gates_are_in_the_innermost_recording():
    def circuit():
        qml.H(0)
        with qml.tape.QuantumTape() as inner:
            qml.RX(0.1, 0)
            qml.CNOT([0, 1])
        with qml.QueuingManager.stop_recording():
            qml.RX(0.2, 0)
        qml.adjoint(qml.S(0))
        return inner, qml.expval(qml.Z(0))

    queue, (inner, _) = made(circuit)
    assert [gate.name for gate in inner.operations] == ["RX", "CNOT"]
    assert queue[1] is inner and isinstance(queue[-1], ExpectationMP)
    assert [each.name for each in (queue[0], queue[2])] == ["Hadamard", "Adjoint(S)"]
    assert len(queue) == 4


def test_gates_hold_the_numbers_that_variables_had():
    w = tf.Variable(0.3, dtype=tf.float64)

    def circuit():
        first = qml.RX(w, 0)
        w.assign(0.5)
        return first, qml.RX(w, wires=0)

    _, gates = made(circuit)
    assert [gate.data[0].numpy() for gate in gates] == [0.3, 0.5]


def test_nothing_is_copied_outside_of_quantum_functions():
    """There PennyLane's gates may hold variables, and the words of tests and users are theirs."""
    w = tf.Variable(0.3, dtype=tf.float64)
    assert qml.RX(w, 0).data[0] is w


@pytest.mark.parametrize("compile", [lambda fn: fn, tf.function], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "gate",
    [
        lambda x: qml.AngleEmbedding([x[0], x[1]], [0, 1]),
        lambda x: qml.AngleEmbedding((x[0], 0.3), [0, 1]),
        lambda x: qml.AngleEmbedding(features=list(x), wires=[0, 1]),
        lambda x: qml.BasicEntanglerLayers([[x[0], x[1]]], [0, 1]),
        lambda x: qml.BasicEntanglerLayers([x], [0, 1]),
        lambda x: qml.SpecialUnitary([x[0], x[1], 0.1], 0),
        lambda x: qml.ctrl(qml.AngleEmbedding, 1)([x[0]], wires=[0]),
        lambda x: qml.SelectPauliRot([x[0], x[1]], [1], 0),
    ],
)
def test_lists_of_tensors_are_tensors(gate, compile):
    """PennyLane makes NumPy arrays of them."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.Hadamard(1)
        gate(x)
        return qml.expval(qml.Z(0) @ qml.Y(1) + qml.Y(0) + qml.Z(1))

    x = tf.Variable([0.3, 0.7], dtype=tf.float64)

    def both():
        with tf.GradientTape() as tape:
            value = circuit(x)
        return value, tape.gradient(value, x)

    _, gradient = compile(both)()
    for i in range(2):
        moved = [tf.constant(x + s * np.eye(2)[i] * 1e-4) for s in (1, -1)]
        up, down = (float(circuit(each)) for each in moved)
        assert float(gradient[i]) == pytest.approx((up - down) / 2e-4, abs=1e-7)


def test_lists_of_variables():
    w = tf.Variable(0.3, dtype=tf.float64)

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit():
        qml.AngleEmbedding([w, 2 * w], wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1))

    def both():
        with tf.GradientTape() as tape:
            value = circuit()
        return value, tape.gradient(value, w)

    expected = (
        np.cos(0.3) * np.cos(0.6),
        -np.sin(0.3) * np.cos(0.6) - 2 * np.cos(0.3) * np.sin(0.6),
    )
    np.testing.assert_allclose(both(), expected, atol=1e-12)
    np.testing.assert_allclose(tf.function(both)(), expected, atol=1e-12)


def test_lists_that_make_no_tensor_are_errors():
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.AngleEmbedding([x, x[0]], wires=[0, 1])
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="AngleEmbedding.*list of tensors.*tf.stack"):
        circuit(tf.constant([0.1, 0.2], tf.float64))


@pytest.mark.parametrize("compile", [lambda fn: fn, tf.function], ids=["eager", "compiled"])
def test_exponents_are_read_when_the_power_is_made(compile):
    w = tf.Variable(0.3, dtype=tf.float64)

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit():
        qml.pow(qml.RX(0.4, 0), w)
        w.assign(0.9)
        qml.pow(qml.RX(0.4, 0), w)
        w.assign(0.3)
        return qml.expval(qml.Z(0))

    assert float(compile(circuit)()) == pytest.approx(np.cos(0.4 * 1.2))


@pytest.mark.parametrize("compile", [lambda fn: fn, tf.function], ids=["eager", "compiled"])
def test_coefficients_some_of_which_are_numbers(compile):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RY(x[0], 0)
        return qml.expval(qml.Hamiltonian([1.7, x[1]], [qml.X(0), qml.Z(0)]))

    x = tf.constant([0.3, 0.4], tf.float64)
    expected = 1.7 * np.sin(0.3) + 0.4 * np.cos(0.3)
    assert float(compile(circuit)(x)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("number", [1.7, np.float64(1.7), 2, np.int64(2), True])
@pytest.mark.parametrize("compile", [lambda fn: fn, tf.function], ids=["eager", "compiled"])
def test_numbers_beside_tensors_keep_their_precision(number, compile):
    """TensorFlow makes single precision of Python's numbers if it is not told."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.AngleEmbedding([x, number], wires=[0, 1])
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    found = compile(circuit)(tf.constant(0.3, tf.float64))
    np.testing.assert_allclose(found, np.cos([0.3, float(number)]), atol=1e-14)


def test_what_is_replaced_for_all_gates_is_called(monkeypatch):
    """By spies on PennyLane's own classes, beneath those of the gates."""
    made, queued = [], []
    init, queue = Operator.__init__, Operator.queue
    node = qshift.QNode(
        lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], qml.device("default.qubit")
    )
    node.construct([0.1], {})
    with monkeypatch.context() as patch:
        patch.setattr(
            Operator, "__init__", lambda self, *a, **k: made.append(self) or init(self, *a, **k)
        )
        node.construct([0.1], {})
    with monkeypatch.context() as patch:
        patch.setattr(Operator, "queue", lambda self, *a: queued.append(self) or queue(self, *a))
        node.construct([0.1], {})
    for found in (made, queued):
        assert qml.RX in set(map(type, found))


def test_a_gradient_recipe_of_a_class_is_that_of_its_gates(monkeypatch):
    node = qshift.QNode(
        lambda x: (qml.RY(x, 5), qml.expval(qml.Z(5)))[1], qml.device("default.qubit")
    )
    recipe = ([[10.0, 1, 0.1], [-10.0, 1, -0.1]],)
    for turn in range(2):
        (gate,) = node.construct([0.1], {}).operations
        assert gate.grad_recipe == [None], turn
        with monkeypatch.context() as patch:
            patch.setattr(qml.RY, "grad_recipe", recipe)
            (gate,) = node.construct([0.1], {}).operations
            assert gate.grad_recipe == recipe


def test_nothing_is_made_ahead_while_pennylane_captures(monkeypatch):
    asked = []
    monkeypatch.setattr(qml.capture, "enabled", lambda: asked.append(1) or True)
    monkeypatch.setattr(making_gates, "_template", None)
    make = making_gates.with_arguments_read(lambda cls, *args, **kwargs: (cls, args))
    assert making_gates.recorded(lambda: make(qml.CNOT, [0, 1])) == (qml.CNOT, ([0, 1],))
    assert asked


def test_autograph_transforms_what_makes_gates(caplog):
    """Of what it cannot transform it warns the user, and keeps the graph."""

    @tf.function
    def traced(x):
        qml.CNOT([0, 1])
        qml.RX(x, wires=0)
        return x

    traced(tf.constant(0.1))
    assert not [record for record in caplog.records if "AutoGraph" in record.getMessage()]
