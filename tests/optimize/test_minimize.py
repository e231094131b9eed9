"""Optimizers, against closed forms, published runs and NumPy's own arithmetic."""

import json

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.optimize.checkpoint import CheckpointError
from qshift.optimize.directions import SingularHessianError
from qshift.optimize.minimize import minimize
from qshift.optimize.optimizers import OPTIMIZERS, growing

OF_ANY_FUNCTION = [name for name in OPTIMIZERS if name != "shot-frugal"]


def cosines(x):
    """cos(x0) cos(x1), of one frequency each."""
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=1)
    qml.CNOT(wires=[0, 1])
    return qml.expval(qml.Z(1))


def on_simulator(function=cosines, **settings):
    settings = {"diff_method": "shift", **settings}
    return qshift.qnode(qshift.device("simulator", wires=2), **settings)(function)


def bowl(x):
    """A scalar TensorFlow function of a vector, with its minimum -1.5 at (pi / 2, 1)."""
    return -tf.sin(x[0]) - 0.5 + (x[1] - 1.0) ** 2 * (2.0 + tf.cos(x[0]))


def column(result, name):
    return np.array([getattr(point, name) for point in result.history])


# The published runs


@pytest.mark.parametrize("optimizer", ["gradient_descent", "diagonal_newton", "newton"])
def test_the_published_table_is_reproduced(optimizer, cosine_product):
    circuit, truth = cosine_product
    fixed = tf.constant(truth["theta"][2:], tf.float64)

    @qshift.qnode(circuit.device, diff_method="shift")
    def cost(x):
        return circuit.func(tf.concat([x, fixed], axis=0))

    damping = 0.0 if optimizer == "gradient_descent" else 1.0
    result = minimize(
        cost, [0.1, 0.15], optimizer.replace("_", "-"), steps=20, learning_rate=0.4, damping=damping
    )
    costs = truth["optimisers"]["cost_at_steps_1_5_10_20"][optimizer]
    np.testing.assert_allclose(column(result, "value")[[1, 5, 10, 20]], costs, atol=5e-7, rtol=0)
    assert result.steps == 20 and not result.converged


def test_plain_newton_finds_the_ground_state_of_hydrogen_in_three_steps(ground_truth):
    truth = ground_truth["h2_double_excitation"]
    coordinates = np.array([[0.0, 0.0, -0.6614], [0.0, 0.0, 0.6614]])
    hamiltonian, _ = qml.qchem.molecular_hamiltonian(qml.qchem.Molecule(["H", "H"], coordinates))

    @qshift.qnode(qshift.device("simulator"))
    def energy(theta):
        qml.BasisState(np.array([1, 1, 0, 0]), wires=range(4))
        qml.DoubleExcitation(theta, wires=range(4))
        return qml.expval(hamiltonian)

    result = minimize(energy, 0.0, "newton")
    assert result.converged and result.steps == truth["newton_steps_from_zero"]
    assert result.x.shape == () and result.lowest_curvature > 0
    np.testing.assert_allclose(result.x, truth["minimum_theta"], atol=1e-9)
    np.testing.assert_allclose(result.value, truth["minimum_energy"], atol=1e-10)


# What a run costs


@pytest.mark.parametrize("settings", [{}, {"shots": 20}, {"shots": 20, "seed": 3}])
def test_each_step_is_one_batch_of_the_circuits_it_needs(settings, tracker):
    traced = []

    def traced_cosines(x):
        traced.append(x)
        return cosines(x)

    qnode = on_simulator(traced_cosines, objective="circuits", **settings)
    result = minimize(qnode, [0.4, 0.3], steps=6, damping=1.0, tolerance=-1)  # samples may say 0
    # 1 + 2p + 3 C(p, 2) with the Hessian, which the last point has no use for.
    assert column(result, "circuits").tolist() == [8] * 6 + [5]
    assert tracker.totals["batches"] == 7 and tracker.totals["circuits"] == result.circuits == 53
    # Once per order, not per step; with shots, errors take a call in each step.
    assert len(traced) == 2 + 7 * bool(settings)
    result = minimize(qnode, [0.4, 0.3], "adam", steps=3)
    assert column(result, "circuits").tolist() == [5] * 4


def test_samples_are_fresh_in_each_step_and_follow_from_the_seed():
    def values(**settings):
        # With a learning rate of zero, all points are the same.
        run = {"optimizer": "adam", "steps": 5, "learning_rate": 0.0}
        return column(minimize(on_simulator(shots=99, **settings), [0.8, 0.3], **run), "value")

    for found in (values(), values(seed=3)):
        assert len(set(found)) > 2
    np.testing.assert_array_equal(values(seed=3), values(seed=3))
    assert np.any(values(seed=3) != values(seed=4))


# The rules, against NumPy


def bounded(matrix, least):
    """The inverse of a positive matrix whose eigenvalues below `least` are `least`."""
    curvatures, axes = np.linalg.eig(matrix)
    return np.linalg.inv(axes @ np.diag(np.maximum(curvatures, least)) @ np.linalg.inv(axes))


@pytest.mark.parametrize("optimizer", OF_ANY_FUNCTION)
def test_steps_follow_their_formula(optimizer):
    matrix = np.array([[3.0, 1.0, 0.2], [1.0, 2.0, -0.3], [0.2, -0.3, 1.5]])
    shift = np.array([0.3, -0.2, 0.1])

    def quadratic(x):
        x = tf.reshape(x, [3])
        return tf.tensordot(x, tf.linalg.matvec(matrix, x) / 2 + shift, 1)

    settings = {"damping": 0.7} if "newton" in optimizer else {}
    start = np.array([[1.0, -2.0, 0.5]])
    result = minimize(
        quadratic, start, optimizer, steps=4, learning_rate=0.3, tolerance=0, **settings
    )
    x, m, v = start[0], np.zeros(3), np.zeros(3)
    points = [x]
    for t in range(1, 5):
        g = matrix @ x + shift
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = {
            "newton": np.linalg.inv(matrix + 0.7 * np.eye(3)) @ g,
            "saddle-free-newton": bounded(matrix + 0.7 * np.eye(3), np.linalg.norm(g)) @ g,
            "diagonal-newton": g / (np.diag(matrix) + 0.7),
            "gradient-descent": g,
            "adam": (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8),
        }[optimizer]
        x = x - 0.3 * step
        points.append(x)
    np.testing.assert_allclose(column(result, "x")[:, 0], points, rtol=1e-12)
    norms = np.linalg.norm(np.array(points) @ matrix + shift, axis=1)
    np.testing.assert_allclose(column(result, "gradient_norm"), norms, rtol=1e-12)
    assert result.circuits == 0
    if "newton" in optimizer:  # before damping, and not at the last point
        known = np.diag(np.diag(matrix)) if optimizer == "diagonal-newton" else matrix
        lowest = np.linalg.eigvalsh(known)[0]
        np.testing.assert_allclose(column(result, "lowest_curvature")[:-1].astype(float), lowest)
    assert result.lowest_curvature is None


@pytest.mark.parametrize("optimizer", OF_ANY_FUNCTION)
def test_every_optimizer_converges_to_the_minimum(optimizer):
    result = minimize(bowl, [1.1, 0.6], optimizer, steps=2000, tolerance=1e-8)
    assert result.converged and result.gradient_norm <= 1e-8
    np.testing.assert_allclose(result.x, [np.pi / 2, 1.0], atol=1e-7)
    np.testing.assert_allclose(result.value, -1.5, atol=1e-12)
    assert result.steps == len(result.history) - 1 < 2000


@pytest.mark.parametrize("start", [0.1, 0.01, 1.5, 3.0, -0.4])
@pytest.mark.parametrize("frequency", [0.5, 1.0, 3.0, 10.0])
def test_saddle_free_newton_descends_where_newton_climbs(start, frequency):
    """From everywhere on a wave, also near its maxima and where its curvature is zero."""
    result = minimize(
        lambda x: tf.cos(frequency * x), start / frequency, "saddle-free-newton", tolerance=1e-8
    )
    assert result.converged and result.steps < 60
    np.testing.assert_allclose(result.value, -1, atol=1e-12)
    kept = np.minimum.accumulate(column(result, "value").astype(float))
    assert kept[-1] == pytest.approx(result.value, abs=1e-12)
    if frequency == 1.0 and abs(start) <= 0.4:  # where Newton's method ends on the maximum
        assert minimize(tf.cos, start, "newton").value == pytest.approx(1)


def test_saddle_free_newton_leaves_a_saddle():
    def saddle(x):
        return tf.cos(x[0]) - tf.cos(x[1])

    result = minimize(saddle, [0.01, 0.02], "saddle-free-newton")
    assert result.converged
    np.testing.assert_allclose(result.value, -2, atol=1e-12)


@pytest.mark.parametrize("start", [[0.0, 0.0], [0.1, 0.1], [np.pi / 2, np.pi / 2], [0.0, 1.0]])
def test_saddle_free_newton_leaves_where_nothing_slopes(start):
    """From maxima and saddles, and from where symmetry leads to a saddle."""
    result = minimize(lambda x: tf.cos(x[0]) * tf.cos(x[1]), start, "saddle-free-newton")
    assert result.converged and result.steps < 40
    np.testing.assert_allclose(result.value, -1, atol=1e-12)


def test_saddle_free_newton_takes_steps_of_one_at_most():
    result = minimize(lambda x: 100 * x**4, 5.0, "saddle-free-newton", steps=20)
    taken = np.abs(np.diff(column(result, "x").astype(float).ravel()))
    assert taken.max() <= 1 + 1e-12


def test_the_tolerance_follows_from_the_shots(tmp_path):
    @qshift.qnode(qshift.device("simulator"), seed=3)
    def energy(x):
        for wire in range(4):
            qml.RY(x[wire], wires=wire)
        return qml.expval(qml.Z(0) @ qml.Z(1) @ qml.Z(2) @ qml.Z(3))

    start = [2.8, 0.2, 0.1, -0.2]
    sampled = minimize(energy.update(shots=2000), start, "saddle-free-newton", steps=50)
    assert sampled.tolerance == pytest.approx(np.sqrt(4 / 4000))
    assert sampled.converged and sampled.steps < 20 and sampled.value < -0.95
    assert minimize(energy, start, steps=0).tolerance == 1e-9


def test_newton_solves_a_quadratic_in_one_step_and_leaves_idle_parameters_alone():
    result = minimize(lambda x: (x[0, 0] - 3.0) ** 2 + 1.0, np.full((2, 2), 5.0), "newton")
    assert result.converged and result.steps == 1
    np.testing.assert_allclose(result.x, [[3.0, 5.0], [5.0, 5.0]])


@pytest.mark.parametrize("given", [np.float32([1.1, 0.6]), tf.Variable([1.1, 0.6]), [1, 0]])
def test_the_dtype_of_the_start_is_kept(given):
    seen = set()

    def watched(x):
        seen.add(x.dtype)
        return bowl(x)

    result = minimize(watched, given, steps=2)
    expected = np.float64 if isinstance(given, list) else np.float32
    assert seen == {tf.as_dtype(expected)} and result.x.dtype == expected


def test_samples_of_a_flat_direction_do_not_keep_a_run_from_ending():
    @qshift.qnode(qshift.device("simulator"), shots=1000, seed=2)
    def flat(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1))  # cos(x[1])

    result = minimize(flat, [0.3, 0.7], steps=50)
    assert result.steps <= 8 and result.converged and result.value < -0.95


def test_the_default_descends():
    result = minimize(tf.cos, 0.1)
    assert result.converged and result.value == pytest.approx(-1)


def test_a_maximum_is_not_called_a_minimum():
    result = minimize(tf.cos, 0.1, "newton")
    assert not result.converged and result.lowest_curvature == pytest.approx(-1)
    assert "not to a minimum" in result.message


@pytest.mark.parametrize("steps", [3, 4, 100])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_maximum_at_the_last_step_is_none_either(steps, scale):
    result = minimize(
        lambda x: scale * tf.cos(x), 0.3, "newton", steps=steps, tolerance=1e-9 * scale
    )
    assert result.gradient_norm <= result.tolerance and not result.converged
    assert result.steps <= 3 and "not to a minimum" in result.message


@pytest.mark.parametrize("optimizer", ["newton", "diagonal-newton"])
def test_a_saddle_point_is_no_minimum(optimizer):
    def saddle(x):
        return tf.cos(x[0]) - tf.cos(x[1])

    for start in ([0.1, 0.1], [0.0, 0.0]):
        result = minimize(saddle, start, optimizer, steps=5)
        assert not result.converged and "not to a minimum" in result.message


def test_flat_directions_do_not_keep_a_minimum_from_being_one():
    result = minimize(lambda x: -tf.cos(x[0] + x[1]), [0.1, 0.2], "newton")
    assert result.converged and abs(result.lowest_curvature) < 1e-12


@pytest.mark.parametrize("optimizer", ["gradient-descent", "adam"])
def test_methods_that_know_no_curvature_do_not_call_their_start_a_minimum(optimizer):
    result = minimize(tf.cos, 0.0, optimizer)
    assert not result.converged and f"{optimizer} does not find out" in result.message
    assert minimize(tf.cos, 3.0, optimizer, steps=2000, tolerance=1e-6).converged


def test_the_hessian_at_the_last_point_is_evaluated_only_where_it_tells():
    @qshift.qnode(qshift.device("simulator"), diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    last = minimize(circuit, 2.0, steps=1).history[-1]
    assert last.lowest_curvature is None and last.circuits == 3
    last = minimize(circuit, np.pi, steps=0).history[-1]
    # The same call goes on, so that it has the points of the gradient.
    assert last.lowest_curvature == pytest.approx(1.0) and last.circuits == 3


@pytest.mark.filterwarnings("ignore:A function cannot be compiled")
def test_functions_that_cannot_be_compiled_work_too():
    def kinked(x):
        return (x - 3.0) ** 2 if float(x) > 1.0 else 2.0 - x**2

    np.testing.assert_allclose(minimize(kinked, 1.1).x, 3.0)


def test_many_runs_one_after_another_are_quiet(caplog):
    """TensorFlow takes functions that are compiled at the same place for one that changes."""
    for _ in range(8):
        minimize(bowl, [1.0, 0.5], steps=0)
    assert not caplog.messages


# Errors


def two_values(x):
    qml.RX(x[0], wires=0)
    return qml.probs(wires=0)


def without_a_rule(x):
    qml.AmplitudeDamping(x[0], wires=0)
    return qml.expval(qml.Z(0))


def wrong_wire(x):
    qml.RX(x[0] + x[1], wires=7)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    "function, start, settings, error, reason",
    [
        (tf.sin, 0.0, {"optimizer": "newton"}, SingularHessianError, "no Newton step.*damping"),
        (bowl, [1, 1], {"optimizer": "bfgs"}, ValueError, "unknown optimizer 'bfgs'; choose from"),
        (bowl, [1, 1], {"optimizer": "adam", "damping": 1}, ValueError, "no meaning for adam"),
        (bowl, [1, 1], {"steps": -1}, ValueError, "steps must be at least 0, got -1"),
        (bowl, [], {}, ValueError, "x0 is empty"),
        (tf.math.log, 0.0, {}, ValueError, "not finite at x = 0"),
        (lambda x: (x, x), 1.0, {}, ValueError, "value is one number, got a tuple"),
        (on_simulator(two_values), [1, 1], {}, ValueError, r"one number, got shape \(2,\)"),
        (on_simulator(without_a_rule), [0.1], {}, qshift.NoShiftRuleError, "AmplitudeDamping"),
        (on_simulator(wrong_wire), [1, 1], {}, qml.exceptions.WireError, "wires not found"),
    ],
)
def test_errors_say_what_to_do(function, start, settings, error, reason, tracker):
    with pytest.raises(error, match=reason):
        minimize(function, start, **settings)
    assert tracker.totals["circuits"] == 0


# Checkpoints


class Interrupted(Exception):
    pass


class FailingDevice(qml.devices.DefaultQubit):
    """Executes some batches, and no more."""

    def __init__(self, batches):
        super().__init__(wires=2)
        self.batches = iter(range(batches))

    def execute(self, circuits, execution_config=None):
        if next(self.batches, None) is None:
            raise Interrupted
        return super().execute(circuits, execution_config)


@pytest.mark.parametrize("optimizer", OF_ANY_FUNCTION)
def test_an_interrupted_run_goes_on_with_the_same_numbers(tmp_path, optimizer):
    file = tmp_path / "run.json"

    def run(batches, **settings):
        settings |= {"optimizer": optimizer, "steps": 4, "tolerance": 0, "learning_rate": 0.13}
        return minimize(qshift.qnode(FailingDevice(batches))(cosines), [0.3, 0.1], **settings)

    for batches in (0, 3):
        with pytest.raises(Interrupted):
            run(batches, checkpoint=file)
        assert file.exists() == (batches > 0)
    assert len(json.loads(file.read_text())["state"]["history"]) == 3
    whole, resumed = run(5), run(2, checkpoint=file)
    np.testing.assert_equal(
        [vars(point) for point in resumed.history], [vars(point) for point in whole.history]
    )


def test_a_finished_run_costs_nothing_and_can_be_extended(tmp_path, tracker):
    settings = {"damping": 1.0, "learning_rate": 0.4}
    whole = minimize(on_simulator(), [0.4, 0.3], steps=6, **settings)
    settings["checkpoint"] = tmp_path / "run.json"
    first = minimize(on_simulator(), [0.4, 0.3], steps=3, **settings)
    tracker.reset()
    again = minimize(on_simulator(), [0.4, 0.3], steps=3, **settings)
    assert tracker.totals["circuits"] == 0
    np.testing.assert_array_equal(column(again, "value"), column(first, "value"))
    longer = minimize(on_simulator(), [0.4, 0.3], steps=6, **settings)
    np.testing.assert_array_equal(column(longer, "x"), column(whole, "x"))
    # The third point was the last one at first: its gradient is paid for again with its Hessian.
    assert column(longer, "circuits").tolist() == [8, 8, 8, 13, 8, 8, 5]


def test_a_seeded_run_with_shots_goes_on_with_the_same_samples(tmp_path):
    settings = {"optimizer": "gradient-descent", "learning_rate": 0.4}
    whole = minimize(on_simulator(shots=50, seed=7), [0.4, 0.3], steps=5, **settings)
    settings["checkpoint"] = tmp_path / "run.json"
    minimize(on_simulator(shots=50, seed=7), [0.4, 0.3], steps=2, **settings)
    resumed = minimize(on_simulator(shots=50, seed=7), [0.4, 0.3], steps=5, **settings)
    np.testing.assert_array_equal(column(resumed, "value"), column(whole, "value"))
    np.testing.assert_array_equal(resumed.x, whole.x)


@pytest.mark.parametrize(
    "changed, difference",
    [
        ({"learning_rate": 0.2}, "learning_rate is 1.0 there and 0.2 here"),
        ({"damping": 1}, "damping is 0.0 there and 1.0 here"),
        ({"optimizer": "newton"}, "optimizer is 'diagonal-newton' there and 'newton' here"),
        ({"x0": [0.1, 0.2]}, r"x0 is \[0.1, 0.3\] there and \[0.1, 0.2\] here"),
        ({"fn": on_simulator()}, "its function is another one"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changed, difference):
    run = {"fn": bowl, "x0": [0.1, 0.3], "optimizer": "diagonal-newton"}
    run |= {"learning_rate": 1.0, "steps": 0, "checkpoint": tmp_path / "run.json"}
    minimize(**run)
    with pytest.raises(CheckpointError, match=f"of another run: {difference}.*start over"):
        minimize(**run | changed)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"optimizer": [0.3]}, r"unknown optimizer \[0.3\].*one starting point"),
        ({"optimizer": "adams"}, "did you mean 'adam'"),
        ({"learning_rate": -1}, "learning_rate must be a number of at least 0, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number of at least 0"),
        ({"tolerance": "small"}, "tolerance must be a number, got 'small'"),
        ({"damping": -3}, "damping must be a number of at least 0, got -3"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"steps": -1}, "steps must be at least 0, got -1"),
    ],
)
def test_settings_without_a_meaning_are_refused_before_anything_runs(settings, message):
    def never(x):
        raise AssertionError("it was called")

    with pytest.raises(ValueError, match=message):
        minimize(never, [0.1], **settings)


@pytest.mark.parametrize("optimizer", ["newton", "diagonal-newton", "adam"])
def test_errors_of_values_and_gradients(optimizer, tracker):
    def energy(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=0)
        return qml.expval(qml.Z(0))

    node = qshift.QNode(energy, qshift.device("simulator"), shots=400, seed=1)
    result = minimize(node, [2.0, 0.3], optimizer, steps=3, tolerance=0.0)
    assert tracker.totals["circuits"] == result.circuits
    for point in result.history:
        exact = np.cos(point.x[0]) * np.cos(point.x[1])
        assert abs(point.value - exact) < 5 * point.value_error
        assert 0.001 < point.value_error < 0.06 and 0.01 < point.gradient_error < 0.09
    # Without shots, and of functions, they are not known.
    for other in (node.update(shots=None), lambda x: 2 * node(x)):
        assert minimize(other, [2.0, 0.3], optimizer, steps=0).value_error is None


@pytest.mark.parametrize("optimizer", ["newton", "diagonal-newton", "adam"])
def test_errors_of_variances(optimizer, tmp_path):
    """A variance is no linear function of expectation values, so that tapes tell its errors. A run
    that goes on from a checkpoint draws what the whole one does."""

    def spread(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1] ** 2, wires=0)
        return qml.var(qml.Z(0))

    def run(steps, **settings):
        node = qshift.QNode(spread, qshift.device("simulator"), shots=400, seed=1)
        return minimize(node, [2.0, 0.7], optimizer, steps=steps, tolerance=0.0, **settings)

    result = run(3)
    for point in result.history:
        exact = 1 - (np.cos(point.x[0]) * np.cos(point.x[1] ** 2)) ** 2
        assert abs(point.value - exact) < 5 * point.value_error
        assert 0.001 < point.value_error < 0.1
        assert 0.01 < point.gradient_error < 0.3 * (1 + abs(point.x[1]))
    path = tmp_path / "run"
    run(1, checkpoint=path)
    again = run(3, checkpoint=path)
    np.testing.assert_array_equal(column(again, "x"), column(result, "x"))
    np.testing.assert_array_equal(column(again, "value"), column(result, "value"))


def test_errors_that_a_device_does_not_tell():
    """Then there are none, and values are those of the samples."""

    def spread(x):
        qml.RX(x[0], wires=0)
        return qml.var(qml.Z(0) + qml.X(0))

    device = qml.device("default.mixed", wires=1)
    result = minimize(qshift.QNode(spread, device, shots=100), [2.0], "adam", steps=2)
    assert all(point.value_error is None for point in result.history)


# Few shots


@pytest.mark.parametrize("average, count", [(38, 401), (1000, 101), (7, 3), (1, 50), (5000, 1)])
def test_shots_grow_slowly_and_are_as_many_in_all(average, count):
    numbers = growing(average, count)
    assert len(numbers) == count and (numbers >= 1).all()
    assert (np.diff(numbers) >= -1).all()  # but for rounding
    assert (numbers[1:] <= 1.03 * numbers[:-1] + 2).all()
    if average > 5:
        assert numbers.sum() == average * count
    assert count < 100 or average < 5 or 4 < numbers[-1] / numbers[0] < 9


def test_shot_frugal_is_adam_with_a_falling_rate_and_an_average(tracker):
    """With so many shots that gradients are nearly exact."""
    node = on_simulator(cosines, shots=qshift.Shots(total=10**9), seed=1)
    result = minimize(node, [0.4, 0.3], "shot-frugal", steps=10, learning_rate=0.2)
    x, m, v, points = np.array([0.4, 0.3]), np.zeros(2), np.zeros(2), []
    for t in range(1, 11):
        points.append(x)
        g = -np.array([np.sin(x[0]) * np.cos(x[1]), np.cos(x[0]) * np.sin(x[1])])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        rate = 0.2 * (1 - (t - 1) / 10)
        x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    points.append(np.mean([*points[-2:], x], axis=0))  # three of eleven
    np.testing.assert_allclose(column(result, "x"), points, atol=2e-3)
    assert tracker.totals["shots"] == 11 * 10**9 and result.steps == 10


def test_shot_frugal_takes_the_shots_of_the_qnode_on_the_average(tracker):
    node = on_simulator(cosines, shots=30, seed=2)
    result = minimize(node, [0.4, 0.3], "shot-frugal", steps=5)
    assert tracker.totals["shots"] == 6 * node.plan(np.zeros(2), order=1).shots == 6 * 5 * 30
    # It does not stop where a gradient seems small, and its tolerance is that of the last one.
    assert result.steps == 5 and result.tolerance == 2 * result.history[-1].gradient_error
    fewer = qml.set_shots(on_simulator(cosines, shots=qshift.Shots(total=900)), 30)
    tracker.reset()
    minimize(fewer, [0.4, 0.3], "shot-frugal", steps=5)
    assert tracker.totals["shots"] == 900


def test_shot_frugal_descends_with_few_samples():
    ends = []
    for seed in range(3):
        node = on_simulator(cosines, shots=qshift.Shots(total=12), seed=seed)
        ends.append(minimize(node, [0.4, 0.3], "shot-frugal", steps=60).x)
    exact = on_simulator(cosines)
    assert np.mean([exact(tf.constant(x)) for x in ends]) < -0.95


def test_shot_frugal_goes_on_where_it_was_interrupted(tmp_path):
    left = [100]

    def failing(x):
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted
        return cosines(x)

    def run(file=None, **settings):
        node = on_simulator(failing, shots=qshift.Shots(total=50), seed=5)
        return minimize(node, [0.4, 0.3], "shot-frugal", checkpoint=file, **{"steps": 4} | settings)

    whole, file = run(), tmp_path / "run.json"
    left[0] = 8
    with pytest.raises(Interrupted):
        run(file)
    assert 1 <= len(json.loads(file.read_text())["state"]["history"]) < 5
    left[0] = 100
    np.testing.assert_array_equal(column(run(file), "value"), column(whole, "value"))
    with pytest.raises(CheckpointError, match="steps is 4 there and 5 here"):
        run(file, steps=5)


def test_what_shot_frugal_cannot_minimize():
    for function, said in ((bowl, "another function"), (on_simulator(cosines), "without shots")):
        with pytest.raises(ValueError, match=f"shot-frugal spreads the shots.*{said}"):
            minimize(function, [0.4, 0.3], "shot-frugal")
    with pytest.raises(ValueError, match="spreads a number of shots, and the QNode has"):
        minimize(on_simulator(cosines, shots=qshift.Shots(error=0.1)), [0.4, 0.3], "shot-frugal")
