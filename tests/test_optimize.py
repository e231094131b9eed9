"""Optimizers, against closed forms, published runs and NumPy's own arithmetic."""

import json
import warnings

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.checkpoint import CheckpointError
from qshift.optimize import OPTIMIZERS, SingularHessianError, minimize

# Mari, Bromley, Killoran, PRA 103, 012405 (2021): <Z_1> = cos t0 cos t1 cos t2 cos t3.
THETA = (2.73943676, 0.16289932, 3.4536312, 2.73521126, 2.6412488)
START = (0.1, 0.15)
COSTS = {  # after 1, 5, 10 and 20 steps with learning rate 0.4 from START; minimum -0.8741998
    "gradient-descent": (0.848689, 0.641759, -0.122790, -0.872902),
    "diagonal-newton": (0.712876, -0.174538, -0.691900, -0.870843),
    "newton": (0.729047, -0.503448, -0.827466, -0.873449),
}


def cosine_product(x):
    for wire, angle in enumerate((x[0], x[1], *THETA[2:])):
        qml.RX(angle, wires=wire)
    for wires in ((0, 1), (2, 1), (3, 1), (4, 3)):
        qml.CNOT(wires=wires)
    return qml.expval(qml.Z(1))


def on_simulator(function, **settings):
    return qshift.qnode(qshift.device("simulator"), **settings)(function)


def bowl(x):
    """A scalar TensorFlow function of a vector, with its minimum -1.5 at (pi / 2, 1)."""
    return -tf.sin(x[0]) - 0.5 + (x[1] - 1.0) ** 2 * (2.0 + tf.cos(x[0]))


# The published runs


@pytest.mark.parametrize("optimizer", COSTS)
def test_the_published_table_is_reproduced(optimizer):
    damping = {} if optimizer == "gradient-descent" else {"damping": 1.0}
    result = minimize(
        on_simulator(cosine_product), START, optimizer, steps=20, learning_rate=0.4, **damping
    )
    np.testing.assert_allclose(
        result.history.values[[1, 5, 10, 20]], COSTS[optimizer], atol=5e-7, rtol=0
    )
    assert result.steps == 20 and not result.converged
    assert result.history.points.shape == (21, 2)
    # Two parameters of one frequency: 5 circuits for the gradient, 8 with the Hessian, which the
    # last point has no use for.
    each = 5 if optimizer == "gradient-descent" else 8
    np.testing.assert_array_equal(result.history.circuits, [each] * 20 + [5])


def test_plain_newton_finds_the_ground_state_of_hydrogen_in_three_steps():
    coordinates = np.array([[0.0, 0.0, -0.6614], [0.0, 0.0, 0.6614]])  # PennyLane's VQE tutorial
    hamiltonian, _ = qml.qchem.molecular_hamiltonian(qml.qchem.Molecule(["H", "H"], coordinates))

    def energy(theta):
        qml.BasisState(np.array([1, 1, 0, 0]), wires=range(4))
        qml.DoubleExcitation(theta, wires=range(4))
        return qml.expval(hamiltonian)

    result = minimize(on_simulator(energy), 0.0, "newton")
    assert result.converged and result.steps == 3
    assert result.x.shape == () and result.lowest_curvature > 0
    np.testing.assert_allclose(result.x, 0.2097328891, atol=1e-9)
    np.testing.assert_allclose(result.value, -1.1361891625, atol=1e-10)
    truth = np.linalg.eigvalsh(qml.matrix(hamiltonian, wire_order=range(4)))[0]
    np.testing.assert_allclose(result.value, truth, atol=1e-10)


# The rules, against NumPy


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_follow_their_formula(optimizer):
    matrix = np.array([[3.0, 1.0, 0.2], [1.0, 2.0, -0.3], [0.2, -0.3, 1.5]])
    shift = np.array([0.3, -0.2, 0.1])

    def quadratic(x):
        return 0.5 * tf.tensordot(x, tf.linalg.matvec(tf.constant(matrix), x), 1) + tf.tensordot(
            tf.constant(shift), x, 1
        )

    second = optimizer in ("newton", "diagonal-newton")
    settings = {"damping": 0.7} if second else {}
    result = minimize(
        quadratic, [1.0, -2.0, 0.5], optimizer, steps=4, learning_rate=0.3, tolerance=0, **settings
    )
    x, m, v = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3)
    points = [x]
    for t in range(1, 5):
        g = matrix @ x + shift
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = {
            "newton": np.linalg.inv(matrix + 0.7 * np.eye(3)) @ g,
            "diagonal-newton": g / (np.diag(matrix) + 0.7),
            "gradient-descent": g,
            "adam": (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8),
        }[optimizer]
        x = x - 0.3 * step
        points.append(x)
    np.testing.assert_allclose(result.history.points, points, rtol=1e-12)
    gradients = np.array(points) @ matrix + shift
    np.testing.assert_allclose(
        result.history.gradient_norms, np.linalg.norm(gradients, axis=1), rtol=1e-12
    )
    np.testing.assert_array_equal(result.history.circuits, 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_converges_to_the_minimum(optimizer):
    result = minimize(bowl, [1.1, 0.6], optimizer, steps=2000, tolerance=1e-8)
    assert result.converged and result.gradient_norm <= 1e-8
    np.testing.assert_allclose(result.x, [np.pi / 2, 1.0], atol=1e-7)
    np.testing.assert_allclose(result.value, -1.5, atol=1e-12)
    assert result.steps == len(result.history.values) - 1 < 2000


def test_newton_solves_a_quadratic_in_one_step_and_leaves_idle_parameters_alone():
    result = minimize(lambda x: (x[0, 0] - 3.0) ** 2 + 1.0, np.full((2, 2), 5.0))
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


def test_steps_too_small_to_move_count_as_steps():
    result = minimize(lambda x: (x - 1e20) ** 2, 0.0, "gradient-descent", steps=4, tolerance=0,
                      learning_rate=1e-40)  # fmt: skip
    assert result.steps == 4 and not result.converged


def test_a_maximum_is_not_called_a_minimum():
    result = minimize(lambda x: tf.cos(x), 0.1, "newton")
    assert result.converged and result.lowest_curvature == pytest.approx(-1)
    assert "not to a minimum" in result.message and "lowest curvature -1" in str(result)


# Errors


@pytest.mark.parametrize(
    "function, start, settings, error, reason",
    [
        (tf.sin, 0.0, {}, SingularHessianError, "no Newton step.*give damping"),
        (tf.cos, np.pi / 2, {}, SingularHessianError, "no Newton step"),
        (bowl, [1, 1], {"optimizer": "bfgs"}, ValueError, "unknown optimizer 'bfgs'; choose from"),
        (bowl, [1, 1], {"optimizer": "adam", "damping": 1}, ValueError, "no meaning for adam"),
        (bowl, [1, 1], {"steps": -1}, ValueError, "steps must be at least 0, got -1"),
        (lambda x: tf.stack([x, x]), 1.0, {}, ValueError, r"a scalar function, got values \(2,\)"),
        (tf.math.log, 0.0, {}, ValueError, "not finite at x = 0"),
    ],
)
def test_errors_say_what_to_do(function, start, settings, error, reason):
    with pytest.raises(error, match=reason):
        minimize(function, start, **settings)


# Checkpoints


class Interrupted(Exception):
    pass


def interrupted_after(calls, function):
    """A function with the name and source of another that fails at its n-th call."""
    left = iter(range(calls))

    def inner(x):
        if next(left, None) is None:
            raise Interrupted
        return function(x)

    return inner


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("calls", [0, 3])
def test_an_interrupted_run_goes_on_with_the_same_numbers(tmp_path, optimizer, calls):
    settings = {"optimizer": optimizer, "steps": 5, "tolerance": 0, "learning_rate": 0.13}
    whole = minimize(interrupted_after(99, bowl), [0.3, 0.1], **settings)
    settings["checkpoint"] = tmp_path / "run.json"
    with pytest.raises(Interrupted):
        minimize(interrupted_after(calls, bowl), [0.3, 0.1], **settings)
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["optimizer"] == optimizer
    resumed = minimize(interrupted_after(6 - calls, bowl), [0.3, 0.1], **settings)
    np.testing.assert_array_equal(resumed.x, whole.x)
    for name, values in vars(whole.history).items():
        np.testing.assert_array_equal(getattr(resumed.history, name), values)
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_finished_run_costs_nothing_and_can_be_extended(tmp_path):
    qnode, file = on_simulator(cosine_product), tmp_path / "run.json"
    settings = {"damping": 1.0, "learning_rate": 0.4}
    first = minimize(qnode, START, steps=3, checkpoint=file, **settings)
    with qshift.Tracker() as tracker:
        again = minimize(on_simulator(cosine_product), START, steps=3, checkpoint=file, **settings)
    assert tracker.totals["circuits"] == 0
    np.testing.assert_array_equal(again.history.values, first.history.values)
    longer = minimize(qnode, START, steps=6, checkpoint=file, **settings)
    whole = minimize(qnode, START, steps=6, **settings)
    np.testing.assert_array_equal(longer.history.points, whole.history.points)
    # The third point was the last one at first: its gradient is paid for again with its Hessian.
    np.testing.assert_array_equal(longer.history.circuits, [8, 8, 8, 13, 8, 8, 5])


def test_a_seeded_run_with_shots_goes_on_with_the_same_samples(tmp_path):
    qnode = on_simulator(cosine_product, shots=50, seed=7)
    settings = {"optimizer": "gradient-descent", "learning_rate": 0.4}
    whole = minimize(qnode, START, steps=5, **settings)
    file = tmp_path / "run.json"
    minimize(qnode, START, steps=2, checkpoint=file, **settings)
    resumed = minimize(qnode, START, steps=5, checkpoint=file, **settings)
    np.testing.assert_array_equal(resumed.history.values[3:], whole.history.values[3:])
    np.testing.assert_array_equal(resumed.x, whole.x)
    fresh = minimize(on_simulator(cosine_product, shots=50), START, steps=5, **settings)
    assert np.any(fresh.history.values != whole.history.values)


def other_observable(x):
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=1)
    return qml.expval(0.5 * qml.Z(0) @ qml.Z(1) + 0.3 * qml.X(0))


def other_number(x):
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=1)
    return qml.expval(0.5 * qml.Z(0) @ qml.Z(1) + 0.31 * qml.X(0))


@pytest.mark.parametrize(
    "changed, difference",
    [
        ({"learning_rate": 0.2}, "learning_rate is 1.0 there and 0.2 here"),
        ({"optimizer": "newton"}, "optimizer is adam there and newton here"),
        ({"x0": [0.1, 0.2]}, r"x0 is \[0.1, 0.3\] there and \[0.1, 0.2\] here"),
        ({"fn": on_simulator(cosine_product)}, "its function is another one"),
        ({"fn": on_simulator(other_number)}, "its function is another one"),
        ({"fn": on_simulator(other_observable, shots=10)}, "its function is another one"),
        ({"fn": bowl}, "its function is another one"),
        ({"problem": "another"}, "its function is another one"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changed, difference):
    run = {"fn": on_simulator(other_observable), "x0": [0.1, 0.3], "optimizer": "adam"}
    run |= {"learning_rate": 1.0, "steps": 1, "checkpoint": tmp_path / "run.json"}
    minimize(**run)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(CheckpointError, match=f"of another run: {difference}.*start over"):
        minimize(**run | changed)
    assert (tmp_path / "run.json").read_text() == before


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"settings": 1, "state": {}}', '{"settings": {}, "state": {"y": 1}}']
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, text):
    file = tmp_path / "notes.txt"
    file.write_text(text)
    with pytest.raises(CheckpointError, match="notes.txt is not a checkpoint of qshift"):
        minimize(bowl, [0.1, 0.3], checkpoint=file)
    assert file.read_text() == text


# The plot


@pytest.mark.parametrize("start, steps", [([1.1, 0.6], 20), ([np.pi / 2, 1.0], 20), ([1, 0], 0)])
def test_the_plot_is_drawn_and_saved(tmp_path, start, steps):
    result = minimize(bowl, start, steps=steps, damping=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = result.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    values, norms = (axes.lines[0].get_ydata() for axes in figure.axes)
    np.testing.assert_array_equal(values, result.history.values)
    np.testing.assert_array_equal(norms, result.history.gradient_norms)
