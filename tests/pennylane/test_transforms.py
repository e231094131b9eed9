import functools
import importlib.metadata
import pathlib
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane import numpy as pnp
from random_circuits import NESTED, PLAIN

import qshift
from qshift.circuits.pennylane_internals import OPERATORS
from qshift.executors.qiskit.device import EstimatorDevice

jax.config.update("jax_enable_x64", True)

X = np.array([0.1, 0.4, 0.7, 0.9])
GATES = {**PLAIN, **NESTED}


def ansatz(x):
    qml.RX(x[0], wires=0)
    qml.CRY(x[1], wires=[0, 1])
    qml.AngleEmbedding(x[2:], wires=[0, 1], rotation="Y")


def expval(x):
    ansatz(x)
    return qml.expval(qml.Z(0) @ qml.Y(1))


def variance(x):
    ansatz(x)
    return qml.var(0.3 * qml.Z(0) @ qml.Y(1) + qml.X(1))


def probabilities(x):
    ansatz(x)
    return qml.probs(wires=1)


def several(x):
    ansatz(x)
    return qml.probs(wires=1), qml.var(qml.Y(0) + qml.Z(1)), qml.expval(qml.X(1))


def coefficients(x):
    ansatz(x)
    return qml.expval(qml.Hamiltonian([x[0], 2 * x[1]], [qml.Z(0), qml.X(1) @ qml.X(0)]))


def outcomes(x):
    qml.RX(x[0], wires=0)
    outcome = qml.measure(0)
    qml.cond(outcome, qml.RY)(x[1], wires=1)
    qml.cond(~outcome, qml.CRX)(x[2], wires=[0, 1])
    return qml.expval(qml.Z(1)), qml.var(outcome), qml.probs(op=outcome)


def batches(x):
    x = qml.math.reshape(x, (2, 2))
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(x[0, 1], wires=1)
    return qml.expval(qml.Z(1)), qml.probs(wires=[0, 1])


CIRCUITS = [expval, variance, probabilities, several, coefficients, outcomes, batches]


def joined(qnode, concatenate):
    """A qnode whose results are one vector."""

    def function(x):
        results = qnode(x)
        if not isinstance(results, list | tuple):
            return results
        return concatenate([qml.math.reshape(result, (-1,)) for result in results])

    return function


@functools.cache
def truth(function):
    """Jacobian and Hessian by backpropagation."""
    qnode = qml.QNode(function, qml.device("default.qubit"), diff_method="backprop")
    jacobian = qml.jacobian(joined(qnode, qml.math.hstack))
    return jacobian(pnp.array(X)), qml.jacobian(jacobian)(pnp.array(X))


def by_shifts(function, order=1):
    device = qml.device("default.qubit")
    return qml.QNode(function, device, diff_method=qshift.param_shift, max_diff=order)


def autograd(function, order):
    flat = joined(by_shifts(function, order), qml.math.hstack)
    derivative = qml.jacobian(flat)
    return (qml.jacobian(derivative) if order == 2 else derivative)(pnp.array(X))


def jax_reverse(function, order):
    flat = joined(by_shifts(function, order), jnp.concatenate)
    return (jax.hessian(flat) if order == 2 else jax.jacrev(flat))(jnp.array(X))


def jax_forward(function, order):
    flat = joined(by_shifts(function, order), jnp.concatenate)
    derivative = jax.jacfwd(flat)
    return (jax.jacfwd(derivative) if order == 2 else derivative)(jnp.array(X))


def jax_compiled(function, order):
    flat = joined(by_shifts(function), jnp.concatenate)
    return jax.jit(jax.jacobian(flat))(jnp.array(X))


def tensorflow(function, order):
    flat, x = joined(by_shifts(function, order), lambda parts: tf.concat(parts, 0)), tf.Variable(X)
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape(persistent=True) as inner:
            value = flat(x)
        derivative = inner.jacobian(value, x, experimental_use_pfor=False)
    if order == 2:
        derivative = outer.jacobian(derivative, x, experimental_use_pfor=False)
    return derivative


def torch(function, order):
    torch = pytest.importorskip("torch")
    jacobian = torch.autograd.functional.jacobian
    flat, x = joined(by_shifts(function, order), torch.cat), torch.tensor(X)
    if order == 2:
        return jacobian(lambda y: jacobian(flat, y, create_graph=True), x)
    return jacobian(flat, x)


INTERFACES = [autograd, jax_reverse, jax_forward, jax_compiled, tensorflow, torch]


@pytest.mark.one_in(8)
@pytest.mark.filterwarnings("ignore:Support for the TensorFlow interface is deprecated")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("function", CIRCUITS)
def test_every_interface(function, interface, order):
    if order == 2 and (
        interface is jax_compiled  # which PennyLane differentiates once
        or interface is autograd
        and function is coefficients  # comes boxed, by any transform
    ):
        return
    want = truth(function)[order - 1]
    np.testing.assert_allclose(np.asarray(interface(function, order)), want, atol=1e-9)


# PennyLane would take finite differences, or fails.
UNKNOWN_TO_PENNYLANE = {
    *("Select", "cond", "CC(Rot)", "C(U3)", "C(PauliRot)"),
    *("C(Evolution)", "Evolution(1, 3)", "Evolution(irrational)"),
}
if OPERATORS[1:]:  # it has other rules since 0.46
    UNKNOWN_TO_PENNYLANE.remove("C(PauliRot)")
    UNKNOWN_TO_PENNYLANE.update(("RX**2.5", "C(RX**-2)", "CRX**0.5", "IsingXY**3"))


@pytest.mark.filterwarnings("ignore:Attempted to compute the gradient of a tape with no trainable")
@pytest.mark.parametrize("name", GATES)
def test_gates_and_counts(name):
    gate = GATES[name]

    def function(x):
        for wire in range(gate.wires):
            qml.Hadamard(wires=wire)
            qml.RY(0.3 + 0.2 * wire, wires=wire)
        gate.apply(x, list(range(gate.wires)))
        for wire in range(gate.wires):
            qml.RX(0.4 + 0.1 * wire, wires=wire)
        return qml.expval(qml.prod(*(qml.Z(wire) for wire in range(gate.wires))))

    def tape(x):
        made = qml.tape.make_qscript(function)(x)
        made.trainable_params = qml.math.get_trainable_indices(made.get_parameters())
        return made

    x = np.linspace(0.3, 1.1, gate.angles)
    steps = 1e-3 * np.eye(gate.angles)
    shifted = [tape(x + k * step) for step in steps for k in (-2, -1, 1, 2)]
    device = qml.device("default.qubit")
    plain = "Evolution" in name
    values = device.execute(shifted) if plain else qml.execute(shifted, device, diff_method=None)
    values = np.reshape(np.array(values), (gate.angles, 4))
    want = values @ np.array([1, -8, 8, -1]) / 12e-3

    given = tape(pnp.array(x))
    if "Evolution" in name:  # which PennyLane neither converts to NumPy nor runs with Autograd
        given = tape(x).copy(trainable_params=given.trainable_params)
    tapes, fn = qshift.param_shift(given, broadcast=False)
    if "Evolution" in name:
        got = fn(qml.device("default.qubit").execute(tapes))
    else:
        qnode = qml.QNode(function, qml.device("default.qubit"), diff_method=qshift.param_shift)
        got = qml.jacobian(qnode)(pnp.array(x))
    np.testing.assert_allclose(np.ravel(got), want, atol=1e-8)
    try:
        theirs, _ = qml.gradients.param_shift(given, fallback_fn=None)
    except Exception:
        assert name in UNKNOWN_TO_PENNYLANE
    else:
        assert name not in UNKNOWN_TO_PENNYLANE
        assert len(tapes) <= len(theirs)


def cosine_product_tape(p=4):
    gates = [qml.RX(0.1 + 0.3 * i, wires=i) for i in range(p)]
    return qml.tape.QuantumScript(
        [*gates, *(qml.CNOT(wires=[i, i + 1]) for i in range(p - 1))], [qml.expval(qml.Z(p - 1))]
    )


def run(tapes, fn):
    return fn(qml.execute(tapes, qml.device("default.qubit"), diff_method=None))


def test_hessians_take_the_fewest_tapes():
    tape = cosine_product_tape()
    tapes, fn = qshift.param_shift_hessian(tape, broadcast=False)
    assert len(tapes) == 1 + 4 + 3 * 6  # with the 2 p of a gradient, 1 + 2 p + 3 C(p, 2) = 27
    assert len(qml.gradients.param_shift_hessian(tape)[0]) == 1 + 4 + 4 * 6
    x = np.array(tape.get_parameters())
    want = np.prod(np.cos(x)) * np.outer(np.tan(x), np.tan(x))
    np.fill_diagonal(want, -np.prod(np.cos(x)))
    np.testing.assert_allclose(run(tapes, fn), want, atol=1e-12)
    (broadcast,), fn = qshift.param_shift_hessian(tape)
    assert broadcast.batch_size == 23
    np.testing.assert_allclose(run([broadcast], fn), want, atol=1e-12)


def test_hessians_with_finite_shots_have_the_least_variance():
    tape = cosine_product_tape().copy(shots=100)
    assert len(qshift.param_shift_hessian(tape, broadcast=False)[0]) == 1 + 4 + 4 * 6
    by_circuits = qshift.param_shift_hessian(tape, broadcast=False, objective="circuits")
    assert len(by_circuits[0]) == 23


# --- shots for all tapes together ---


def test_a_total_of_shots_for_a_gradient():
    """All shots are drawn, gradients are unbiased, and their errors are those that the rules allow:
    the summed variance is the square of the sum of all |c| over the shots, or less. Equal shots
    would leave 1.4 times as much."""

    def circuit(x):
        qml.CRX(x[0], wires=[0, 1])
        qml.IsingXY(x[1], wires=[1, 2])
        qml.CRY(x[2], wires=[2, 0])
        qml.RX(x[3], wires=1)
        return qml.expval(qml.Y(0) @ qml.X(1) @ qml.Y(2))

    device = qml.device("default.qubit", seed=5)
    total = {"shots": qshift.Shots(total=3000)}
    node = qml.QNode(
        circuit, device, diff_method=qshift.param_shift, shots=10, gradient_kwargs=total
    )
    with qml.Tracker(device) as tracker:
        found = np.array([qml.grad(node)(pnp.array(X)) for _ in range(40)])
    assert tracker.totals["shots"] == 40 * (10 + 3000)
    exact = qml.grad(qml.QNode(circuit, device))(pnp.array(X))
    spread = found.std(axis=0) + 1e-9
    assert (np.abs(found.mean(axis=0) - exact) < 5 * spread / np.sqrt(40)).all()
    assert ((found - exact) ** 2).sum(axis=1).mean() * 3000 < 1.2 * 4**2


def test_tapes_of_equal_shots_are_broadcast_together():
    tape = cosine_product_tape().copy(shots=100)
    tapes, fn = qshift.param_shift_hessian(tape, shots=qshift.Shots(total=100_000))
    numbers = [each.shots.total_shots for each in tapes]
    sizes = [each.batch_size or 1 for each in tapes]
    assert len(set(numbers)) == len(numbers) > 1 and sum(sizes) == 1 + 4 + 4 * 6
    assert np.dot(numbers, sizes) == 100_000
    exact, of_exact = qshift.param_shift_hessian(cosine_product_tape())
    device = qml.device("default.qubit", seed=1)
    found, right = fn(device.execute(tapes)), of_exact(device.execute(exact))
    np.testing.assert_allclose(np.array(found), np.array(right), atol=0.2)
    alone, _ = qshift.param_shift_hessian(
        tape, shots=qshift.Shots(per_circuit=100, equal=True), broadcast=False
    )
    assert {each.shots.total_shots for each in alone} == {100}


def test_totals_count_the_samples_in_all_bases():
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        return qml.expval(qml.Z(0) + qml.X(0) + qml.Y(1))

    with qml.queuing.AnnotatedQueue() as queue:
        circuit(X)
    tape = qml.tape.QuantumScript.from_queue(queue, shots=10)
    tapes, _ = qshift.param_shift(tape, shots=qshift.Shots(total=600), broadcast=False)
    assert sum(each.shots.total_shots for each in tapes) == 300  # in each of two bases


@pytest.mark.parametrize(
    "shots, message",
    [
        (1000, "takes qshift.Shots"),
        (qshift.Shots(error=0.1), "no pilot share and no error to aim at"),
        (qshift.Shots(total=1000, pilot=0.1), "no pilot share"),
        (
            qshift.Shots(total=7),
            "8 circuits takes 7 shots in all, less than 2 for each. Give Shots.total=16. or more",
        ),
        (
            qshift.Shots(total=30, least=5),
            "less than 5 for each. Give Shots.total=40. or more, or use qshift.qnode",
        ),
    ],
)
def test_shots_that_cannot_be_spread(shots, message):
    tape = cosine_product_tape()
    with pytest.raises(ValueError, match=message):
        qshift.param_shift(tape.copy(shots=100), shots=shots)
    for without in (tape, tape.copy(shots=(10, 20))):
        with pytest.raises(ValueError, match="a number of shots for its value"):
            qshift.param_shift(without, shots=qshift.Shots(total=1000))


@pytest.mark.parametrize("transform", [qshift.param_shift, qshift.param_shift_hessian])
def test_totals_of_all_kinds_of_results(transform):
    measured = [
        qml.expval(qml.Z(0) @ qml.Y(1)),
        qml.var(0.3 * qml.Z(0) @ qml.Y(1) + qml.X(1)),
        qml.probs(wires=1),
    ]
    gates = [qml.RX(0.1, wires=0), qml.CRY(0.4, wires=[0, 1]), qml.RY(0.7, wires=0)]
    device = qml.device("default.qubit", seed=3)
    for some in ([measured[1]], [measured[2]], measured):
        tape = qml.tape.QuantumScript(gates, some, trainable_params=[0, 1, 2])
        exact, fn = transform(tape)
        right = fn(device.execute(exact))
        tapes, fn = transform(tape.copy(shots=10), shots=qshift.Shots(total=1_000_000))
        found = fn(device.execute(tapes))
        pairs = zip(qml.pytrees.flatten(found)[0], qml.pytrees.flatten(right)[0], strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=0.1)


@pytest.mark.parametrize("function", [expval, variance, probabilities])
def test_hessians_of_qnodes(function):
    hessian = qshift.param_shift_hessian(by_shifts(function))(pnp.array(X))
    want = np.moveaxis(np.reshape(truth(function)[1], (-1, 4, 4)), 0, -1)
    got = np.reshape(np.array(hessian), (4, 4, -1))
    np.testing.assert_allclose(got, want, atol=1e-9)


def counted(function, diff_method, differentiate):
    device = qml.device("default.qubit")
    qnode = qml.QNode(function, device, diff_method=diff_method, max_diff=2)
    with qml.Tracker(device) as tracker:
        differentiate(qnode)
    return tracker.totals["simulations"], tracker.totals["executions"]


GRADIENTS = {
    "autograd": lambda qnode: qml.grad(qnode)(pnp.array(X)),
    "jax": lambda qnode: jax.grad(qnode)(jnp.array(X)),
}
SECOND = {
    "autograd": lambda qnode: qml.jacobian(qml.grad(qnode))(pnp.array(X)),
    "jax": lambda qnode: jax.hessian(qnode)(jnp.array(X)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("interface", GRADIENTS)
def test_gradients_are_one_broadcast_tape(interface):
    counts = counted(expval, qshift.param_shift, GRADIENTS[interface])
    assert counts == (1 + 1, 1 + 2 + 4 + 2 + 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("interface", SECOND)
def test_derivatives_of_derivatives_find_equal_tapes(interface):
    _, executions = counted(expval, qshift.param_shift, SECOND[interface])
    _, theirs = counted(expval, "parameter-shift", SECOND[interface])
    # JAX traces the first gradient twice, and once nobody differentiates it.
    assert executions <= theirs + (interface == "jax") * (2 + 4 + 2 + 2)


def test_variances_come_out_of_the_same_tapes():
    """PennyLane runs shifted tapes twice, for the observable and for its square."""
    observable = qml.Hermitian(np.array([[1.0, 0.3j], [-0.3j, -0.5]]), wires=0)
    tape = qml.tape.QuantumScript([qml.RX(0.3, wires=0)], [qml.var(observable)])
    tape.trainable_params = [0]
    assert len(qshift.param_shift(tape, broadcast=False)[0]) == 3
    assert len(qml.gradients.param_shift(tape)[0]) == 5


class Cubic(qml.operation.Operation):
    """exp(-i x diag(0, 1, 3, 4)): frequencies 1, 2, 3, 4 without 2 and 4 in the observable."""

    num_params = 1
    num_wires = 1
    ndim_params = (0,)
    parameter_frequencies = [(1, 3)]

    @staticmethod
    def compute_decomposition(x, wires):
        return [qml.RX(x, wires), qml.Barrier(wires), qml.RX(2 * x, wires)]


def test_frequencies_that_are_not_equidistant():
    """The circuit gives cos 3x, whose derivative PennyLane's rule for (1, 3) gets wrong."""
    x, device = 0.2, qml.device("default.qubit")

    def derivative(diff_method):
        @qml.qnode(device, diff_method=diff_method)
        def circuit(x):
            Cubic(x, wires=0)
            return qml.expval(qml.Z(0))

        return qml.grad(circuit)(pnp.array(x))

    np.testing.assert_allclose(derivative(qshift.param_shift), -3 * np.sin(3 * x), atol=1e-12)
    assert abs(derivative(qml.gradients.param_shift) + 3 * np.sin(3 * x)) > 0.1


def test_shots_and_measurements_are_laid_out_as_by_pennylane():
    @qml.set_shots((50_000, 60_000))
    @qml.qnode(qml.device("default.qubit", seed=1))
    def circuit(x):
        ansatz(x)
        return qml.probs(wires=1), qml.expval(qml.Z(0) @ qml.Y(1))

    got = qshift.param_shift(circuit)(pnp.array(X))
    assert [[np.shape(result) for result in copy] for copy in got] == [[(2, 4), (4,)]] * 2
    want = [truth(probabilities)[0], truth(expval)[0]]
    for copy in got:
        for result, exact in zip(copy, want, strict=True):
            np.testing.assert_allclose(result, exact, atol=0.03)


def test_chosen_parameters_and_rules():
    tape = cosine_product_tape(3)
    whole = run(*qshift.param_shift(tape))
    tapes, fn = qshift.param_shift(tape, argnum=[1], broadcast=False)
    assert len(tapes) == 2
    np.testing.assert_allclose(run(tapes, fn), [0, whole[1], 0], atol=1e-12)
    tapes, fn = qshift.param_shift(tape, argnum=1, shifts=[(0.4,)], broadcast=False)
    assert sorted(t.get_parameters()[1] - 0.4 for t in tapes) == pytest.approx([-0.4, 0.4])
    np.testing.assert_allclose(run(tapes, fn)[1], whole[1], atol=1e-12)
    recipe = [[2.0, 1.0, 0.0], [-1.0, 1.0, 0.1], [-1.0, 1.0, -0.1]]
    value = run([tape], lambda results: results[0])
    ran, fn = qshift.param_shift(tape, argnum=1, gradient_recipes=[recipe], broadcast=False)
    spared, fn_spared = qshift.param_shift(
        tape, argnum=1, gradient_recipes=[recipe], f0=value, broadcast=False
    )
    assert (len(ran), len(spared)) == (3, 2)
    np.testing.assert_allclose(run(spared, fn_spared), run(ran, fn), atol=1e-12)


@pytest.mark.parametrize("measurement", [qml.expval(qml.Z(0)), qml.var(qml.Z(0))])
@pytest.mark.parametrize("transform", [qshift.param_shift, qshift.param_shift_hessian])
def test_numpy_results_are_arrays(measurement, transform):
    tape = qml.tape.QuantumScript([qml.RX(0.3, wires=0)], [measurement] * 2)
    for result in run(*transform(tape)):
        assert type(result) is np.ndarray and result.shape == ()


@pytest.mark.parametrize("x", [1, np.int8(1), pnp.int64(1), pnp.array(1)])
def test_integer_parameters(x):
    tape = qml.tape.QuantumScript([qml.RX(x, wires=0)], [qml.expval(qml.Z(0))])
    np.testing.assert_allclose(run(*qshift.param_shift(tape)), -np.sin(1), atol=1e-12)
    np.testing.assert_allclose(run(*qshift.param_shift_hessian(tape)), -np.cos(1), atol=1e-12)


def test_recipes_that_cancel_run_nothing():
    tape = qml.tape.QuantumScript(
        [qml.RX(0.3, wires=0)], [qml.expval(qml.Z(0)), qml.probs(wires=0)]
    )
    nothing = [[-2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]
    tapes, fn = qshift.param_shift(tape, gradient_recipes=[nothing])
    assert tapes == []
    assert [np.shape(result) for result in fn([])] == [(), (2,)]
    assert not np.hstack(fn([])).any()


def test_what_is_not_marked_on_a_tape_is_not_differentiated_by():
    matrix = pnp.array([[1.0, 0.4], [0.4, -2.0]])  # which asks to be differentiated by
    angles = pnp.array([[0.1, 0.2]])
    tape = qml.tape.QuantumScript(
        [qml.RX(0.3, wires=0), qml.BasicEntanglerLayers(angles, wires=[0, 1])],
        [qml.expval(qml.Hermitian(matrix, wires=0)), qml.var(qml.Hermitian(matrix, wires=1))],
        trainable_params=[0],
    )
    weights = pnp.array([1.5, 2.5])
    hamiltonian = qml.Hamiltonian(weights, [qml.Z(0), qml.Hermitian(matrix, wires=0)])
    of_terms = qml.tape.QuantumScript(
        [qml.RX(0.3, wires=0)], [qml.expval(hamiltonian)], trainable_params=[0, 1, 2]
    )
    for each in (tape, of_terms):
        ahead, behind = (
            run([each.bind_new_parameters([0.3 + h], [0])], lambda results: results[0])
            for h in (1e-5, -1e-5)
        )
        exact = np.subtract(ahead, behind) / 2e-5
        np.testing.assert_allclose(run(*qshift.param_shift(each)), exact, atol=1e-8)


def test_what_nothing_depends_on_costs_nothing():
    tape = qml.tape.QuantumScript(
        [qml.RX(0.3, wires=0), qml.RY(0.4, wires=1)], [qml.expval(qml.Z(0)), qml.probs(wires=0)]
    )
    tapes, fn = qshift.param_shift(tape, argnum=1)
    assert tapes == []
    assert [np.shape(d) for row in fn([]) for d in row] == [(), (), (2,), (2,)]
    tapes, fn = qshift.param_shift(tape, broadcast=False)
    assert len(tapes) == 2
    np.testing.assert_allclose(run(tapes, fn)[0], [-np.sin(0.3), 0], atol=1e-12)


def test_errors_name_the_gate():
    tape = qml.tape.QuantumScript([qml.AmplitudeDamping(0.1, wires=0)], [qml.expval(qml.Z(0))])
    with pytest.raises(qshift.NoShiftRuleError, match="AmplitudeDamping"):
        qshift.param_shift(tape)
    matrix = qml.QubitUnitary(np.eye(2), wires=0)
    with pytest.raises(qshift.NoShiftRuleError, match="QubitUnitary"):
        qshift.param_shift(qml.tape.QuantumScript([matrix], [qml.expval(qml.Z(0))]))


@pytest.mark.parametrize(
    "measurement, match",
    [
        (qml.state(), "state"),
        (qml.expval(qml.Hermitian(np.eye(2), wires=0)), "Hermitian.*trainable"),
    ],
)
def test_what_has_no_derivative_says_so(measurement, match):
    tape = qml.tape.QuantumScript([qml.RX(0.1, wires=0)], [measurement])
    with pytest.raises(qshift.UnsupportedError, match=match):
        qshift.param_shift(tape)


def test_postselection_is_refused():
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(x):
        qml.RX(x, wires=0)
        qml.measure(0, postselect=1)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="Postselection"):
        qml.grad(circuit)(pnp.array(0.3))


def test_coefficients_of_observables_need_the_interface():
    with pytest.raises(qshift.UnsupportedError, match="Coefficients"):
        qshift.param_shift(by_shifts(coefficients))(pnp.array(X))


def test_hessians_do_not_skip_the_curvature_of_what_is_classical():
    @qml.qnode(qml.device("default.qubit"))
    def affine(x):
        qml.RX(2 * x + 1, wires=0)
        return qml.expval(qml.Z(0))

    @qml.qnode(qml.device("default.qubit"))
    def curved(x):
        qml.RX(x**2, wires=0)
        return qml.expval(qml.Z(0))

    x = pnp.array(0.3)
    want = -4 * np.cos(2 * x + 1)
    np.testing.assert_allclose(qshift.param_shift_hessian(affine)(x), want, atol=1e-12)
    with pytest.raises(qshift.UnsupportedError, match="affine"):
        qshift.param_shift_hessian(curved)(x)


def test_hessians_of_qnodes_with_nested_arguments():
    @qml.qnode(qml.device("default.qubit"))
    def circuit(x, fixed):
        qml.RX(2 * x + fixed[0], wires=0)
        qml.RY(fixed[1]["angle"], wires=0)
        return qml.expval(qml.Z(0))

    fixed = [1, {"angle": 0.5}]
    got = qshift.param_shift_hessian(circuit)(pnp.array(0.3), fixed)
    np.testing.assert_allclose(got, -4 * np.cos(1.6) * np.cos(0.5), atol=1e-12)


def test_pennylanes_tools_on_a_qnode():
    device = qml.device("default.qubit", seed=3)
    qnode = qml.QNode(expval, device, diff_method=qshift.param_shift)
    plain = qml.QNode(expval, device, diff_method="parameter-shift")
    x = pnp.array(X)
    for level in ("top", "user", "gradient", "device"):
        assert qml.draw(qnode, level=level)(x) == qml.draw(plain, level=level)(x)
        resources = [qml.specs(q, level=level)(x)["resources"] for q in (qnode, plain)]
        assert resources[0] == resources[1]
    figure, _ = qml.draw_mpl(qnode)(x)
    assert figure.axes
    assert qml.draw(qshift.param_shift(qnode))(x).count("┤ ╭<Z@Y>") == 2 + 4 + 2 + 2

    with qml.Tracker(device) as tracker:
        gradient = qml.grad(qnode)(x)
    assert (tracker.totals["batches"], tracker.totals["executions"]) == (2, 1 + 2 + 4 + 2 + 2)
    np.testing.assert_allclose(gradient, truth(expval)[0], atol=1e-12)
    with qml.Tracker(device) as tracker:
        gradient = qml.grad(qml.set_shots(qnode, 40_000))(x)
    assert tracker.totals["shots"] == 40_000 * (1 + 2 + 4 + 2 + 2)
    np.testing.assert_allclose(gradient, truth(expval)[0], atol=0.05)
    assert np.abs(gradient - truth(expval)[0]).max() > 1e-6


def test_as_a_keyword_of_a_qshift_qnode():
    @qshift.qnode(qml.device("lightning.qubit", wires=1), diff_method=qshift.param_shift)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    assert circuit.diff_method == "shift"


def test_the_estimator_is_a_pennylane_plugin():
    text = (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
    plugins = tomllib.loads(text)["project"]["entry-points"]["pennylane.plugins"]
    point = importlib.metadata.EntryPoint(
        "qshift.estimator", plugins["qshift.estimator"], "pennylane.plugins"
    )
    device_class = point.load()
    assert device_class.name == "qshift.estimator"
    device = device_class(wires=2, backend="aer")

    @qml.qnode(device, diff_method=qshift.param_shift)
    def circuit(x):
        ansatz(x)
        return qml.expval(qml.Z(0) @ qml.Y(1))

    with qshift.Tracker() as tracker:
        gradient = qml.grad(circuit)(pnp.array(X))
    np.testing.assert_allclose(gradient, truth(expval)[0], atol=1e-9)
    assert tracker.totals["jobs"] == 2  # the value and all shifted circuits
    assert tracker.totals["transpilations"] == 1
    assert tracker.totals["circuits"] == 1 + 2 + 4 + 2 + 2


@pytest.mark.parametrize("measure", [qml.state, qml.sample, qml.counts])
def test_the_estimator_says_what_it_does_not_measure(measure):
    device = EstimatorDevice(wires=1, backend="aer")

    @qml.set_shots(None if measure is qml.state else 10)
    @qml.qnode(device)
    def circuit():
        qml.X(0)
        return measure()

    with pytest.raises(qml.exceptions.DeviceError, match="not accepted.*qshift.estimator"):
        circuit()


@pytest.mark.parametrize("pfor", [False, True])
def test_complex_times_of_evolutions_have_real_derivatives_of_the_angles(pfor):
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(time):
        qml.Hadamard(0)
        qml.CommutingEvolution(qml.Z(0), tf.cast(time[0], tf.complex128))
        return qml.expval(qml.X(0)), qml.probs(wires=0)

    time = tf.Variable([0.3], dtype=tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        value = tf.concat([tf.reshape(result, [-1]) for result in circuit(time)], 0)
    jacobian = tape.jacobian(value, time, experimental_use_pfor=pfor)
    np.testing.assert_allclose(value, [np.cos(0.6), 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(jacobian[:, 0], [-2 * np.sin(0.6), 0, 0], atol=1e-12)


def test_gates_that_pennylane_cannot_broadcast():
    """It decomposes them, on lightning, into what takes one angle."""

    @qml.qnode(qml.device("lightning.qubit", wires=2), diff_method=qshift.param_shift)
    def circuit(x):
        qml.RY(0.3, 0)
        qml.FermionicSWAP(x, [0, 1])
        return qml.expval(qml.Z(0))

    try:
        qml.qnode(qml.device("lightning.qubit", wires=2))(circuit.func)(0.4)
    except AttributeError as error:  # pennylane-lightning 0.46.0.dev15
        pytest.skip(f"lightning does not run PennyLane's gates: {error}")
    x, step = pnp.array(0.4), 1e-5
    expected = (circuit(0.4 + step) - circuit(0.4 - step)) / (2 * step)
    assert qml.grad(circuit)(x) == pytest.approx(expected, abs=1e-8)
