"""The executor for PennyLane devices, against products of matrices."""

import math

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import tape_derivatives
from references import (
    GATES,
    angles,
    assert_independent,
    compiled,
    device,
    differences,
    gate_circuit,
    product,
    random_points,
    several,
    truth,
)

import qshift
from qshift import Tracker
from qshift.autodiff.evaluation import Evaluation
from qshift.errors import UnsupportedError
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.rules.planner import OBJECTIVES, multi_indices

# Aer has state vectors, which PennyLane reads out and samples, and samples of its own.
EXACT = ["default.qubit", "lightning.qubit", "default.mixed", "aer: statevector"]
SAMPLING = [*EXACT, "aer: automatic"]


# --- values ---


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_values(name, count):
    circuit = several()
    points = random_points(circuit, count)
    values = PennyLaneExecutor(device(name))(circuit, points)
    assert values.shape == (count, circuit.num_values) == (count, 7)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
def test_device_without_wires(name):
    circuit = several()
    points = random_points(circuit, 3)
    values = PennyLaneExecutor(qml.device(name))(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)


@pytest.mark.parametrize("name", EXACT)
def test_single_measurement(name):
    circuit = compiled([qml.RX(angles(1)[0], 0)], [qml.expval(qml.Z(0))])
    points = random_points(circuit, 5)
    values = PennyLaneExecutor(device(name))(circuit, points)
    np.testing.assert_allclose(values, np.cos(points), atol=1e-10)


@pytest.mark.parametrize("name", EXACT)
def test_circuit_without_parameters(name):
    circuit = compiled([qml.RX(0.3, 0)], [qml.expval(qml.Z(0)), qml.probs(wires=0)])
    values = PennyLaneExecutor(device(name))(circuit, np.empty((1, 0)))
    c = math.cos(0.3)
    np.testing.assert_allclose(values, [[c, (1 + c) / 2, (1 - c) / 2]], atol=1e-10)


def test_mixed_states():
    a, p = angles(2)
    circuit = compiled([qml.RX(a, 0), qml.PhaseFlip(p, wires=0)], [qml.expval(qml.Y(0))])
    points = np.array([[0.3, 0.0], [0.3, 0.2], [-1.0, 0.9]])
    values = PennyLaneExecutor(device("default.mixed"))(circuit, points)
    expected = -np.sin(points[:, 0]) * (1 - 2 * points[:, 1])
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-10)


@pytest.mark.parametrize("name, count, wires", GATES)
def test_broadcasting_agrees_with_single_tapes(name, count, wires):
    circuit = gate_circuit(name, count, wires)
    points = random_points(circuit, 4)
    points[:, 1] = points[0, 1]  # one parameter stays where it is
    broadcast = PennyLaneExecutor(qml.device("default.qubit"))(circuit, points)
    one_by_one = PennyLaneExecutor(qml.device("default.qubit"), broadcasting=())
    single = one_by_one(circuit, points)
    np.testing.assert_allclose(broadcast, single, atol=1e-12)
    np.testing.assert_allclose(broadcast, truth(circuit, points, wires=4), atol=1e-10)


@pytest.mark.parametrize("moving", [[], [0], [3], [2, 4], list(range(8))])
def test_any_parameters_may_move(moving):
    circuit = several()
    points = np.tile(random_points(circuit, 1), (3, 1))
    points[:, moving] = random_points(circuit, 3, seed=1)[:, moving]
    values = PennyLaneExecutor(device("default.qubit"))(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
@pytest.mark.parametrize("size, batches", [(1, 7), (3, 3), (7, 1), (100, 1)])
def test_chunks_do_not_change_results(name, size, batches):
    circuit = several()
    points = random_points(circuit, 7)
    runs = device(name)
    executor = PennyLaneExecutor(runs, most_amplitudes=size * 2**3, most_tapes=size)
    with Tracker() as tracker, qml.Tracker(runs) as sent:
        values = executor(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)
    assert sent.totals["batches"] == batches
    assert (tracker.totals["circuits"], tracker.totals["batches"]) == (7, 1)


def test_circuits_larger_than_the_limit_run_one_by_one():
    circuit = several()
    points = random_points(circuit, 3)
    values = PennyLaneExecutor(device("default.qubit"), most_amplitudes=2)(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)


# --- counts ---


@pytest.mark.parametrize(
    "name, shots, total",
    [
        *((name, None, 0) for name in EXACT),
        *((name, 20, 20) for name in SAMPLING),
        *((name, [10, 10, 5], 25) for name in SAMPLING),
    ],
)
def test_counts(name, shots, total):
    circuit = product(shots=shots)
    executor = PennyLaneExecutor(device(name))
    with Tracker() as tracker:
        executor(circuit, random_points(circuit, 3))
        executor(circuit, random_points(circuit, 1))
    assert tracker.totals == {
        "circuits": 4,
        "batches": 2,
        "shots": 4 * 2 * total,  # in two bases
        "jobs": 0,
        "transpilations": 0,
    }


def test_what_fails_is_not_counted():
    circuit = compiled([qml.RX(angles(1)[0], 9)], [qml.expval(qml.Z(9))])
    with Tracker() as tracker, pytest.raises(qml.exceptions.WireError):
        PennyLaneExecutor(device("default.qubit"))(circuit, np.zeros((2, 1)))
    assert not any(tracker.totals.values())


# --- shots ---


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("shots", [[10, 20], [(10, 2)], [10, 10, 5]])
def test_shot_vectors_of_a_single_value(name, shots):
    circuit = compiled([qml.RX(angles(1)[0], 0)], [qml.expval(qml.Z(0))], shots)
    values = PennyLaneExecutor(device(name))(circuit, np.array([[0.0], [np.pi]]))
    np.testing.assert_allclose(values, np.outer([1, -1], np.ones(circuit.copies)))


@pytest.mark.parametrize("name", EXACT)
def test_exact_values_after_samples(name):
    """On the same device, which some devices would remember."""
    sampled, exact = product(shots=10), product()
    executor = PennyLaneExecutor(device(name))
    points = random_points(exact, 3)
    executor(sampled, points)
    np.testing.assert_allclose(executor(exact, points), truth(exact, points), atol=1e-10)


@pytest.mark.parametrize("name", SAMPLING)
def test_shot_vectors_follow_one_another(name):
    circuit = product(shots=[10, 5000, 10])
    points = random_points(circuit, 3)
    values = PennyLaneExecutor(device(name))(circuit, points)
    assert values.shape == (3, 9)
    few, many, again = values[:, :3], values[:, 3:6], values[:, 6:]
    for copy, shots in ((few, 10), (many, 5000), (again, 10)):
        np.testing.assert_allclose(copy[:, 1] + copy[:, 2], 1.0)
        np.testing.assert_allclose(copy[:, 1] * shots, np.round(copy[:, 1] * shots), atol=1e-8)
    exact = truth(circuit, points, wires=2)
    np.testing.assert_allclose(many, exact, atol=5 / np.sqrt(5000))
    assert not np.array_equal(few, again)


@pytest.mark.parametrize("name", SAMPLING)
def test_each_call_draws_afresh(name):
    circuit = product(shots=1000)
    points = random_points(circuit, 3)
    executor = PennyLaneExecutor(device(name))
    assert not np.array_equal(executor(circuit, points), executor(circuit, points))


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "name, seed",
    [(name, seed) for name in SAMPLING for seed in (None, 5) if name in EXACT[:3] or seed],
)
def test_equal_points_have_samples_of_their_own(name, seed):
    """A batch of equal inputs is as many experiments."""
    shots, count = 50, 150 if name in EXACT[:3] else 8  # Aer takes long for each
    circuit = product(shots=shots)
    points = np.tile([[0.5, 0.9]], (count, 1))
    mean = math.cos(0.5) * math.cos(0.9)
    executor = PennyLaneExecutor(device(name, wires=2), seed=seed)
    first, second = (executor(circuit, points)[:, 0] for _ in range(2))
    assert_independent(first, second, (mean, math.sqrt((1 - mean**2) / shots)))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", SAMPLING)
def test_different_circuits_have_samples_of_their_own(name):
    """With one seed, too: it seeds the run, not every circuit alike."""
    shots, count = 50, 150 if name in EXACT[:3] else 8
    points = np.tile([[0.5]], (count, 1)) + 1e-9 * np.arange(count)[:, None]
    executor = PennyLaneExecutor(device(name, wires=2), seed=5)
    circuits = [
        compiled([qml.RX(angles(1)[0], 0), *extra], [qml.expval(qml.Z(0))], shots)
        for extra in ([], [qml.Z(0)])
    ]
    first, second = (executor(circuit, points)[:, 0] for circuit in circuits)
    mean = math.cos(0.5)
    assert_independent(first, second, (mean, math.sqrt((1 - mean**2) / shots)))


@pytest.mark.parametrize("name", SAMPLING)
def test_a_seed_makes_a_run_reproducible(name):
    circuit, other = product(shots=100), product(p=1, shots=100)
    points = random_points(circuit, 2)

    def run(seed, on):
        executor = PennyLaneExecutor(on, seed=seed)
        return np.concatenate(
            [
                executor(circuit, points).ravel(),
                executor(other, points[:, :1]).ravel(),
                executor(circuit, points[:1]).ravel(),
            ]
        )

    first = run(7, device(name))
    np.testing.assert_array_equal(first, run(7, device(name)))
    assert not np.array_equal(first, run(8, device(name)))
    assert not np.array_equal(first[:3], first[-3:])


@pytest.mark.parametrize("name", SAMPLING)
def test_a_seed_works_on_a_device_that_has_been_used(name):
    circuit = product(shots=100)
    points = random_points(circuit, 2)
    used, fresh = device(name), device(name)
    PennyLaneExecutor(used)(circuit, points)
    np.testing.assert_array_equal(
        PennyLaneExecutor(used, seed=7)(circuit, points),
        PennyLaneExecutor(fresh, seed=7)(circuit, points),
    )


@pytest.mark.parametrize("name", SAMPLING)
def test_a_seed_does_not_touch_others_on_the_same_device(name):
    """Neither does the seeded run depend on them, nor do they repeat themselves."""
    circuit = product(shots=100)
    points = random_points(circuit, 2)

    def run(between):
        shared = device(name)
        seeded, other = PennyLaneExecutor(shared, seed=7), PennyLaneExecutor(shared)
        first = seeded(circuit, points)
        between = [other(circuit, points) for _ in range(between)]
        return first, seeded(circuit, points), between

    first, second, _ = run(0)
    first_again, second_again, others = run(2)
    np.testing.assert_array_equal(first, first_again)
    np.testing.assert_array_equal(second, second_again)
    assert not np.array_equal(*others)
    assert not np.array_equal(others[0], run(2)[2][0])


@pytest.mark.parametrize("name", EXACT)
def test_a_seed_does_not_change_exact_values(name):
    circuit = several()
    points = random_points(circuit, 2)
    values = PennyLaneExecutor(device(name), seed=3)(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)


def test_a_seed_is_refused_where_there_is_none():
    with pytest.raises(UnsupportedError, match=r"null\.qubit.*seed") as error:
        PennyLaneExecutor(qml.device("null.qubit", wires=1), seed=3)
    assert "Leave seed= out" in str(error.value)
    PennyLaneExecutor(qml.device("null.qubit", wires=1))


def test_the_shots_objective_has_the_smaller_variance():
    """On a device, for the same number of shots in all; and variances are as predicted."""
    p, rows, shots = 3, 300, 6600
    x = np.array([0.7, -1.1, 2.0])
    indices = tuple(index for k in (1, 2) for index in multi_indices(range(p), k))
    exact = [
        np.prod([np.cos(x[j] + index.count(j) * np.pi / 2) for j in range(p)]) for index in indices
    ]
    totals = {}
    for objective in OBJECTIVES:
        step = product(p).planner(objective).root.request(((), *indices))
        each = shots // len(step.new_points)
        circuit = product(p, each)
        executor = PennyLaneExecutor(qml.device("default.qubit", seed=11))
        evaluation = Evaluation(circuit, executor, np.tile(x, (rows, 1)), objective)
        samples = evaluation.partials(((), *indices))[:, 0, 1:]
        values = [
            np.prod([np.cos(x[j] + dict(moved).get(j, 0.0)) for j in range(p)])
            for moved in ([(q, s) for q, _, s in point] for point in step.new_points)
        ]
        coefficients = step.coefficients.toarray()[1:]
        predicted = coefficients**2 @ (1 - np.square(values)) / each
        errors = np.abs(samples.mean(axis=0) - exact)
        assert (errors <= 5 * np.sqrt(predicted / rows)).all()
        ratios = samples.var(axis=0, ddof=1) / predicted
        assert (np.abs(ratios - 1) <= 6 * np.sqrt(2 / rows)).all()
        totals[objective] = samples.var(axis=0, ddof=1).sum()
    assert totals["shots"] < 0.9 * totals["circuits"]


# --- gradients ---

ADJOINT = ["default.qubit", "lightning.qubit"]


@pytest.mark.parametrize("name", ADJOINT)
@pytest.mark.parametrize("count", [1, 4])
def test_gradients(name, count):
    circuit = several(adjoint=True, probs=False)
    points = random_points(circuit, count)
    with Tracker() as tracker:
        gradients = (
            PennyLaneExecutor(device(name))(circuit, points),
            PennyLaneExecutor(device(name)).gradients(circuit, points),
        )
    values, gradients = gradients
    assert gradients.shape == (count, 3, circuit.num_parameters)
    assert gradients.dtype == np.float64
    np.testing.assert_allclose(gradients, differences(circuit, points), atol=1e-8)
    assert (tracker.totals["circuits"], tracker.totals["batches"]) == (2 * count, 2)
    assert tracker.totals["shots"] == 0


@pytest.mark.parametrize("name", ADJOINT)
def test_gradient_of_one_value_by_one_parameter(name):
    circuit = compiled([qml.RX(angles(1)[0], 0)], [qml.expval(qml.Z(0))], adjoint=True)
    points = random_points(circuit, 3)
    gradients = PennyLaneExecutor(device(name)).gradients(circuit, points)
    np.testing.assert_allclose(gradients[:, 0], -np.sin(points), atol=1e-10)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ADJOINT)
@pytest.mark.parametrize("gate, count, wires", GATES)
def test_gradients_of_gates_are_right_or_refused(name, gate, count, wires):
    circuit = gate_circuit(gate, count, wires, adjoint=True)
    points = random_points(circuit, 2)
    try:
        gradients = PennyLaneExecutor(device(name, 4)).gradients(circuit, points)
    except UnsupportedError as error:
        assert "diff_method='shift'" in str(error)
        assert gate not in ("Rot", "RX", "CRX", "SingleExcitation", "DoubleExcitation", "MultiRZ")
        return
    np.testing.assert_allclose(gradients, differences(circuit, points, 4), atol=1e-8)


CONSTANT = {
    "Rot": lambda: qml.Rot(0.3, 0.4, 0.5, wires=0),
    "U2": lambda: qml.U2(0.3, 0.4, wires=0),
    "U3": lambda: qml.U3(0.3, 0.4, 0.5, wires=0),
    "CRot": lambda: qml.CRot(0.3, 0.4, 0.5, wires=[0, 1]),
    "C(Rot)": lambda: qml.ctrl(qml.Rot(0.3, 0.4, 0.5, wires=0), [2]),
    "Adjoint(Rot)": lambda: qml.adjoint(qml.Rot(0.3, 0.4, 0.5, wires=0)),
    "PSWAP": lambda: qml.PSWAP(0.3, wires=[0, 1]),
    "PauliRot": lambda: qml.PauliRot(0.3, "XY", wires=[0, 1]),
    "PCPhase": lambda: qml.PCPhase(0.3, 1, wires=[0, 1]),
    "FermionicSWAP": lambda: qml.FermionicSWAP(0.3, wires=[0, 1]),
    "OrbitalRotation": lambda: qml.OrbitalRotation(0.3, wires=[0, 1, 2, 3]),
    "QubitUnitary": lambda: qml.QubitUnitary(np.array([[0.6, 0.8j], [0.8j, 0.6]]), wires=0),
    "DiagonalQubitUnitary": lambda: qml.DiagonalQubitUnitary([1, 1j], wires=0),
    "BlockEncode": lambda: qml.BlockEncode(np.array([[0.1, 0.2], [0.3, 0.4]]), wires=[0, 1]),
    "GlobalPhase": lambda: qml.GlobalPhase(0.3),
    "Evolution": lambda: qml.exp(qml.Z(0) @ qml.X(1), 0.3j),
}


@pytest.mark.parametrize("name", ADJOINT)
@pytest.mark.parametrize("constant", CONSTANT)
def test_gradients_are_right_behind_constant_gates(name, constant):
    """Devices that count parameters of constant gates wrongly differentiate by the wrong gate."""
    a, b, c = angles(3)
    circuit = compiled(
        [
            *(qml.RY(0.3 + 0.4 * w, w) for w in range(4)),
            qml.RX(a, 0),
            CONSTANT[constant](),
            qml.RY(b, 1),
            qml.CNOT([0, 1]),
            qml.CNOT([1, 2]),
            qml.RX(c, 2),
        ],
        [qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2))],
        adjoint=True,
    )
    points = random_points(circuit, 2)
    gradients = PennyLaneExecutor(device(name, 4)).gradients(circuit, points)
    np.testing.assert_allclose(gradients, differences(circuit, points, 4), atol=1e-8)


@pytest.mark.parametrize("name", ADJOINT)
def test_gradients_behind_a_state_preparation(name):
    a, b = angles(2)
    circuit = compiled(
        [
            qml.StatePrep(np.array([0.6, 0.0, 0.8j, 0.0]), wires=[0, 1]),
            qml.RX(a, 0),
            qml.CRY(b, wires=[0, 1]),
        ],
        [qml.expval(qml.Z(0) @ qml.X(1))],
        adjoint=True,
    )
    points = random_points(circuit, 2)
    gradients = PennyLaneExecutor(device(name, 2)).gradients(circuit, points)
    np.testing.assert_allclose(gradients, differences(circuit, points, 2), atol=1e-8)


@pytest.mark.parametrize("name", ADJOINT)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_adjoint_and_shifts_agree(name, objective):
    circuit = several(adjoint=True, probs=False)
    points = random_points(circuit, 1)
    executor = PennyLaneExecutor(device(name))
    shift, adjoint = (
        Evaluation(circuit, executor, points, objective, adjoint) for adjoint in (False, True)
    )
    for order in range(4):
        indices = tuple(multi_indices((0, 3, 5), order))
        np.testing.assert_allclose(adjoint.partials(indices), shift.partials(indices), atol=1e-9)


@pytest.mark.parametrize(
    "name, make",
    [
        ("default.qubit", lambda: several(shots=100, adjoint=True, probs=False)),
        ("lightning.qubit", lambda: several(shots=100, adjoint=True, probs=False)),
        ("default.mixed", lambda: several(adjoint=True, probs=False)),
        ("aer: statevector", lambda: several(adjoint=True, probs=False)),
        ("lightning.qubit", lambda: several(adjoint=True)),
    ],
)
def test_adjoint_is_refused_where_it_is_not_offered(name, make):
    circuit, executor = make(), PennyLaneExecutor(device(name))
    for ask in (
        lambda: executor.gradients(circuit, random_points(circuit, 2)),
        lambda: executor.require_gradients(circuit),
    ):
        with Tracker() as tracker, pytest.raises(UnsupportedError) as error:
            ask()
        assert device(name).name in str(error.value)
        assert "Use diff_method='shift'" in str(error.value)
        assert not any(tracker.totals.values())


@pytest.mark.parametrize("name", ADJOINT)
@pytest.mark.parametrize("gate, count, wires", GATES)
def test_gradients_are_refused_before_the_call_or_not_at_all(name, gate, count, wires):
    circuit = gate_circuit(gate, count, wires, adjoint=True)
    executor = PennyLaneExecutor(device(name, 4))
    outcomes = []
    for ask in (
        lambda: executor.require_gradients(circuit),
        lambda: executor.gradients(circuit, random_points(circuit, 1)),
    ):
        try:
            ask()
            outcomes.append(None)
        except UnsupportedError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
def test_adjoint_differentiation_beside_arrays_that_change(device):
    """Devices that differentiate lose count at controlled gates of arrays."""

    def circuit(theta):
        qml.Hadamard(1)
        qml.ctrl(qml.SpecialUnitary(theta, wires=0), control=1)
        qml.RX(theta[0], wires=0)
        return qml.expval(qml.Z(0) @ qml.X(1))

    theta = np.array([0.4, 0.0, -0.3])
    found, expected = (
        tape_derivatives(
            qshift.qnode(qml.device(device, wires=2), diff_method=way)(circuit), theta, 1
        )
        for way in ("adjoint", "shift")
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("profile", ["simulator", "lightning"])
def test_noise_channels_have_a_device_of_their_own(profile):
    def noisy(x):
        qml.RX(x, wires=0)
        qml.DepolarizingChannel(0.3, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.4, tf.float64)
    with pytest.raises(
        qshift.UnsupportedError, match=r'DepolarizingChannel.*qshift.device\("mixed'
    ):
        qshift.qnode(qshift.device(profile))(noisy)(x)
    found = qshift.qnode(qshift.device("mixed"))(noisy)(x)
    np.testing.assert_allclose(found, (1 - 4 / 3 * 0.3) * np.cos(0.4))
