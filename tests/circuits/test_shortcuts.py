"""Numbers that are 0 or 1 now, and that something differentiates by."""

import functools
import itertools
from math import comb, perm

import jax
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane import numpy as pnp

import qshift

jax.config.update("jax_enable_x64", True)
pytestmark = [
    # PennyLane asks JAX for names that JAX will take away.
    pytest.mark.filterwarnings("ignore:jax.core:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pennylane.exceptions.PennyLaneDeprecationWarning"),
]

H = np.array([[0.3, 1 - 0.5j], [1 + 0.5j, -1.2]])
OBSERVABLES = {
    "multiple": lambda c: qml.s_prod(c, qml.Hermitian(H, 0)),
    "sum": lambda c: qml.sum(qml.s_prod(c, qml.Hermitian(H, 0)), qml.X(0)),
    "repeated": lambda c: qml.sum(*2 * [qml.s_prod(c, qml.Hermitian(H, 0))]),
    "Hamiltonian": lambda c: qml.Hamiltonian([c, 1.0], [qml.Hermitian(H, 0), qml.Hadamard(1)]),
    "nested": lambda c: qml.s_prod(c, qml.s_prod(c, qml.Hermitian(H, 0)) + qml.Hadamard(1)),
    "product": lambda c: qml.prod(qml.s_prod(c, qml.Hadamard(0)), qml.s_prod(c, qml.Z(1))),
    "product of sums": lambda c: qml.prod(
        qml.s_prod(c, qml.Hermitian(H, 0)), qml.sum(qml.Hadamard(1), qml.s_prod(c, qml.Z(1)))
    ),
    "projectors": lambda c: qml.sum(
        qml.s_prod(c, qml.Projector([1], 0)), qml.s_prod(2 * c, qml.Projector([1], 1))
    ),
    "dot": lambda c: qml.dot([c, c * c], [qml.Z(0), qml.Hermitian(H, 1)]),
    "dot of one": lambda c: qml.dot([c], [qml.Hermitian(H, 1)]),
    "dot of words": lambda c: qml.dot([c], [qml.Z(0)], pauli=True).operation(),
    "products of Hamiltonians": lambda c: (
        qml.Hamiltonian([c, 1.0], [qml.Z(0), qml.X(0)])
        @ qml.Hamiltonian([c, 0.5], [qml.Hadamard(1), qml.Y(1)])
    ),
    "Hamiltonians times numbers": lambda c: (
        2.0 * qml.Hamiltonian([c, 1.0], [qml.Z(0), qml.X(0)])
        - qml.Hamiltonian([c * c, 0.5], [qml.Hadamard(1), qml.Y(1)]) * 0.3
    ),
    "Hamiltonians and others": lambda c: (
        qml.Hamiltonian([c, 1.0], [qml.Z(0), qml.X(0)]) + qml.Z(1) - qml.Hadamard(0)
    ),
    "numbers": lambda c: (qml.Z(0) - c * c) @ (qml.Hadamard(1) + 0) + c,
    "simplified": lambda c: qml.simplify(qml.s_prod(c, qml.Hermitian(H, 0)) + qml.Hadamard(1)),
    "words": lambda c: qml.s_prod(c, qml.Z(0)) @ qml.s_prod(c, qml.X(1)) + qml.Z(0),
}
# Other frameworks' numbers are simplified as ever, and errors in products of Hamiltonians.
OF_TENSORFLOW = ["simplified", *(name for name in OBSERVABLES if "Hamiltonians" in name)]
COEFFICIENTS = [0.0, 1.0, 1e-13]


def circuit(name, measure=qml.expval):
    def function(c, y):
        qml.RX(y, 0)
        qml.RY(0.4, 1)
        return measure(OBSERVABLES[name](c))

    return function


def expected(name, c, y, measure=qml.expval):
    """Returns value, gradient and Hessian by c and y, from observables' polynomials in c."""
    terms = polynomial(name)
    states = [  # and their derivatives by y
        np.kron([np.cos(turned), -1j * np.sin(turned)], [np.cos(0.2), np.sin(0.2)]) / 2**n
        for n, turned in enumerate((y + np.arange(3) * np.pi) / 2)
    ]

    def mean(terms, i, j):
        """The i-th derivative by c of the j-th by y, of the mean of a polynomial in c."""
        matrix = sum(perm(k, i) * c ** (k - i) * terms[k] for k in range(i, len(terms)))
        return sum(
            comb(j, n) * states[n].conj() @ matrix @ states[j - n] for n in range(j + 1)
        ).real

    def variance(i, j):
        squares = np.zeros((9, 4, 4), complex)
        for k, n in np.ndindex(5, 5):
            squares[k + n] += terms[k].conj().T @ terms[n]
        return mean(squares, i, j) - sum(
            comb(i, k) * comb(j, n) * mean(terms, k, n) * mean(terms, i - k, j - n)
            for k, n in np.ndindex(i + 1, j + 1)
        )

    value = functools.partial(mean, terms) if measure is qml.expval else variance
    return [value(*by) for by in [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (1, 1), (0, 2)]]


@functools.cache
def polynomial(name):
    """Returns the matrices that c^0, ..., c^4 are multiplied by in an observable."""
    nodes = np.array([-1.0, -0.5, 0.5, 1.0, 2.0])  # none of which is a special case
    nodes[[0, 3]] *= 1.1
    matrices = [qml.matrix(OBSERVABLES[name](node), wire_order=[0, 1]) for node in nodes]
    powers = np.vander(nodes, increasing=True)
    return np.linalg.solve(powers, np.reshape(matrices, (5, 16))).reshape(5, 4, 4)


def second_order(function, c, y):
    c, y = tf.Variable(c, dtype=tf.float64), tf.Variable(y, dtype=tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            value = function(c, y)
        first = inner.gradient(value, [c, y], unconnected_gradients="zero")
    rows = [outer.gradient(each, [c, y], unconnected_gradients="zero") for each in first]
    return [float(x) for x in [value, *first, *rows[0], *rows[1]]]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("measure", [qml.expval, qml.var])
@pytest.mark.parametrize("name", OBSERVABLES)
def test_coefficients_at_special_points(name, measure, compiled):
    node = qshift.qnode(qshift.device("simulator"))(circuit(name, measure))
    call = tf.function(node) if compiled else node
    for c in COEFFICIENTS:
        found = second_order(call, c, 0.3)
        np.testing.assert_allclose(found, expected(name, c, 0.3, measure), atol=1e-9)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", OBSERVABLES)
def test_coefficients_of_tapes_at_special_points(name):
    node = qml.QNode(
        circuit(name), qml.device("default.qubit"), diff_method=qshift.param_shift, max_diff=2
    )
    for c in COEFFICIENTS:
        np.testing.assert_allclose(second_order(node, c, 0.3), expected(name, c, 0.3), atol=1e-9)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", [name for name in OBSERVABLES if name not in OF_TENSORFLOW])
def test_coefficients_in_other_frameworks(name):
    node = qml.QNode(circuit(name), qml.device("default.qubit"), diff_method=qshift.param_shift)
    for c in COEFFICIENTS:
        right = expected(name, c, 0.3)[1:3]
        np.testing.assert_allclose(jax.grad(node, (0, 1))(c, 0.3), right, atol=1e-9)
        found = qml.grad(node)(pnp.array(c), pnp.array(0.3))
        np.testing.assert_allclose(found, right, atol=1e-9)


def one_qubit(scale):
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift, max_diff=2)
    def node(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    return lambda x: scale * (node(x) - np.cos(0.3)) ** 2


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_errors_of_zero_have_hessians(scale):
    """The derivative of (f(x) - y)^2 is multiplied by f(x) - y = 0, and that has a derivative."""
    loss, right = one_qubit(scale), 2 * scale * np.sin(0.3) ** 2
    x = tf.Variable(0.3, dtype=tf.float64)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = loss(x)
        first = inner.gradient(value, x)
    assert float(outer.gradient(first, x)) == pytest.approx(right, rel=1e-9)
    assert float(jax.hessian(loss)(0.3)) == pytest.approx(right, rel=1e-9)
    found = qml.jacobian(qml.grad(loss))(pnp.array(0.3))
    assert float(getattr(found, "_value", found)) == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("way", ["parameter-shift", qshift.param_shift], ids=["own", "qshift"])
def test_hessians_of_several_results_in_autograd(way, ragged):
    """Autograd contracts nested tuples of what it differentiates by without a derivative."""

    @qml.qnode(qml.device("default.qubit"), diff_method=way, max_diff=2)
    def node(x):
        qml.RX(x[0], 0)
        qml.RY(x[1], 0)
        means = qml.expval(qml.Z(0)), qml.expval(qml.Y(0))
        return (*means, qml.probs(0)) if ragged else means

    def results(x):
        return pnp.hstack(node(x))

    def right(x):
        mean = jax.numpy.cos(x[0]) * jax.numpy.cos(x[1])
        means = [mean, -jax.numpy.sin(x[0])]
        return jax.numpy.stack([*means, (1 + mean) / 2, (1 - mean) / 2] if ragged else means)

    for x in ([0.0, 0.0], [0.3, 0.4]):
        found = qml.jacobian(qml.jacobian(results))(pnp.array(x))
        np.testing.assert_allclose(found, jax.hessian(right)(np.array(x)), atol=1e-9)


def test_small_multiples_have_gradients():
    loss = one_qubit(1e-12)
    x = tf.Variable(0.5, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = loss(x)
    right = -2e-12 * np.sin(0.5) * (np.cos(0.5) - np.cos(0.3))
    assert float(tape.gradient(value, x)) == pytest.approx(right, rel=1e-9)
    assert float(jax.grad(loss)(0.5)) == pytest.approx(right, rel=1e-9)
    _, found = jax.jvp(loss, (0.5,), (1e-9,))
    assert float(found) == pytest.approx(1e-9 * right, rel=1e-9)


def test_constants_are_simplified_as_ever():
    for number in (float, np.float64, pnp.array):
        one, two, zero = number(1.0), number(2.0), number(0.0)
        assert qml.dot([one, two], [qml.Z(0), qml.X(0)]).operands[0] == qml.Z(0)
        kept = qml.simplify(qml.s_prod(zero, qml.Hadamard(0)) + qml.s_prod(two, qml.Hadamard(1)))
        assert (kept.scalar, kept.base) == (2.0, qml.Hadamard(1))


def test_nothing_is_run_for_constants_that_are_zero():
    """PennyLane's shortcut is taken where it is right."""
    vjp, tape = qml.gradients.vjp, qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))])
    runs = [len(vjp(tape, np.array(dy), qshift.param_shift)[0]) for dy in (0.0, 1e-12, 1.0)]
    assert runs == [0, 1, 1]


def test_terms_of_products_are_all_there():
    c = tf.constant(0.0, tf.float64)
    factors = [qml.sum(qml.s_prod(c, qml.Hadamard(i)), qml.Z(i)) for i in range(3)]
    coefficients, operators = qml.prod(*factors).terms()
    assert len(operators) == 8
    assert sorted(map(float, coefficients)) == [0.0] * 7 + [1.0]
    chosen = itertools.product(*([qml.Hadamard(i), qml.Z(i)] for i in range(3)))
    assert all(a == qml.prod(*b) for a, b in zip(operators, chosen, strict=True))


ARITHMETIC = {
    "sum": lambda a: hamiltonian(a) + hamiltonian(a),
    "sum of three": lambda a: sum([hamiltonian(a), hamiltonian(a), hamiltonian(a)]),
    "and another": lambda a: hamiltonian(a) + qml.Y(0),
    "and nothing": lambda a: hamiltonian(a) + 0,
    "difference": lambda a: hamiltonian(a) - hamiltonian(a * a),
    "less another": lambda a: hamiltonian(a) - qml.Y(0),
    "multiple": lambda a: 2.0 * hamiltonian(a) * 0.5,
    "quotient": lambda a: hamiltonian(a) / 2,
    "product": lambda a: hamiltonian(a) @ qml.Hamiltonian([a, 1.0], [qml.Z(1), qml.Y(1)]),
}


def hamiltonian(a):
    return qml.Hamiltonian([a, 1.0], [qml.Z(0), qml.Hadamard(0)])


@pytest.mark.parametrize("number", [float, np.float64, lambda x: tf.constant(x, tf.float64)])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_what_a_hamiltonian_is_made_of_is_no_gate(name, number):
    """PennyLane leaves operands of its arithmetic behind, as gates of the circuit."""
    with qml.queuing.AnnotatedQueue() as queue:
        observable = ARITHMETIC[name](number(0.5))
        qml.expval(observable)
    assert isinstance(observable, qml.ops.LinearCombination)
    assert not qml.tape.QuantumScript.from_queue(queue).operations
    expected = qml.matrix(ARITHMETIC[name](0.5), wire_order=[0, 1])
    found = qml.math.toarray(qml.matrix(observable, wire_order=[0, 1]))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_numbers_that_are_zero_add_nothing():
    c = tf.constant(0.5, tf.float64)
    terms = qml.sum(c * qml.Z(0), c * qml.Hadamard(1)).terms()
    assert [len(each) for each in terms] == [2, 2] and isinstance(terms[0], list)
    assert len(sum([c * qml.Z(0), c * qml.Hadamard(1)]).terms()[1]) == 2


def test_gates_taken_out_of_a_batch_are_none():
    gate = qml.PCPhase(np.array([0.1, 0.2]), dim=1, wires=[0])
    assert gate.batch_size == 2
    assert qml.ops.functions.bind_new_parameters(gate, [0.3]).batch_size is None
    assert qml.ops.functions.bind_new_parameters(gate, [np.ones(3)]).batch_size == 3


def test_hessians_by_gates_that_are_copied_in_autograd():
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift, max_diff=2)
    def node(x, y):
        qml.RX(0.3, 0)
        qml.PCPhase(y[0], dim=1, wires=[0])
        qml.RX(y[1], 0)
        qml.GlobalPhase(x, 0)
        return qml.expval(qml.Z(0))

    x, y = pnp.array(0.2), pnp.array([0.4, 0.5])
    assert float(qml.grad(node, argnums=0)(x, y)) == pytest.approx(0.0, abs=1e-12)
    assert qml.jacobian(qml.grad(node, argnums=0), argnums=0)(x, y) == pytest.approx(0, abs=1e-12)
    found = qml.jacobian(qml.grad(node, argnums=1), argnums=1)(x, y)

    def right(y):
        cos, sin = jax.numpy.cos, jax.numpy.sin
        return cos(y[1]) * np.cos(0.3) - sin(y[1]) * np.sin(0.3) * cos(2 * y[0])

    np.testing.assert_allclose(found, jax.hessian(right)(np.array(y)), atol=1e-9)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("number", [1.7, np.float64(1.7), [1.7], [np.float64(1.7)]])
def test_numbers_beside_tensors_take_their_precision(number, dtype):
    tensor = tf.constant([2.0] if isinstance(number, list) else 2.0, dtype)
    product = qml.math.dot(number, tensor)
    assert product.dtype == dtype
    rounding = 1e-15 if dtype == tf.float64 else 1e-6
    assert float(product) == pytest.approx(3.4, rel=rounding)


def test_transforms_that_split_keep_single_precision():
    @qml.transforms.split_non_commuting
    @qshift.qnode(qshift.device("simulator"))
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.dot([1.7, 1.0], [qml.Y(0), qml.I(0)]))

    assert circuit(tf.constant(0.3)).dtype == tf.float32
    found = circuit(tf.constant(0.3, tf.float64))
    assert float(found) == pytest.approx(1 - 1.7 * np.sin(0.3), abs=1e-14)
