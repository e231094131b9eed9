"""What is promised of "any", "every" and "never", where no other test is named after it."""

import subprocess
import sys

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane import numpy as pnp

import qshift
from qshift.ledger.ledger import Ledger

X = tf.constant([0.4, -1.1], tf.float64)


def ansatz(x):
    qml.RX(x[0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.CNOT(wires=[0, 1])
    qml.RY(x[1], wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1))


VALUE = np.cos(0.4) * np.cos(1.1)


# --- README: "Gradients, Hessians, tenth derivatives: exact, from shifted circuits." ---


@pytest.mark.parametrize("objective", ["circuits", "shots"])
@pytest.mark.parametrize("device", ["simulator", "default-qubit"])
def test_tenth_derivatives_are_exact(device, objective):
    @qshift.qnode(qshift.device(device), objective=objective, embedded=device == "simulator")
    def circuit(x):
        qml.Hadamard(0)
        qml.CRX(x, wires=[0, 1])
        qml.RX(0.5 * x, wires=1)
        return qml.expval(qml.Z(1))

    # Half of the state is turned by 3 x / 2, half by x / 2.
    found = qshift.derivatives(circuit, tf.constant(0.7, tf.float64), order=10)
    for k, derivative in enumerate(found):
        turned = [w**k * np.cos(w * 0.7 + k * np.pi / 2) / 2 for w in (1.5, 0.5)]
        np.testing.assert_allclose(derivative, sum(turned), rtol=1e-8, atol=1e-9)


# --- README: "What has no exact rule raises an error that names the gate ... No finite differences,
# no zeros, no None." For all gates that PennyLane has, also those that it will have. ---


def gates_with_angles():
    """Yields PennyLane's gates that take nothing but angles and wires."""
    for name in sorted(qml.ops.qubit.__all__):
        kind = getattr(qml, name, None)
        if not (isinstance(kind, type) and issubclass(kind, qml.operation.Operation)):
            continue
        angles = kind.num_params if isinstance(kind.num_params, int) else 0
        try:
            wires = range(kind.num_wires or 2)
            made = kind(*np.linspace(0.3, 0.9, angles), wires=wires)
        except (TypeError, ValueError):
            continue  # takes something else
        if angles and made.has_matrix and made.ndim_params == (0,) * angles:
            yield kind, angles, wires


@pytest.mark.parametrize("kind, angles, wires", list(gates_with_angles()), ids=str)
def test_the_derivative_of_any_gate_is_right_or_an_error_that_names_it(kind, angles, wires):
    def circuit(x):
        for wire in wires:
            qml.RY(0.4 + wire, wires=wire)
        kind(*(x[k] for k in range(angles)), wires=wires)
        return qml.expval(qml.prod(*(qml.X(wire) for wire in wires))), qml.expval(qml.Y(wires[-1]))

    plain = qml.qnode(qml.device("default.qubit"), diff_method=None)(circuit)

    def values(x):
        return np.array(plain(x))

    x, h = np.linspace(0.3, 0.9, angles), 1e-3
    steps = h * np.eye(angles)
    expected = [
        (8 * (values(x + d) - values(x - d)) - values(x + 2 * d) + values(x - 2 * d)) / (12 * h)
        for d in steps
    ]
    node = qshift.qnode(qshift.device("simulator"))(circuit)
    theta = tf.Variable(x)
    try:
        with tf.GradientTape(persistent=True) as tape:
            found = tf.stack(node(theta))
        jacobian = tape.jacobian(found, theta, experimental_use_pfor=False)
    except qshift.UnsupportedError as error:
        assert kind.__name__ in str(error)
        return
    np.testing.assert_allclose(jacobian, np.transpose(expected), atol=1e-8)


def test_there_are_gates_to_test():
    assert len(list(gates_with_angles())) > 20


# --- docs/pennylane.md: "qml.draw, qml.draw_mpl, qml.specs, qml.Tracker, qml.set_shots and
# transforms on top apply to all of these." ---


def of_ours(device):
    return qshift.qnode(device)(ansatz)


def converted(device):
    return qshift.from_qnode(qml.qnode(device)(ansatz))


def with_our_gradient(device):
    return qml.qnode(device, diff_method=qshift.param_shift)(ansatz)


@pytest.mark.parametrize("make", [of_ours, converted, with_our_gradient])
@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit", "qshift.estimator"])
class TestPennylanesToolsApplyToAll:
    @pytest.fixture
    def device(self, name):
        return qml.device(name, wires=2)

    @pytest.fixture
    def node(self, make, device):
        return make(device)

    @pytest.fixture
    def x(self, make):
        return pnp.array([0.4, -1.1]) if make is with_our_gradient else X

    def test_draw(self, node, x):
        plain = qml.qnode(qml.device("default.qubit", wires=2))(ansatz)
        assert qml.draw(node)(x) == qml.draw(plain)(np.array([0.4, -1.1]))

    def test_draw_mpl(self, node, x):
        figure, _ = qml.draw_mpl(node)(x)
        assert figure.axes

    def test_specs(self, node, x):
        resources = qml.specs(node)(x)["resources"]
        counts = "gate_types" if hasattr(resources, "gate_types") else "counts"  # since 0.46
        assert dict(getattr(resources, counts)) == {"RX": 1, "RY": 1, "CNOT": 2}

    def test_tracker(self, node, device, x, make, request):
        if make is not with_our_gradient and device.name == "qshift.estimator":
            reason = "these circuits do not pass through device.execute, where the tracker counts"
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        with qml.Tracker(device) as tracker:
            node(x)
        assert tracker.totals["executions"] == 1

    def test_set_shots(self, node, x):
        found = np.array([float(qml.set_shots(node, 50)(x)) for _ in range(4)])
        assert len(set(found)) > 1
        np.testing.assert_allclose(found * 25, np.round(found * 25), atol=1e-9)

    def test_transforms(self, node, x):
        merged = qml.transforms.cancel_inverses(node)
        assert "╭●" not in qml.draw(merged)(x)
        assert float(merged(x)) == pytest.approx(VALUE, abs=1e-9)


# --- `QuantumLayer`: "differentiable any number of times" ---


def test_a_layer_is_differentiable_any_number_of_times():
    @qshift.qnode(qshift.device("simulator"))
    def circuit(inputs, weights):
        qml.RX(inputs[0], wires=0)
        qml.RX(weights, wires=0)
        return qml.expval(qml.Z(0))

    layer = qshift.keras.QuantumLayer(circuit, {"weights": ()}, dtype="float64")
    x = tf.constant([[0.3], [1.2]], tf.float64)
    layer(x)
    layer.set_weights([np.array(0.5)])

    def derivative(order):
        if order == 0:
            return lambda x: tf.reshape(layer(x), [-1])
        lower = derivative(order - 1)

        def function(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(lower(x))
            return tape.gradient(y, x)[:, 0]

        return function

    for order in range(5):
        expected = np.cos(np.array([0.8, 1.7]) + order * np.pi / 2)
        np.testing.assert_allclose(derivative(order)(x), expected, atol=1e-12)
        np.testing.assert_allclose(tf.function(derivative(order))(x), expected, atol=1e-12)


# --- `minimize`: "x0: The point to start from, of any shape." ---


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1, 2)])
@pytest.mark.parametrize("optimizer", ["newton", "gradient-descent"])
def test_minimize_starts_from_a_point_of_any_shape(shape, optimizer):
    size = int(np.prod(shape))

    @qshift.qnode(qshift.device("simulator"))
    def circuit(x):
        for wire in range(size):
            qml.RX(tf.reshape(x, [-1])[wire], wires=wire)
        return qml.expval(qml.sum(*(qml.Z(wire) for wire in range(size))))

    result = qshift.minimize(
        circuit, np.full(shape, 2.8), optimizer, learning_rate=1.0, progress=False
    )
    assert result.converged and result.x.shape == shape
    np.testing.assert_allclose(result.x, np.pi, atol=1e-8)


# --- `Ledger`: "Threads and forked processes may share it: every use opens it anew." ---


_SHARED = """
import os, sys, threading
from qshift.ledger import Ledger
from qshift.ledger.records import Draft

ledger = Ledger(sys.argv[1])
ledger.jobs()  # in use before it is shared
lock, won = threading.Lock(), []


def drafts(keys):
    return [Draft("estimator", "a circuit", [[(key, b"")]], 100, seed=0) for key in keys]


def work():
    for k in range(20):
        key = b"%d" % k
        claims = ledger.claim([key], drafts, remote=False, target="aer", access="{}", run="r")
        for job in claims.mine:
            ledger.store(job, {key: b"1"}, None)
        with lock:
            won.extend(claims.mine)
        ledger.leave(claims.mine)


child = os.fork()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(won), flush=True)
if child:
    os.waitpid(child, 0)
"""


def test_threads_and_forked_processes_share_a_ledger(tmp_path):
    command = [sys.executable, "-c", _SHARED, str(tmp_path / "ledger.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert sum(map(int, done.stdout.split())) == 20
    assert {job.state for job in Ledger(tmp_path / "ledger.sqlite").jobs()} == {"done"}
