"""Measurements against PennyLane's own results and against matrices."""

import warnings

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane import numpy as pnp
from random_circuits import random_hermitian, tape_derivatives
from scipy import sparse

import qshift

DEVICE = qml.device("default.qubit")
RNG = np.random.default_rng(5)
HERMITIAN = random_hermitian(RNG, 4)
SMALL = random_hermitian(RNG, 2)


def prepare(x):
    """A two-qubit state that every observable below depends on."""
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CRX(0.7, wires=[0, 1])
    qml.RZ(x[0] * x[1], wires=1)
    qml.RY(0.4, wires=0)


def flat(results):
    """Lays any structure of tensors out as one vector."""
    return tf.concat([tf.reshape(result, [-1]) for result in tf.nest.flatten(results)], 0)


def of(measure, **settings):
    """A qshift function of x that returns what `measure` asks for, laid flat."""

    @qshift.qnode(DEVICE, **settings)
    def circuit(*args):
        prepare(args[0])
        return measure(*args[1:])

    return lambda *args: flat(circuit(*args))


def numpy_of(measure):
    """The same as a NumPy function, run by PennyLane."""

    @qml.qnode(DEVICE)
    def circuit(x):
        prepare(x)
        return measure()

    return lambda x: np.concatenate([np.ravel(r) for r in tf.nest.flatten(circuit(x))])


def state(x):
    @qml.qnode(DEVICE)
    def circuit():
        prepare(x)
        return qml.state()

    return circuit()


def along(function, point, direction):
    """A TensorFlow function on a line, as a function of the distance."""
    return lambda t: function(tf.constant(point) + t * tf.constant(direction))


def assert_taylor_series(function, expected, point, order, seed=0):
    """Compares derivatives along a random line with those of a polynomial fitted to the values.

    The Chebyshev series of a function analytic around [-r, r] converges to machine accuracy.
    """
    direction = np.random.default_rng(seed).normal(size=len(point))
    direction /= np.linalg.norm(direction)
    nodes = 0.6 * np.cos(np.pi * (np.arange(32) + 0.5) / 32)
    values = np.array([expected(point + t * direction) for t in nodes])
    got = tape_derivatives(along(function, point, direction), np.float64(0.0), order)
    for i, column in enumerate(values.reshape(len(nodes), -1).T):
        series = np.polynomial.Chebyshev.fit(nodes, column, 22)
        for k in range(order + 1):
            derivative = series.deriv(k)(0.0) if k else series(0.0)
            np.testing.assert_allclose(
                got[k].ravel()[i],
                derivative,
                atol=10.0 ** (3 * k - 13),
                rtol=1e-8,
                err_msg=f"value {i}, order {k}",
            )


X = np.array([0.6, -1.3])

OBSERVABLES = {
    "word": lambda: qml.X(0) @ qml.Y(1),
    "repeated wire": lambda: 1j * qml.X(0) @ qml.Z(0) @ qml.Z(1),
    "SProd": lambda: -1.7 * (qml.X(0) @ qml.Z(1)),
    "Sum": lambda: qml.X(0) + 0.3 * qml.Z(1) @ qml.Z(0) + 0.7 * qml.I(0),
    "Sum of noncommuting": lambda: qml.X(0) + qml.Y(0) + qml.Z(0),
    "Hamiltonian": lambda: qml.Hamiltonian([0.2, -0.5], [qml.Y(1), qml.X(0) @ qml.X(1)]),
    "product of sums": lambda: (qml.X(0) + 2 * qml.Z(0)) @ (qml.Y(1) + 0.5 * qml.X(1)),
    "Hermitian": lambda: qml.Hermitian(HERMITIAN, wires=[1, 0]),
    "Projector": lambda: qml.Projector([1, 0], wires=[0, 1]),
    "state Projector": lambda: qml.Projector(np.array([0.6, 0.8j]), wires=1),
    "Hermitian @ word": lambda: qml.Hermitian(SMALL, wires=0) @ qml.Y(1),
    "Projector + Hermitian": lambda: qml.Projector([1], 0) + 0.4 * qml.Hermitian(SMALL, 0),
    "Hadamard": lambda: qml.H(1),
    "identity": lambda: qml.I(0),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", OBSERVABLES)
def test_expectation_value_and_variance_of_every_observable(name):
    with qml.QueuingManager.stop_recording():
        observable = OBSERVABLES[name]()
    matrix = qml.matrix(observable, wire_order=[0, 1])
    assert np.allclose(matrix, matrix.conj().T)

    def expected(x):
        psi = state(x)
        mean, square = (np.real(psi.conj() @ m @ psi) for m in (matrix, matrix @ matrix))
        return np.array([mean, square - mean**2])

    function = of(lambda: (qml.expval(observable), qml.var(observable)))
    assert_taylor_series(function, expected, X, order=3)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("constant", [0.5, -1e8, 1e13])
@pytest.mark.parametrize("kind", ["word", "sum", "Hermitian", "Hermitian of two"])
def test_a_constant_does_not_vary(constant, kind):
    """As the mean of the square, less the square of the mean, no digit would be left."""
    observable = {
        "word": qml.Z(0),
        "sum": qml.X(0) + 0.3 * qml.Z(1) @ qml.Z(0),
        "Hermitian": qml.Hermitian(SMALL - np.trace(SMALL) / 2 * np.eye(2), wires=1),
        "Hermitian of two": qml.Hermitian(HERMITIAN, wires=[1, 0]),
    }[kind]
    if "Hermitian" in kind:
        matrix = qml.matrix(observable)
        moved = qml.Hermitian(matrix + constant * np.eye(len(matrix)), wires=observable.wires)
    else:
        moved = observable + constant * qml.I(0)
    x = tf.constant(X)
    got = qshift.derivatives(of(lambda: qml.var(moved)), x, order=2)
    expected = qshift.derivatives(of(lambda: qml.var(observable)), x, order=2)
    lost = 1e-15 * abs(constant) if "Hermitian" in kind else 0.0  # of the matrix
    for found, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-11 + 50 * lost)


def test_constants_alone_and_constants_that_are_no_real_numbers():
    assert abs(of(lambda: qml.var(1e8 * qml.I(0)))(tf.constant(X))) < 1e-14
    for constant in 1j, np.nan, np.inf:
        for observable in qml.Z(0) + constant * qml.I(0), constant * qml.I(0):
            with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
                of(lambda observable=observable: qml.var(observable))(tf.constant(X))


def test_variance_to_sixth_order():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.var(qml.Z(0))

    got = tape_derivatives(circuit, np.float64(0.4), 6)
    # 1 - cos(x)^2 = (1 - cos(2x)) / 2
    expected = [-(2.0**k) * np.cos(0.8 + k * np.pi / 2) / 2 + 0.5 * (k == 0) for k in range(7)]
    np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize("measure", [qml.expval, qml.var])
def test_observables_that_are_not_hermitian_are_refused(measure):
    with pytest.raises(qshift.UnsupportedError, match="Hermitian"):
        of(lambda: measure(1j * qml.Z(0)))(tf.constant(X))


@pytest.mark.parametrize(
    "measure",
    [
        lambda: qml.probs(wires=[1, 0]),
        lambda: qml.probs(wires=1),
        lambda: qml.probs(op=qml.X(0) @ qml.Y(1)),
        lambda: qml.probs(),
    ],
)
def test_probabilities(measure):
    assert_taylor_series(of(measure), numpy_of(measure), X, order=3)


@pytest.mark.parametrize(
    "device",
    [
        qml.device("default.qubit"),
        qml.device("default.qubit", wires=[2, 0, 1, 3]),
        qml.device("lightning.qubit"),
        qml.device("lightning.qubit", wires=4),
        qml.device("default.mixed", wires=3),
    ],
    ids=lambda device: f"{device.name} {list(device.wires or ())}",
)
@pytest.mark.parametrize("labels", [(1, 0, 2), (2, 0, 1)])
def test_probabilities_of_all_wires_come_in_pennylanes_order(device, labels):
    def circuit(x):
        qml.RX(x, wires=labels[0])
        qml.RY(2 * x, wires=labels[1])
        qml.CNOT(wires=[labels[1], labels[2]])
        return qml.probs()

    expected = qml.qnode(device)(circuit)(0.4)
    embedded = device.name != "default.qubit"
    got = qshift.qnode(device, embedded=embedded)(circuit)(tf.constant(0.4, tf.float64))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_probabilities_of_wires_with_names():
    def circuit(x):
        qml.RX(x, wires="b")
        qml.RY(2 * x, wires="a")
        return qml.probs()

    got = qshift.qnode(DEVICE, diff_method="shift")(circuit)(tf.constant(0.4, tf.float64))
    np.testing.assert_allclose(got, qml.qnode(DEVICE)(circuit)(0.4), atol=1e-12)


def test_several_measurements_of_different_shapes():
    def measure():
        return (
            qml.expval(qml.Z(0)),
            qml.probs(wires=[0, 1]),
            qml.var(qml.Z(0)),
            qml.probs(wires=1),
            qml.expval(qml.Z(0)),
        )

    assert_taylor_series(of(measure), numpy_of(measure), X, order=2)


def test_observables_that_are_almost_equal_stay_apart():
    nearly = np.diag([1.0, -1.000001])
    values = of(
        lambda: (
            qml.expval(1.0 * qml.Z(0)),
            qml.expval(1.000001 * qml.Z(0)),
            qml.expval(qml.Hermitian(np.diag([1.0, -1.0]), 0)),
            qml.expval(qml.Hermitian(nearly, 0)),
        )
    )(tf.constant(X)).numpy()
    mean = np.real(np.vdot(state(X), np.kron(qml.matrix(qml.Z(0)), np.eye(2)) @ state(X)))
    expected = [mean, 1.000001 * mean, mean, mean - 1e-6 * (1 - mean) / 2]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


def test_observables_from_call_to_call():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, coefficient):
        prepare(x)
        return qml.expval(qml.Hermitian(coefficient * HERMITIAN, [0, 1]))

    x = tf.constant(X)
    once, twice = circuit(x, 1.0), circuit(x, 2.0)
    np.testing.assert_allclose(twice, 2 * once)
    np.testing.assert_allclose(circuit(x, 1.0 + 1e-9) - once, 1e-9 * once, rtol=1e-5)


def test_sparse_hamiltonians():
    @qshift.qnode(qml.device("default.qubit", wires=2), diff_method="shift")
    def circuit(x, scale):
        prepare(x)
        return qml.expval(qml.SparseHamiltonian(sparse.csr_matrix(scale * HERMITIAN), [0, 1]))

    x = tf.constant(X)
    np.testing.assert_allclose(circuit(x, 2.0), 2 * circuit(x, 1.0))


# --- trainable coefficients ---

LINEAR = {
    "Hamiltonian": lambda c: qml.Hamiltonian(c, [qml.Z(0), qml.X(0) @ qml.Y(1), qml.Z(1)]),
    "dot": lambda c: qml.dot(c, [qml.Z(0), qml.X(0) @ qml.Y(1), qml.X(1)]),
    "scaled terms": lambda c: qml.Hamiltonian(c, [2 * qml.Z(0), -0.5 * qml.X(0), qml.Y(1)]),
    "nested": lambda c: c[0] * (c[1] * qml.X(0) + qml.Z(0)) + c[2] * qml.Y(1),
    "product": lambda c: (c[0] * qml.X(0)) @ (c[1] * qml.Z(1)) + c[2] * c[2] * qml.Z(0),
    "identity": lambda c: c[0] * qml.Z(0) @ qml.Z(1) + c[1] * qml.I(0) + c[2] * qml.X(1),
    "repeated term": lambda c: qml.Hamiltonian(c, [qml.X(0), qml.Y(1), qml.X(0)]),
    "Hermitian": lambda c: qml.Hamiltonian(
        c, [qml.Hermitian(SMALL, 0), qml.Projector([1], 1), qml.X(0)]
    ),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("measure", [qml.expval, qml.var])
def test_trainable_coefficients_mixed_with_angles(name, measure):
    """One vector holds the two angles and the three coefficients."""
    function = of(lambda c: measure(LINEAR[name](c)))

    def expected(v):
        psi = state(v[:2])
        with qml.QueuingManager.stop_recording():
            matrix = qml.matrix(LINEAR[name](v[2:]), wire_order=[0, 1])
        mean, square = (np.real(psi.conj() @ m @ psi) for m in (matrix, matrix @ matrix))
        return mean if measure is qml.expval else square - mean**2

    generic, special = np.array([*X, 0.7, -0.4, 1.3]), np.array([*X, 0.0, 1.0, 0.0])
    for seed, point in [(0, generic), (1, generic), (1, special)]:
        assert_taylor_series(lambda v: function(v[:2], v[2:]), expected, point, 3, seed)


def test_third_derivatives_of_variances_of_nothing():
    """Where the mean is 0, and its square is not to be a power."""
    function = of(lambda c: qml.var(c[0] * qml.X(0)))
    c = tf.zeros([1], tf.float64)
    *_, third = qshift.derivatives(lambda c: function(X, c)[0], c, order=3)
    assert np.all(third == 0.0)
    _, _, second, third = qshift.derivatives(lambda x: function(x, c)[0], tf.zeros(2), order=3)
    assert np.all(np.isfinite(second)) and np.all(np.isfinite(third))


def test_coefficients_alone_are_trainable():
    function = of(lambda c: qml.expval(qml.Hamiltonian(c, [qml.Z(0), qml.X(1)])))
    coefficients = tf.Variable([0.3, 0.4], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = function(X, coefficients)
    gradient = tape.gradient(value, coefficients).numpy()
    np.testing.assert_allclose(gradient @ coefficients.numpy(), value.numpy()[0])
    assert np.abs(gradient).min() > 0.01


def test_coefficients_cost_no_circuits(tracker):
    function = of(lambda c: qml.expval(qml.Hamiltonian(c, [qml.Z(0), qml.X(1), qml.Y(0)])))
    c = tf.Variable([0.3, 0.4, 0.5], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = function(X, c)
    tape.gradient(value, c)
    assert tracker.totals["circuits"] == 1


@pytest.mark.parametrize(
    "measurement",
    [
        lambda t: qml.expval(qml.Hermitian(tf.stack([[t, 1.0], [1.0, -t]]), wires=0)),
        lambda t: qml.var(qml.Hermitian(tf.stack([[t, 1.0], [1.0, -t]]), wires=0)),
        lambda t: qml.probs(op=qml.Hermitian(tf.stack([[t, 1.0], [1.0, -t]]), wires=0)),
        lambda t: qml.expval(
            qml.Hamiltonian([2.0], [qml.Hermitian(tf.stack([[t, 1.0], [1.0, -t]]), wires=0)])
        ),
    ],
)
def test_tensors_inside_observables_are_refused(measurement, tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(t):
        prepare(X)
        return measurement(t)

    with (
        pytest.raises(qshift.UnsupportedError, match="Hermitian.*tensor.*NumPy"),
        warnings.catch_warnings(),
        tf.GradientTape(),
    ):
        warnings.filterwarnings("ignore", "Using qp.probs with a Hermitian observable")
        circuit(tf.Variable(0.3, dtype=tf.float64))
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize(
    "measurement, compiled",
    [
        (lambda h, bits, c: qml.expval(qml.Hermitian(h, 0) @ qml.Z(1)), True),
        (
            lambda h, bits, c: qml.var(qml.Hamiltonian([c, 2], [qml.Hermitian(h, 0), qml.Z(1)])),
            True,
        ),
        (lambda h, bits, c: qml.probs(op=qml.Hermitian(h, wires=0)), True),
        # PennyLane takes the lengths of these.
        (lambda h, bits, c: qml.var(qml.Projector(bits, wires=[0, 1])), False),
        (lambda h, bits, c: qml.var(qml.Projector(bits[:1], wires=0) @ qml.X(1)), False),
    ],
)
@pytest.mark.filterwarnings("ignore:Using qp.probs with a Hermitian observable")
def test_tensors_inside_observables_may_be_constants(measurement, compiled):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, c):
        prepare(x)
        return measurement(tf.constant(SMALL), tf.constant([1, 0]), c)

    @qml.qnode(DEVICE)
    def expected(x, c):
        prepare(x)
        return measurement(SMALL, np.array([1, 0]), c)

    c = 0.3
    want = expected(X, c), qml.jacobian(expected)(pnp.array(X), c)
    x, c = tf.constant(X), tf.constant(c, tf.float64)
    for function in [circuit, tf.function(circuit)][: 1 + compiled]:
        with tf.GradientTape() as tape:
            tape.watch([x, c])
            value = function(x, c)
        np.testing.assert_allclose(value, want[0], atol=1e-12)
        np.testing.assert_allclose(tape.jacobian(value, x), want[1], atol=1e-12)


# --- structure and shapes, with and without shots, batch ---

RETURNS = {
    "expval": lambda: qml.expval(qml.Z(0)),
    "probs": lambda: qml.probs(wires=[0, 1]),
    "tuple": lambda: (qml.expval(qml.Z(0)), qml.probs(wires=[0]), qml.var(qml.X(1))),
    "tuple of one": lambda: (qml.expval(qml.Z(0)),),
    "list": lambda: [qml.expval(qml.Z(0)), qml.var(qml.X(1))],
    "list of one": lambda: [qml.probs(wires=0)],
    "dict": lambda: {"a": qml.expval(qml.Z(0)), "b": qml.probs(wires=1)},
    "nested": lambda: {"a": [qml.expval(qml.Z(0)), (qml.var(qml.Z(1)), qml.probs(wires=0))]},
}


def structure(results):
    """Returns the same containers with shapes in them."""
    if isinstance(results, dict):
        return {key: structure(value) for key, value in results.items()}
    if isinstance(results, list | tuple):
        return type(results)(structure(value) for value in results)
    return np.shape(results)


SHOTS = (None, 10, [10, 20], [(10, 2), 5], (7,), [10], [(5, 3)])


@pytest.mark.parametrize("shots", SHOTS, ids=str)
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("name", RETURNS)
def test_results_have_pennylanes_structure(name, batch, shots):
    def circuit(x):
        qml.RX(x, wires=0)
        qml.CNOT(wires=[0, 1])
        return RETURNS[name]()

    x = 0.3 if batch is None else np.linspace(0.1, 0.4, batch)
    expected = qml.qnode(DEVICE, shots=shots)(circuit)(x)
    got = qshift.qnode(DEVICE, shots=shots)(circuit)(tf.constant(x, tf.float64))
    assert structure(got) == structure(expected)
    assert all(tf.is_tensor(result) for result in tf.nest.flatten(got))


@pytest.mark.parametrize("shots", [None, 10, [10, 20]], ids=str)
def test_a_batch_of_one_keeps_its_axis(shots):
    """PennyLane keeps it for exact results and drops it from sampled ones."""

    @qshift.qnode(DEVICE, shots=shots)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    results = tf.nest.flatten(circuit(tf.constant([0.3], tf.float64)))
    assert {tuple(result.shape) for result in results} == {(1,)}


def test_each_entry_of_a_shot_vector_has_its_shots_and_derivatives():
    shots = [1, 10_000]

    @qshift.qnode(DEVICE, shots=shots, seed=3)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.Variable(1.1, dtype=tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        few, many = circuit(x)
    assert abs(few.numpy()) == 1
    assert many.numpy() == pytest.approx(np.cos(1.1), abs=0.05)
    assert abs(tape.gradient(few, x).numpy()) in (0.0, 1.0)
    assert tape.gradient(many, x).numpy() == pytest.approx(-np.sin(1.1), abs=0.05)


def test_equal_inputs_of_a_batch_are_sampled_independently(tracker):
    @qshift.qnode(DEVICE, shots=100, seed=7)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    values = circuit(tf.fill([200], tf.constant(1.0, tf.float64))).numpy()
    assert tracker.totals["circuits"] == 200 and tracker.totals["shots"] == 20_000
    # The variance of a mean of 100 samples of +-1, within five of its standard deviations.
    assert values.var() == pytest.approx(np.sin(1.0) ** 2 / 100, rel=0.5)


# --- mid-circuit measurements ---


def conditioned(x):
    """Measures, resets, and lets later gates depend on outcomes."""
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    first = qml.measure(0, reset=True)
    qml.cond(first, qml.RX, qml.RY)(x[0] * x[1], wires=1)
    second = qml.measure(1)
    qml.cond(first & ~second, qml.Rot)(x[0], 0.3, x[1], wires=0)
    return first, second


MEASUREMENTS_OF_OUTCOMES = {
    "expval": lambda a, b: qml.expval(a),
    "function": lambda a, b: qml.expval(2 * a - 3 * b + 0.5),
    "var": lambda a, b: qml.var(a + 2 * b),
    "probs": lambda a, b: qml.probs(op=[a, b]),
    "probs of one": lambda a, b: qml.probs(op=b),
    "ordinary": lambda a, b: (qml.expval(qml.Z(0)), qml.probs(wires=[1]), qml.var(qml.X(0))),
}


def by_branches(x, outcome_of):
    """Adds up the four branches of `conditioned` by hand: (probability, state) of each."""
    ry, rx = qml.RY.compute_matrix, qml.RX.compute_matrix
    zero = np.array([1.0, 0.0])
    psi0, psi1 = rx(x[0]) @ zero, ry(x[1]) @ zero
    for a in (0, 1):
        after = (rx if a else ry)(x[0] * x[1]) @ psi1
        for b in (0, 1):
            p = abs(psi0[a]) ** 2 * abs(after[b]) ** 2
            left = qml.Rot.compute_matrix(x[0], 0.3, x[1]) @ zero if a and not b else zero
            yield outcome_of(a, b, left), p


def average(x, outcome_of):
    return sum(outcome * p for outcome, p in by_branches(x, outcome_of))


def expected_of_outcomes(name, x):
    z, plus = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])

    def basis(size, k):
        return np.eye(size)[k]

    if name == "expval":
        return [average(x, lambda a, b, s: a)]
    if name == "function":
        return [average(x, lambda a, b, s: 2 * a - 3 * b + 0.5)]
    if name == "var":
        mean, square = (average(x, lambda a, b, s, k=k: (a + 2 * b) ** k) for k in (1, 2))
        return [square - mean**2]
    if name == "probs":
        return average(x, lambda a, b, s: basis(4, 2 * a + b))
    if name == "probs of one":
        return average(x, lambda a, b, s: basis(2, b))
    mean_z, mean_x = (average(x, lambda a, b, s, m=m: np.real(s.conj() @ m @ s)) for m in (z, plus))
    return [mean_z, *average(x, lambda a, b, s: basis(2, b)), 1 - mean_x**2]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", MEASUREMENTS_OF_OUTCOMES)
@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "default.mixed"])
def test_mid_circuit_measurements(name, device):
    @qshift.qnode(qml.device(device, wires=6), embedded=device != "default.qubit")
    def circuit(x):
        return MEASUREMENTS_OF_OUTCOMES[name](*conditioned(x))

    value, gradient = tape_derivatives(lambda x: flat(circuit(x)), X, 1)
    np.testing.assert_allclose(value, expected_of_outcomes(name, X), atol=1e-10)
    step = 1e-4
    for axis, e in enumerate(np.eye(2) * step):
        up, down = (np.array(expected_of_outcomes(name, X + s * e)) for s in (1, -1))
        np.testing.assert_allclose(gradient[:, axis], (up - down) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("measure", [qml.expval, qml.var])
def test_functions_of_outcomes_may_hold_tensors(measure):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RX(x[0], wires=0)
        outcome = qml.measure(0)
        return measure(x[1] * outcome)

    value, gradient, hessian = tape_derivatives(circuit, np.array([0.8, 1.5]), 2)
    p, dp, ddp = np.sin(0.4) ** 2, np.sin(0.8) / 2, np.cos(0.8) / 2
    if measure is qml.expval:
        assert value == pytest.approx(1.5 * p)
        np.testing.assert_allclose(gradient, [1.5 * dp, p], atol=1e-12)
        np.testing.assert_allclose(hessian, [[1.5 * ddp, dp], [dp, 0]], atol=1e-12)
    else:
        assert value == pytest.approx(2.25 * p * (1 - p))
        np.testing.assert_allclose(gradient, [2.25 * dp * (1 - 2 * p), 3 * p * (1 - p)], atol=1e-12)


def test_adjoint_differentiation_of_mid_circuit_measurements():
    @qshift.qnode(DEVICE, diff_method="adjoint")
    def circuit(x):
        first, second = conditioned(x)
        return qml.expval(first), qml.expval(first + 2 * second), qml.expval(qml.Z(0))

    shifted = qshift.from_qnode(circuit, diff_method="shift")
    for a, b in zip(
        tape_derivatives(lambda x: flat(circuit(x)), X, 2),
        tape_derivatives(lambda x: flat(shifted(x)), X, 2),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-10)


# --- what is refused ---


@pytest.mark.parametrize(
    "measurement, name, way_out",
    [
        (lambda: qml.state(), "State", "expval"),
        (lambda: qml.density_matrix(wires=0), "DensityMatrix", "expval"),
        (lambda: qml.sample(wires=0), "Sample", "expval"),
        (lambda: qml.sample(qml.Z(0)), "Sample", "expval"),
        (lambda: qml.counts(), "Counts", "probs"),
        (lambda: qml.classical_shadow(wires=[0]), "ClassicalShadow", "expval"),
        (lambda: qml.shadow_expval(qml.Z(0)), "ShadowExpval", "expval"),
        (lambda: qml.vn_entropy(wires=0), "VnEntropy", "probs"),
        (lambda: qml.mutual_info([0], [1]), "MutualInfo", "probs"),
        (lambda: qml.purity(wires=0), "Purity", "expval"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("shots", [None, 100])
def test_other_measurements_say_what_to_use_instead(measurement, name, way_out, shots, tracker):
    @qshift.qnode(DEVICE, shots=shots)
    def circuit(x):
        qml.RX(x, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(0)), measurement()

    with pytest.raises(qshift.UnsupportedError, match=f"{name}.*return qml.{way_out}.*qml.qnode"):
        circuit(tf.constant(0.3, tf.float64))
    assert tracker.totals["circuits"] == 0


class Diagonalized(qml.operation.Operator):
    """2 + X, by its eigenvalues and diagonalizing gates only."""

    num_wires = 1

    @staticmethod
    def compute_eigvals():
        return np.array([3.0, 1.0])

    @staticmethod
    def compute_diagonalizing_gates(wires):
        return [qml.Hadamard(wires)]


@pytest.mark.parametrize("measure", [qml.expval, qml.var])
@pytest.mark.parametrize("around", [lambda o: o, lambda o: o @ qml.Z(1), lambda o: o + qml.Z(1)])
def test_users_observables_without_matrices(around, measure):
    def derivatives(observable):
        @qshift.qnode(DEVICE, diff_method="shift")
        def circuit(x):
            prepare([x, 2 * x])
            return measure(around(observable()))

        found = qshift.derivatives(circuit, tf.constant(0.3, tf.float64))
        return [float(each) for each in found]

    found = derivatives(lambda: Diagonalized(0))
    assert found == pytest.approx(derivatives(lambda: qml.Hermitian([[2, 1], [1, 2]], 0)), abs=1e-9)


@pytest.mark.parametrize("measure", [qml.expval, qml.var])
def test_tensor_multiples_of_what_is_not_hermitian(measure, tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RY(x, 0)
        return measure(x * qml.X(0) + x * qml.T(1))

    with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
        circuit(tf.constant(0.3, tf.float64))
    assert tracker.totals["circuits"] == 0


def test_variances_with_coefficients_of_several_precisions():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RY(0.3, 0)
        return qml.var(x * qml.X(0) + y * qml.Z(0))

    found = circuit(tf.constant(0.5, tf.float32), tf.constant(0.25, tf.float64))
    mean = 0.5 * np.sin(0.3) + 0.25 * np.cos(0.3)
    assert float(found) == pytest.approx(0.5**2 + 0.25**2 - mean**2)
