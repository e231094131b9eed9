"""Values and derivatives at every scale of parameters, frequencies and observables."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.rules.planner import Recipe

DEVICES = {
    "default.qubit": lambda: qml.device("default.qubit"),
    "simulator": lambda: qshift.device("simulator"),
    "lightning.qubit": lambda: qml.device("lightning.qubit", wires=2),
    "aer": lambda: qshift.device("aer"),
}
SCALES = [1e-12, 4e-10, 1e-6, 1e3, 1e6, 1e12]


def derivatives(body, measurement, x, device, order=2, compiled=False, **settings):
    @qshift.qnode(DEVICES[device](), embedded=device != "default.qubit", **settings)
    def circuit(x):
        body(x)
        return measurement()

    def all_of_them(x):
        return qshift.derivatives(circuit, x, order=order)

    call = tf.function(all_of_them, autograph=False) if compiled else all_of_them
    return np.array(call(tf.constant(x, tf.float64)))


def evolve(hamiltonian, time):
    qml.evolve(hamiltonian, tf.cast(time, tf.complex128))


def of_cosine(frequency, x, order):
    """Derivatives of cos(frequency x), exact at large x as well."""
    return [frequency**k * cosine(frequency * x, k) for k in range(order + 1)]


def cosine(x, k):
    return (np.cos(x), -np.sin(x), -np.cos(x), np.sin(x))[k % 4]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["word", "words"])
def test_the_same_circuit_at_another_scale(name, scale, device, compiled):
    hamiltonian = {
        "word": lambda: scale * qml.Z(0),
        "words": lambda: scale * (qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0) @ qml.X(1)),
    }[name]
    x = 0.4 / scale

    def body(x):
        qml.Hadamard(0)
        if name == "words":
            qml.CNOT([0, 1])
            qml.RY(0.7, 1)
        evolve(hamiltonian(), x)

    measurement = lambda: qml.expval(qml.X(0) @ qml.X(1) if name == "words" else qml.X(0))  # noqa: E731
    found = derivatives(body, measurement, x, device, compiled=compiled)
    if name == "word":
        expected = of_cosine(2 * scale, x, 2)
    else:
        reference = derivatives_of_words(scale, x)
        expected = reference
    powers = scale ** np.arange(3)
    np.testing.assert_allclose(found / powers, expected / powers, atol=1e-10)


def derivatives_of_words(scale, x):
    """From matrices: i [H, O] again and again."""
    z, px, h = (
        np.diag([1, -1]),
        np.array([[0, 1], [1, 0]]),
        np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    )
    hamiltonian = scale * (np.kron(z, z) + 0.5 * np.kron(px, px))
    state = np.kron(h, np.eye(2)) @ np.eye(4)[0]
    state = np.kron(np.eye(2), qml.RY.compute_matrix(0.7)) @ qml.CNOT.compute_matrix() @ state
    values, vectors = np.linalg.eigh(hamiltonian)
    state = vectors @ (np.exp(-1j * values * x) * (vectors.conj().T @ state))
    observable, found = np.kron(px, px), []
    for _ in range(3):
        found.append(np.real(np.vdot(state, observable @ state)))
        observable = 1j * (hamiltonian @ observable - observable @ hamiltonian)
    return np.array(found)


MIXED = [(1e-12, 1e12), (1e-10, 1.0), (1e-6, 1.0), (1.0, 1e6), (1.0, 1 + 1e-7), (1.0, 1 + 1e-10)]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["one gate", "two gates"])
@pytest.mark.parametrize("a, b", MIXED)
def test_frequencies_of_different_sizes(a, b, kind, device):
    def body(x):
        qml.Hadamard(0)
        qml.Hadamard(1)
        if kind == "one gate":
            evolve(a / 2 * qml.Z(0) + b / 2 * qml.Z(1), x)
        else:
            qml.RZ(a * x, 0)
            qml.RZ(b * x, 1)

    x = 0.4 / b
    for frequency, wire in ((a, 0), (b, 1)):
        found = derivatives(body, lambda w=wire: qml.expval(qml.X(w)), x, device)
        expected = of_cosine(frequency, x, 2)
        np.testing.assert_allclose(found[::2], expected[::2], rtol=1e-9)
        # sin(frequency x) is small itself, so that rounding is relative to the cosine.
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-15 * frequency)


@pytest.mark.parametrize("diff_method", ["shift", "best"])
def test_a_shared_angle_at_different_sizes_keeps_the_digits_of_the_small(diff_method):
    @qshift.qnode(qshift.device("simulator"), diff_method=diff_method)
    def circuit(x):
        for factor in (1e-6, 1.0, 1.0, 1.0, 1.0):
            qml.RX(factor * x, 0 if factor < 1 else 1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    x = tf.constant(0.4, tf.float64)
    found = np.array(qshift.derivatives(lambda x: tf.stack(circuit(x)), x, order=3))
    for k, frequency in enumerate((1e-6, 4.0)):
        np.testing.assert_allclose(found[:, k], of_cosine(frequency, 0.4, 3), rtol=1e-7)


@pytest.mark.parametrize("scale", SCALES)
def test_recipes_at_every_scale(scale):
    class Turn(qml.operation.Operation):
        num_wires, num_params, ndim_params = 1, 1, (0,)
        grad_recipe = ([[scale / 2, 1, np.pi / 2 / scale], [-scale / 2, 1, -np.pi / 2 / scale]],)

        @staticmethod
        def compute_matrix(angle):
            return qml.RX.compute_matrix(scale * np.asarray(angle))

    found = derivatives(
        lambda x: Turn(x, wires=0), lambda: qml.expval(qml.Z(0)), 0.4 / scale, "simulator", order=3
    )
    powers = scale ** np.arange(4.0)
    expected = of_cosine(scale, 0.4 / scale, 3)
    np.testing.assert_allclose(found / powers, expected / powers, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-13, 1e13])
def test_points_of_recipes_are_told_apart_at_every_scale(scale):
    terms = ((0.5 / scale, 1.0, scale), (-0.5 / scale, 1.0, -scale))
    assert [s for _, _, s in Recipe(terms).rule(1)] == [scale, -scale]
    assert sorted(s for _, _, s in Recipe(terms).rule(2)) == [-2 * scale, 0.0, 2 * scale]


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_periodic_functions_at_every_scale(scale):
    function = qshift.shift_gradient((scale,))(lambda x: np.cos(scale * x))
    x = tf.constant([0.4 / scale, 3e14 / scale], tf.float64)
    with tf.GradientTape() as second:
        second.watch(x)
        with tf.GradientTape() as first:
            first.watch(x)
            y = function(x)
        gradient = first.gradient(y, x)
    found = [y, gradient, second.gradient(gradient, x)]
    for k, expected in enumerate(of_cosine(scale, x.numpy(), 2)):
        np.testing.assert_allclose(found[k] / scale**k, expected / scale**k, atol=1e-10)


# --- large angles ---

LARGE = {
    "RX": (lambda x: qml.RX(x, 0), lambda x, k: cosine(x, k)),
    "CRX": (
        lambda x: (qml.X(1), qml.CRX(x, [1, 0])),
        lambda x, k: cosine(x, k),
    ),
    "Evolution": (
        lambda x: evolve(0.5 * qml.X(0), x),
        lambda x, k: cosine(x, k),
    ),
    "CRot, not done": (
        lambda x: (qml.RY(1.2, 0), qml.CRot(x, 0.2, 0.3, [1, 0]), qml.RY(-1.2, 0)),
        lambda x, k: float(k == 0),
    ),
    "shared": (
        lambda x: (qml.RX(x, 0), qml.RY(0.0, 0), qml.RX(x, 0), qml.RX(2 * x, 0)),
        lambda x, k: 4.0**k * cosine(4 * x, k),
    ),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LARGE)
def test_large_angles_keep_their_digits(name, device, compiled):
    body, expected = LARGE[name]
    for x in (1.2345e5, 1e9, -3.3e12, 1e15, 2.5e17):
        found = derivatives(
            body, lambda: qml.expval(qml.Z(0)), x, device, order=3, compiled=compiled
        )
        np.testing.assert_allclose(found, [expected(x, k) for k in range(4)], atol=1e-9)
        if compiled:
            break


def test_angles_that_follow_another_one_are_those_of_the_user():
    """What a third of 1e15 is, is a matter of rounding."""
    x, thirds = 1.234567e15, 1 / 3 + 1 + 0.7
    turned = np.cos(x / 3 + 0.0), x, 0.7 * x
    sines = [(np.sin(a), np.cos(a)) for a in (x / 3, turned[1], turned[2])]
    sine, cosine = 0.0, 1.0
    for s, c in sines:
        sine, cosine = sine * c + cosine * s, cosine * c - sine * s

    def body(x):
        for angle in (x / 3, x, 0.7 * x):
            qml.RX(angle, 0)

    for order in (1, 2):
        found = derivatives(body, lambda: qml.expval(qml.Z(0)), x, "simulator", order=order)
        expected = [cosine, -thirds * sine, -(thirds**2) * cosine]
        np.testing.assert_allclose(found, expected[: order + 1], atol=1e-9)


def test_large_angles_without_a_period_are_an_error():
    def body(x):
        qml.Hadamard(0)
        evolve(qml.Z(0) @ qml.Z(1) + np.sqrt(2) * qml.X(0), x)
        evolve(0.3 * qml.Z(0) + 0.71 * qml.X(0) + 0.2 * qml.X(0) @ qml.Z(1), x)

    for compiled in (False, True):
        with pytest.raises(
            (qshift.UnsupportedError, tf.errors.OpError), match="Evolution is 1e.10, but no period"
        ):
            derivatives(
                body, lambda: qml.expval(qml.X(0)), 1e10, "default.qubit", compiled=compiled
            )


@pytest.mark.one_in(2)
@pytest.mark.filterwarnings("ignore:jax.core")
@pytest.mark.parametrize("interface", ["autograd", "jax", "jax-jit", "torch", "tf"])
@pytest.mark.parametrize("x", [0.4, 1e9, 1e15])
def test_gradient_transforms_at_large_angles(x, interface):
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift, max_diff=2)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    if interface == "autograd":
        given = qml.numpy.array(x, requires_grad=True)
        found = qml.grad(circuit)(given), qml.grad(qml.grad(circuit))(given)
    elif interface == "torch":
        torch = pytest.importorskip("torch")
        given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(circuit(given), given, create_graph=True)
        found = float(first.detach()), float(torch.autograd.grad(first, given)[0])
    elif interface == "tf":
        given = tf.Variable(x, dtype=tf.float64)
        with tf.GradientTape() as second:
            with tf.GradientTape() as first:
                y = circuit(given)
            gradient = first.gradient(y, given)
        found = gradient, second.gradient(gradient, given)
    else:
        import jax

        jax.config.update("jax_enable_x64", True)
        wrap = jax.jit if interface == "jax-jit" else lambda f: f
        found = wrap(jax.grad(circuit))(x), wrap(jax.grad(jax.grad(circuit)))(x)
    np.testing.assert_allclose(found, [-np.sin(x), -np.cos(x)], atol=1e-9)


# --- what is not finite ---

SAMPLED = [{}, {"shots": 50}, {"shots": 50, "seed": 3}, {"shots": (20, 30), "seed": 3}]


@pytest.mark.one_in(6)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("settings", SAMPLED, ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_angles_that_are_not_finite_give_no_number(device, settings, bad):
    def check(where, measure, compiled):
        @qshift.qnode(DEVICES[device](), **settings)
        def circuit(x):
            qml.RX(x, 0)
            qml.RY(bad if where == "constant" else 0.3, 1)
            qml.CNOT([0, 1])
            return measure()

        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                results = circuit(x)
                results = results if isinstance(results, tuple) else (results,)
                total = tf.add_n([tf.reduce_sum(each**2) for each in results])
            return tape.gradient(total, x), *results

        call = tf.function(gradient, autograph=False) if compiled else gradient
        found = call(tf.constant(bad if where == "tensor" else 0.3, tf.float64))
        assert all(np.isnan(each).all() for each in found)

    def expectation():
        return qml.expval(qml.Z(0))

    def probabilities():
        return qml.probs(wires=[0])

    for where in ("tensor", "constant"):
        check(where, expectation, compiled=False)
        check(where, expectation, compiled=True)
        check(where, probabilities, compiled=False)


def test_only_the_rows_of_a_batch_that_are_not_finite(tracker):
    @qshift.qnode(qshift.device("simulator"), diff_method="shift")
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    x = tf.constant([0.3, np.nan, 0.5], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = circuit(x)
    gradient = tape.gradient(values, x)
    np.testing.assert_allclose(values, np.cos([0.3, np.nan, 0.5]), atol=1e-12)
    np.testing.assert_allclose(gradient, -np.sin([0.3, np.nan, 0.5]), atol=1e-12)
    assert tracker.totals["circuits"] == 2 * 3


def test_the_estimator_device_sends_nothing_that_is_not_finite(tracker):
    @qml.qnode(qml.device("qshift.estimator", wires=1))
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    assert np.isnan(circuit(np.nan)) and np.isnan(circuit(np.inf))
    assert tracker.totals["circuits"] == 0


POWERS = {
    "RX": lambda x: qml.pow(qml.RX(x, 0), 3),
    "adjoint": lambda x: qml.adjoint(qml.pow(qml.RX(x, 0), -3)),
    "controlled": lambda x: (qml.X(1), qml.ctrl(qml.pow(qml.RX(x, 0), 3), 1)),
    "CRX": lambda x: (qml.X(1), qml.pow(qml.CRX(x, [1, 0]), -3)),
    "PauliRot": lambda x: qml.pow(qml.PauliRot(x, "X", wires=0), 3),
    "Evolution": lambda x: qml.pow(qml.evolve(qml.X(0) / 2, tf.cast(x, tf.complex128)), 3),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("method", ["shift", "best"])
@pytest.mark.parametrize("device", ["default.qubit", "simulator"])
@pytest.mark.parametrize("name", POWERS)
def test_powers_far_from_zero(name, device, method, compiled):
    x = 1e15 + 0.25
    found = derivatives(
        POWERS[name],
        lambda: qml.expval(qml.Z(0)),
        x,
        device,
        compiled=compiled,
        diff_method=method,
    )
    one = np.exp(1j * x) ** 3  # with all digits, as 3 * x has not
    assert found == pytest.approx([one.real, -3 * one.imag, -9 * one.real], abs=1e-8)


@pytest.mark.parametrize("exponent", [3, -5])
def test_powers_far_from_zero_on_tapes(exponent):
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(x):
        qml.pow(qml.RX(x, 0), exponent)
        return qml.expval(qml.Z(0))

    x = 1e15 + 0.25
    found = qml.grad(circuit)(qml.numpy.array(x, requires_grad=True))
    assert found == pytest.approx(-exponent * (np.exp(1j * x) ** exponent).imag, abs=1e-8)
