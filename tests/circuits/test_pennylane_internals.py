"""What `qshift.circuits.pennylane_internals` promises of PennyLane's private names, each alone."""

import copy
import pickle

import autograd
import jax
import numpy as np
import pennylane as qml
import pytest
from pennylane.operation import Operator

from qshift.circuits import pennylane_internals as internals

DEVICE = qml.device("default.qubit")


class Mine(Operator):
    num_wires = 1


@pytest.mark.parametrize("base", [qml.RX(0.1, 0), qml.U2(0.1, 0.2, 0), qml.QFT([0]), Mine(0)])
@pytest.mark.parametrize(
    "make, kinds",
    [
        (qml.adjoint, internals.ADJOINTS),
        (lambda base: qml.pow(base, 0.3), internals.POWERS),
        (lambda base: qml.ctrl(base, 1), (*internals.CONTROLLED, qml.CRX)),
    ],
)
def test_adjoints_and_powers_of_gates_have_classes(make, kinds, base):
    assert type(make(base)) in kinds


@pytest.mark.parametrize(
    "gate, data",
    [(qml.RX(0.1, 0), (0.2,)), (qml.U2(0.1, 0.2, 0), (0.3, 0.4)), (Mine(0.1, 0), (0.2,))],
)
def test_parameters_are_put_into_a_gate(gate, data):
    gate = copy.copy(gate)
    internals.put_data(gate, data)
    assert gate.data == data and qml.equal(gate, type(gate)(*data, wires=0))


def test_matrices_and_words_of_special_unitaries_are_in_one_order():
    matrices, words = internals.pauli_basis_matrices(2), internals.pauli_basis_strings(2)
    assert len(words) == 15 and matrices.shape == (15, 4, 4)
    theta = np.linspace(0.1, 0.3, 15)
    for matrix, word in zip(matrices, words, strict=True):
        np.testing.assert_allclose(matrix, qml.pauli.string_to_pauli_word(word).matrix([0, 1]))
    generator = sum(angle * matrix for angle, matrix in zip(theta, matrices, strict=True))
    expected = qml.exp(qml.Hermitian(generator, [0, 1]), 1j).matrix()
    np.testing.assert_allclose(qml.SpecialUnitary(theta, [0, 1]).matrix(), expected, atol=1e-12)


def test_operators_are_flattened_by_one_step():
    inner = qml.RX(0.1, 0)
    assert "U2" in [getattr(x, "name", None) for x in parts_of(qml.ctrl(qml.U2(0.1, 0.2, 0), 1))]
    parts, settings = internals.flattened(qml.prod(inner, qml.PauliRot(0.2, "XY", [0, 1])))
    assert parts[0] is inner and settings == ()
    wires = qml.wires.Wires([0, 1])
    old = (0.2,), (wires, (("pauli_word", "XY"),))
    assert internals.flattened(parts[1]) in (old, (([0.2], [wires], []), ("XY",)))
    assert internals.flattened(qml.expval(inner))[0][0] is inner


@pytest.mark.parametrize("op", [qml.RX(0.1, 0), qml.PauliRot(0.2, "XY", [0, 1]), Mine(0)])
def test_usual_operators_are_their_parameters_wires_and_hyperparameters(op):
    assert internals.has_usual_parts(type(op))
    parts, (wires, settings) = internals.flattened(op)
    assert (parts, wires, dict(settings)) == (op.data, op.wires, op.hyperparameters)


@pytest.mark.parametrize("op", [qml.CNOT([0, 1]), qml.adjoint(qml.S(0)), qml.expval(qml.Z(0))])
def test_other_operators_have_other_parts(op):
    assert not internals.has_usual_parts(type(op))


def parts_of(op):
    """Returns what an operator is made of, whatever lists it is in."""
    parts = list(internals.flattened(op)[0])
    while any(isinstance(part, list) for part in parts):
        parts = [x for part in parts for x in (part if isinstance(part, list) else [part])]
    return parts


def test_operators_are_renamed():
    op = type("Mine", (qml.SpecialUnitary,), {})(np.zeros(3), 0)
    internals.rename(op, "SpecialUnitary")
    assert op.name == "SpecialUnitary"


def test_autograd_differentiates_by_boxes_as_long_as_it_does():
    left, seen = [], []

    def inner(y, x):
        left.append(y)
        seen.append([internals.is_recorded(each) for each in (x, y, 1.0)])
        return x * y

    def outer(x):
        slope = autograd.grad(inner)(0.5 * x, x)
        seen.append([internals.is_recorded(each) for each in (x, left[0])])
        return slope

    autograd.grad(outer)(2.0)
    assert seen == [[True, True, False], [True, True]]
    assert not internals.is_recorded(left[0])


@pytest.mark.parametrize(
    "kind, op",
    [
        (type(op), op)
        for op in (qml.RX(0.3, 0), qml.PSWAP(0.3, [0, 1]), qml.PauliRot(0.3, "XY", [0, 1]))
    ],
)
def test_matrices_of_classes_take_parameters_and_settings(kind, op):
    found = kind.compute_matrix(*op.data, **internals.settings(kind, op))
    np.testing.assert_allclose(found, op.matrix())


def test_a_qnode_keeps_what_its_function_returned():
    node = qml.QNode(lambda: [qml.expval(qml.Z(0)), {"p": qml.probs(wires=0)}], DEVICE)
    node.construct((), {})
    one, two = internals.output(node)
    assert isinstance(one, qml.measurements.ExpectationMP) and list(two) == ["p"]
    assert internals.as_returned((1, 2), [one, two], False) == [1, {"p": 2}]
    assert internals.as_returned(((1, 2), (3, 4)), [one, two], True) == (
        [1, {"p": 2}],
        [3, {"p": 4}],
    )


def test_a_call_has_the_shots_of_its_qnode():
    node = qml.QNode(lambda x: qml.expval(qml.Z(0)), DEVICE, shots=5)
    kwargs = {"x": 1}
    assert internals.shots_of_call(node, kwargs).total_shots == 5 and kwargs == {"x": 1}
    taken = qml.QNode(lambda shots: qml.expval(qml.Z(0)), DEVICE, shots=5)
    kwargs = {"shots": 3}  # the quantum function's own keyword
    assert internals.shots_of_call(taken, kwargs).total_shots == 5 and kwargs == {"shots": 3}


def test_breakpoints_know_the_device():
    with internals.breakpoints(DEVICE):
        assert qml.debugging.PLDB.get_active_device() is DEVICE


def test_all_measurements_must_be_returned_in_their_order():
    one, two = qml.expval(qml.Z(0)), qml.probs(wires=0)
    for returned in (one, [one], {"a": one}):
        internals.require_measurements(returned, [one])
    internals.require_measurements((one, {"b": two}), [one, two])
    for returned, measured in (((two, one), [one, two]), (None, []), (0.3, []), (one, [two])):
        with pytest.raises(qml.exceptions.QuantumFunctionError):
            internals.require_measurements(returned, measured)


def test_a_qnode_has_shots_of_its_own_or_its_devices():
    node = qml.QNode(lambda: qml.expval(qml.Z(0)), DEVICE)
    assert not internals.has_own_shots(node)
    internals.set_shots(node, qml.measurements.Shots(7))
    assert internals.has_own_shots(node) and node.shots.total_shots == 7


def test_transforms_of_a_qnode_are_found_and_replaced():
    node = qml.QNode(lambda: qml.expval(qml.Z(0)), DEVICE)
    changed = qml.transforms.cancel_inverses(node)
    assert len(internals.pipeline(node)) == 0 and len(internals.pipeline(changed)) == 1
    internals.set_pipeline(node, internals.pipeline(changed))
    assert internals.pipeline(node) is internals.pipeline(changed)


@pytest.mark.parametrize("name", ["default.qubit", "default.mixed", "lightning.qubit"])
def test_a_device_draws_from_the_generator_that_it_is_given(name):
    device = qml.device(name, wires=1, seed=1)

    def samples(seed):
        randomness.replace(lambda _: np.random.default_rng(seed))
        tape = qml.tape.QuantumScript([qml.H(0)], [qml.sample(wires=0)], shots=30)
        return qml.execute([tape], device, None)[0].ravel().tolist()

    randomness = internals.DeviceRandomness(device)
    assert randomness.is_known and isinstance(randomness.get(), np.random.Generator)
    assert samples(5) == samples(5) != samples(6)
    randomness.replace(lambda _: None)
    assert randomness.get() is None
    assert not internals.DeviceRandomness(object()).is_known


class OwnQubit(qml.devices.DefaultQubit):
    pass


def test_pennylanes_own_simulators_are_told_from_others():
    for name in ("default.qubit", "lightning.qubit"):
        device = qml.device(name, wires=1)
        assert internals.is_own_simulator(device)
        assert not internals.is_own_simulator(qml.transforms.cancel_inverses(device))
    subclass = type("Mine", (type(qml.device("lightning.qubit", wires=1)),), {})
    others = [OwnQubit(), subclass(wires=1), qml.device("default.mixed", wires=1), object()]
    others.append(qml.device("default.qubit", max_workers=2))
    others.append(qml.device("default.qubit", seed=jax.random.PRNGKey(0)))
    assert not any(map(internals.is_own_simulator, others))


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
def test_who_watches_a_device(name, monkeypatch):
    device = qml.device(name, wires=1)
    watchers, nobody = internals.watching(device)

    def is_watched():
        return watchers() != nobody

    assert not is_watched()
    with qml.Tracker(device):
        assert is_watched()
    assert not is_watched()
    for owner in (device, type(device)):  # a spy on one device, or on all of them
        with monkeypatch.context() as patch:
            patch.setattr(owner, "execute", lambda *args: None)
            assert is_watched()
        assert not is_watched()
    if name == "default.qubit":
        seen = []

        @qml.snapshots
        @qml.qnode(device)
        def circuit():
            qml.Snapshot(measurement=Looking(seen, is_watched))
            return qml.expval(qml.Z(0))

        circuit()
        assert seen == [True] and not is_watched()


class Looking(qml.measurements.StateMeasurement):
    """A measurement that notes whether its device is watched meanwhile."""

    def __init__(self, seen, is_watched):
        super().__init__()
        self.seen, self.is_watched = seen, is_watched

    def process_state(self, state, wire_order):
        self.seen.append(self.is_watched())
        return state

    def process_density_matrix(self, density_matrix, wire_order):
        raise NotImplementedError


@pytest.mark.parametrize(
    "make",
    [
        lambda: qml.RX(0.1, 0),
        lambda: qml.ctrl(qml.RX(0.1, 0), 1),
        lambda: qml.sum(qml.X(0), qml.Z(1)),
        lambda: qml.PauliRot([0.1, 0.2], "XY", [0, 1]),
        lambda: Mine(0.1, wires=0),
    ],
)
def test_use_changes_redundant_attributes_only(make):
    used, fresh = make(), make()
    for name in ("batch_size", "ndim_params", "hyperparameters", "pauli_rep", "data", "name"):
        getattr(used, name, None)
    kept = vars(used).keys() - internals.REDUNDANT_ATTRIBUTES - {internals.PAULI_REP}
    assert {name: repr(vars(used)[name]) for name in kept} == {
        name: repr(value) for name, value in vars(fresh).items() if name in kept
    }
    assert vars(used).get(internals.PAULI_REP) == used.pauli_rep


def test_calls_of_a_qnode_are_left_to_a_subclass():
    class Mine(internals.BaseQNode):
        def returned(self, *args, **kwargs):
            return args, kwargs

    node = Mine(lambda: qml.expval(qml.Z(0)), DEVICE, diff_method="best")
    assert node(1, x=2) == ((1,), {"x": 2})
    assert node.settings["device"] is DEVICE and node.settings["diff_method"] == "best"
    node.settings = {**node.settings, "diff_method": "parameter-shift"}
    assert qml.QNode.update(node, shots=7).diff_method == "parameter-shift"


def test_a_device_without_its_state_runs_as_before():
    device = qml.device("lightning.qubit", wires=2)
    tape = qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))])
    assert internals.without_state(device) is device
    expected = device.execute(tape)
    copied = internals.without_state(device)
    assert copied is not device and device._statevector is not None
    assert pickle.loads(pickle.dumps(copied)).execute(tape) == expected == copied.execute(tape)
