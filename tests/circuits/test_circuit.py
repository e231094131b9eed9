"""Tapes taken apart: structures, points, light cones, batches and data."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import GATES, PLAIN, RandomCircuit, tape_derivatives
from scipy import sparse

import qshift
from qshift.circuits.compiler import Compiler
from qshift.circuits.pennylane_internals import OPERATORS

# What PennyLane itself says of angles that are complex or of a wrong shape, from 0.46 on.
REFUSES = ValueError if OPERATORS[1:] else None
DEVICE = qml.device("default.qubit")
RNG = np.random.default_rng(3)


def compiler():
    return Compiler(None, tf.is_tensor)


def tape_of(function, *args, shots=None):
    with qml.queuing.AnnotatedQueue() as queue:
        function(*args)
    return qml.tape.QuantumScript.from_queue(queue, shots=shots)


def run(tapes):
    results = qml.execute(tapes, DEVICE)
    return [
        np.hstack([np.ravel(r) for r in (result if isinstance(result, tuple) else (result,))])
        for result in results
    ]


def tensors(*values):
    return [tf.constant(value, tf.float64) for value in values]


# --- points ---


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", GATES)
def test_bind_bind_each_and_the_tape_itself_agree(name):
    circuit = RandomCircuit(0, max(2, GATES[name].wires), 2, gates=2, names=[name])
    tape = tape_of(circuit, tf.constant(circuit.theta))
    compiled = compiler()(tape)
    structure = compiled.circuit
    here = np.array([np.real(np.asarray(p)) for p in compiled.parameters]).T
    points = here + np.array([[0.0], [0.3], [-1.1]]) * RNG.normal(size=structure.num_parameters)
    each = run(structure.bind_each(points))
    assert np.shape(each) == (3, structure.num_values)
    for point, values in zip(points, each, strict=True):
        np.testing.assert_allclose(run([structure.bind(point[None])])[0], values, atol=1e-12)
    # Broadcast over all points: measurement by measurement, each [3, size].
    if name in PLAIN and all(
        op.name in qml.ops.qubit.attributes.supports_broadcasting
        for op in structure.operations
        if op.data
    ):
        (results,) = qml.execute([structure.bind(points)], DEVICE)
        results = results if isinstance(results, tuple) else (results,)
        together = np.hstack([np.reshape(r, (3, -1)) for r in results])
        np.testing.assert_allclose(together, each, atol=1e-12)


def test_gates_that_do_not_move_are_not_broadcast():
    def function(x, y):
        qml.RX(x, wires=0)
        qml.RY(y, wires=0)
        qml.expval(qml.Z(0))

    circuit = compiler()(tape_of(function, *tensors(0.1, 0.2))).circuit
    moving, still = circuit.bind(np.array([[0.1, 0.2], [0.5, 0.2]])).operations
    assert moving.batch_size == 2
    assert still.batch_size is None and still.data == (0.2,)


def test_bind_each_shares_gates_that_are_the_same():
    def function(x, y):
        qml.RX(x, wires=0)
        qml.RY(y, wires=0)
        qml.expval(qml.Z(0))

    circuit = compiler()(tape_of(function, *tensors(0.1, 0.2))).circuit
    first, second = circuit.bind_each(np.array([[0.1, 0.2], [0.5, 0.2]]))
    assert first.operations[1] is second.operations[1]
    assert first.operations[0] is not second.operations[0]


# --- structures ---


def layers(x, constant, observable=None, wires=(0, 1), shots=None):
    qml.RX(x[0], wires=wires[0])
    qml.Rot(x[1], constant, x[0] * 2, wires=wires[1])
    qml.CNOT(wires=wires)
    qml.expval(qml.Z(wires[1]) if observable is None else observable)


def test_one_structure_serves_all_angles():
    compile_ = compiler()
    circuits = {
        compile_(tape_of(layers, tf.constant(RNG.normal(size=2)), 0.3)).circuit for _ in range(5)
    }
    assert len(circuits) == 1


@pytest.mark.parametrize(
    "args, settings",
    [
        ((0.3 + 1e-12,), {}),
        ((0.3, qml.X(1)), {}),
        ((0.3, (1 + 1e-9) * qml.Z(1)), {}),
        ((0.3, None, (1, 0)), {}),
        ((0.3,), {"shots": 10}),
    ],
    ids=["constant", "observable", "coefficient", "wires", "shots"],
)
def test_structures_differ_by_everything_but_angles(args, settings):
    compile_, x = compiler(), tf.constant([0.1, 0.2], tf.float64)
    first = compile_(tape_of(layers, x, 0.3, *([(1.0) * qml.Z(1)] if len(args) > 1 else [])))
    second = compile_(tape_of(layers, x, *args, **settings))
    assert first.circuit is not second.circuit
    again = compile_(tape_of(layers, x, *args, **settings))
    assert again.circuit is second.circuit


def test_sparse_constants_are_told_apart():
    def function(x, diagonal):
        qml.RX(x, wires=0)
        qml.expval(qml.SparseHamiltonian(sparse.csr_matrix(np.diag(diagonal)), wires=[0]))

    compile_ = compiler()
    one, other = (
        compile_(tape_of(function, *tensors(0.1), diagonal)).circuit
        for diagonal in ([1.0, 2.0], [1.0, 3.0])
    )
    assert one is not other
    values = [float(run(c.bind_each(np.array([[0.0]])))[0][0]) for c in (one, other)]
    assert values == [1.0, 1.0]
    values = [float(run(c.bind_each(np.array([[np.pi]])))[0][0]) for c in (one, other)]
    np.testing.assert_allclose(values, [2.0, 3.0])


def test_long_constants_are_told_apart():
    """NumPy abbreviates them when printed."""
    size = 2**11
    compile_, states = compiler(), np.ones((2, size)) / np.sqrt(size)
    states[1, size // 2] *= -1

    def function(x, state):
        qml.StatePrep(state, wires=range(11))
        qml.RX(x, wires=0)
        qml.expval(qml.Z(0))

    circuits = {compile_(tape_of(function, *tensors(0.1), state)).circuit for state in states}
    assert len(circuits) == 2


def test_the_number_of_structures_is_bounded():
    compile_, x = compiler(), tf.constant([0.1, 0.2], tf.float64)
    bound = compile_._circuits.maxsize
    first = compile_(tape_of(layers, x, 0.0)).circuit
    for constant in range(1, 2 * bound):
        compile_(tape_of(layers, x, float(constant)))
    assert len(compile_._circuits) <= bound
    assert compile_(tape_of(layers, x, 0.0)).circuit is not first


# --- light cones ---


@pytest.mark.parametrize("seed", range(6))
def test_cones_hold_everything_that_moves_a_value(seed):
    names = [name for name, gate in PLAIN.items() if gate.wires <= 2 and gate.angles == 1]
    circuit = RandomCircuit(seed, 5, 4, gates=5, measurements=3, names=names)
    structure = compiler()(tape_of(circuit, tf.constant(circuit.theta))).circuit
    points = RNG.uniform(-np.pi, np.pi, size=(6, structure.num_parameters))
    moved = np.zeros((structure.num_values, structure.num_parameters), dtype=bool)
    for point in points:
        (here,) = run(structure.bind_each(point[None]))
        shifted = np.repeat(point[None], structure.num_parameters, axis=0)
        shifted[np.diag_indices(structure.num_parameters)] += 1.3
        moved |= (np.abs(np.array(run(structure.bind_each(shifted))) - here) > 1e-9).T
    assert not (moved & ~structure.cones).any()
    assert set(np.flatnonzero(moved.any(axis=0))) <= set(structure.active_columns)


def test_cones_are_as_narrow_as_the_wires_say():
    def function(x):
        for wire in range(4):
            qml.RX(x[wire], wires=wire)
        qml.CNOT(wires=[0, 1])
        qml.RX(x[4], wires=0)
        qml.GlobalPhase(x[5])
        qml.expval(qml.Z(1))
        qml.probs(wires=[2, 3])
        qml.expval(qml.Z(0))

    structure = compiler()(tape_of(function, tf.constant(np.zeros(6)))).circuit
    first, *middle, last = structure.cones.astype(int).tolist()
    assert first[:5] == [1, 1, 0, 0, 0]
    assert middle == 4 * [middle[0]] and middle[0][:5] == [0, 0, 1, 1, 0]
    assert last[:5] == [1, 1, 0, 0, 1]
    assert structure.active_columns == (0, 1, 2, 3, 4)


def test_what_lies_outside_every_cone_costs_nothing_and_has_zero_derivatives(tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.RY(y, wires=1)
        return qml.expval(qml.Z(0))

    x, y = tf.Variable(0.4, dtype=tf.float64), tf.Variable(0.5, dtype=tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            value = circuit(x, y)
        by_x, by_y = inner.gradient(value, [x, y])
    assert by_y.numpy() == 0
    assert tracker.totals["circuits"] == 3
    # Zero, not None, in every order.
    assert outer.gradient(by_y, [x, y]) == [0, 0]
    assert outer.gradient(by_x, y) == 0


def test_circuits_that_nothing_depends_on_have_zero_derivatives():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        qml.GlobalPhase(x)
        return qml.expval(qml.X(0))

    derivatives = tape_derivatives(circuit, np.float64(0.3), 3)
    np.testing.assert_allclose(derivatives, [1, 0, 0, 0], atol=1e-15)


VANISHING = {
    "RX": lambda x: qml.ctrl(qml.pow(qml.RX(x, 1), 0), 0),
    "Rot": lambda x: qml.pow(qml.Rot(x, 2 * x, 0.3, 1), 0),
    "U3": lambda x: qml.pow(qml.U3(x, x, x, 1), 0),
    "template": lambda x: qml.BasicEntanglerLayers(tf.reshape(x, [1, 1])[:0], [1]),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
@pytest.mark.parametrize("diff_method", ["best", "adjoint"])
@pytest.mark.parametrize("name", VANISHING)
def test_gates_that_decompose_to_nothing_have_zero_derivatives(
    name, diff_method, device, compiled, tracker
):
    embedded = device != "default.qubit"

    @qshift.qnode(qml.device(device, wires=2), diff_method=diff_method, embedded=embedded)
    def circuit(x):
        qml.Hadamard(0)
        VANISHING[name](x)
        return qml.expval(qml.Z(1))

    function = tf.function(circuit) if compiled else circuit
    value, gradient, second = tape_derivatives(function, np.array(0.3), 2)
    assert (value, gradient, second) == (pytest.approx(1.0), 0.0, 0.0)
    assert tracker.totals["circuits"] == 1


def test_gates_that_decompose_to_nothing_keep_the_batch():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.pow(qml.U3(x, 0.1, x, 0), 0)
        return qml.expval(qml.Z(0))

    value, gradient = tape_derivatives(lambda x: tf.reduce_sum(circuit(x)), np.arange(3.0), 1)
    assert value == 3.0
    np.testing.assert_array_equal(gradient, np.zeros(3))


# --- batches ---


def single(x, y, z):
    qml.RX(x, wires=0)
    qml.RY(y, wires=1)
    qml.CRZ(z, wires=[0, 1])
    qml.Rot(x, 0.3, y, wires=1)
    return qml.expval(qml.X(1)), qml.probs(wires=0)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "default.mixed"])
@pytest.mark.parametrize("batched", [(0,), (1,), (0, 1), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("constant", [(), (0,), (1,), (2,), (0, 2)])
def test_every_mixture_of_batched_single_and_constant_inputs(device, batched, constant):
    """Constants are NumPy arrays; everything else is a tensor that is differentiated by."""
    args = [RNG.normal(size=3) if i in batched else RNG.normal() for i in range(3)]
    node = qshift.qnode(qml.device(device, wires=2), embedded=device != "default.qubit")(single)
    watched = [tf.constant(a, tf.float64) for i, a in enumerate(args) if i not in constant]

    def call(*watched):
        rest = iter(watched)
        return node(*[args[i] if i in constant else next(rest) for i in range(3)])

    weights = tf.constant([1.0, 2.0, -1.0], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        expval, probs = call(*watched)
        total = tf.reduce_sum(expval * weights)
    assert expval.shape == (3,) and probs.shape == (3, 2)
    gradients = tape.gradient(total, watched)
    # Entry by entry, without batches.
    plain = qshift.qnode(DEVICE, diff_method="shift")(single)
    sums = [np.zeros(np.shape(w)) for w in watched]
    for entry, weight in enumerate(weights.numpy()):
        here = tensors(*(a[entry] if i in batched else a for i, a in enumerate(args)))
        with tf.GradientTape() as tape:
            tape.watch(here)
            one, p = plain(*here)
        np.testing.assert_allclose(expval[entry], one, atol=1e-12)
        np.testing.assert_allclose(probs[entry], p, atol=1e-12)
        by = tape.gradient(one, here)
        for k, i in enumerate(i for i in range(3) if i not in constant):
            sums[k][entry if i in batched else ()] += weight * by[i].numpy()
    for gradient, expected in zip(gradients, sums, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_constant_batches_do_not_meet_the_batch_of_shifts(batch):
    """Two or three shifted points and a constant batch of the same length must not be paired."""
    data = RNG.normal(size=batch)

    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        qml.RY(data, wires=0)
        return qml.expval(qml.Z(0))

    value, first, second = tape_derivatives(circuit, np.float64(0.4), 2)
    np.testing.assert_allclose(value, np.cos(0.4) * np.cos(data), atol=1e-12)
    np.testing.assert_allclose(first, -np.sin(0.4) * np.cos(data), atol=1e-12)
    np.testing.assert_allclose(second, -np.cos(0.4) * np.cos(data), atol=1e-12)


def test_batched_constant_templates():
    weights, features = RNG.normal(size=(3, 1, 2, 3)), RNG.normal(size=(3, 2))

    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, weights, features):
        qml.AngleEmbedding(features, wires=[0, 1])
        qml.RX(x, wires=0)
        qml.StronglyEntanglingLayers(weights, wires=[0, 1])
        return qml.expval(qml.Z(0))

    def derivatives(*constants):
        return tape_derivatives(lambda x: circuit(x, *constants), np.float64(0.4), 1)

    for batched in ((weights, features), (weights, features[1]), (weights[1], features)):
        value, gradient = derivatives(*batched)
        for i in range(3):
            one = derivatives(*(c[i] if len(c) == 3 else c for c in batched))
            np.testing.assert_allclose([value[i], gradient[i]], one, atol=1e-12)


@pytest.mark.parametrize("make", [lambda v: tf.constant(v, tf.float64), np.array])
def test_batches_of_different_sizes_are_refused(make, tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.CRY(y, wires=[0, 1])
        return qml.expval(qml.Z(0))

    with pytest.raises(ValueError, match=r"2 \(in RX\) and 3 \(in CRY\)"):
        circuit(tf.constant([0.1, 0.2]), make([0.1, 0.2, 0.3]))
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize("shape", [(2, 3), (1, 1, 1)])
def test_angles_of_a_wrong_shape_are_refused(shape, tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    own = r"Parameter 0 of RX has shape .*expected 0 dimensions"
    with pytest.raises(ValueError, match="Parameter .* shape" if REFUSES else own):
        circuit(tf.ones(shape))
    assert tracker.totals["circuits"] == 0


# --- arrays as parameters ---

REAL = RNG.normal(size=4)
STATES = {
    "real": REAL / np.linalg.norm(REAL),
    "complex": REAL / np.linalg.norm(REAL) * np.exp(1j * np.arange(4)),
    "batch": np.array([[1.0, 0, 0, 0], [0.6, 0, 0.8, 0], [0.5, 0.5, -0.5, 0.5]]),
}
PREPARATIONS = {
    "StatePrep": lambda s: qml.StatePrep(s, wires=[0, 1]),
    "AmplitudeEmbedding": lambda s: qml.AmplitudeEmbedding(s, wires=[0, 1]),
    "padded": lambda s: qml.AmplitudeEmbedding(
        s[..., :3], wires=[0, 1], normalize=True, pad_with=0.0
    ),
    "Mottonen": lambda s: qml.MottonenStatePreparation(s, wires=[0, 1]),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("data", STATES)
@pytest.mark.parametrize("name", PREPARATIONS)
def test_states_are_data(name, data):
    def circuit(state, x):
        PREPARATIONS[name](state)
        qml.RX(x, wires=0)
        qml.CRY(x, wires=[0, 1])
        return qml.probs(wires=1)

    node = qshift.qnode(DEVICE, diff_method="shift")(circuit)
    compiled = tf.function(node)
    state, x = STATES[data], tf.constant(0.4, tf.float64)
    expected = qml.qnode(DEVICE)(circuit)(state, 0.4)
    for given in (state, tf.constant(state)):
        for function in (node, compiled):
            np.testing.assert_allclose(function(given, x), expected, atol=1e-12)
        derivatives = tape_derivatives(lambda x, s=given: node(s, x), np.float64(0.4), 1)
        step = 1e-5
        up, down = (qml.qnode(DEVICE)(circuit)(state, 0.4 + s) for s in (step, -step))
        np.testing.assert_allclose(derivatives[1], (up - down) / (2 * step), atol=1e-9)


@pytest.mark.parametrize("kind", [np.array, tf.constant])
def test_basis_states_are_data(kind):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(bits, x):
        qml.BasisEmbedding(bits, wires=[0, 1])
        qml.RX(x, wires=0)
        return qml.probs(wires=[0, 1])

    x, half = tf.constant(0.3, tf.float64), np.sin(0.15) ** 2
    for function in (circuit, tf.function(circuit)):
        np.testing.assert_allclose(function(kind([1, 0]), x), [half, 0, 1 - half, 0], atol=1e-12)
        np.testing.assert_allclose(function(kind([0, 1]), x), [0, 1 - half, 0, half], atol=1e-12)


@pytest.mark.parametrize("wires", [1, 2])
def test_unitaries_are_data(wires, tracker):
    unitary = np.linalg.qr(RNG.normal(size=(2**wires, 2**wires)) + 0.5j)[0]

    def circuit(unitary, x):
        qml.RX(x, wires=0)
        qml.QubitUnitary(unitary, wires=range(wires))
        return qml.expval(qml.Z(0))

    node = qshift.qnode(DEVICE, diff_method="shift")(circuit)
    expected = qml.qnode(DEVICE)(circuit)(unitary, 0.3)
    x = tf.Variable(0.3, dtype=tf.float64)
    for given in (unitary, tf.constant(unitary)):
        np.testing.assert_allclose(node(given, x), expected, atol=1e-12)
    tracker.reset()
    way_out = "QubitUnitary.*NumPy array, tf.stop_gradient"
    with pytest.raises(qshift.NoShiftRuleError, match=way_out), tf.GradientTape():
        node(tf.Variable(unitary), x)
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize("kind", [float, int, np.float32, np.array, np.float64])
def test_numbers_are_constants_of_the_circuit(kind, tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.RY(y, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.Variable(0.3, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = circuit(x, kind(1))
    assert value.shape == () and value.dtype == tf.float64
    assert value.numpy() == pytest.approx(np.cos(0.3) * np.cos(1.0))
    assert tape.gradient(value, x).numpy() == pytest.approx(-np.sin(0.3) * np.cos(1.0))
    assert tracker.totals["circuits"] == 3


def test_complex_angles_are_refused():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    if not REFUSES:
        assert circuit(tf.constant(0.3 + 0j)).numpy() == pytest.approx(np.cos(0.3))
    with pytest.raises(REFUSES or qshift.UnsupportedError, match="complex"):
        circuit(tf.constant(0.3 + 1j))


@pytest.mark.parametrize(
    "nothing",
    [
        lambda: qml.Barrier([0, 1, 2]),
        lambda: qml.Identity([0, 1, 2]),
        lambda: qml.GlobalPhase(0.3, wires=[0, 1, 2]),
    ],
)
def test_gates_that_do_nothing_do_not_widen_light_cones(nothing, tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        for wire in range(3):
            qml.RX(x[wire], wires=wire)
        nothing()
        return qml.expval(qml.Z(0))

    _, gradient = qshift.derivatives(circuit, tf.constant([0.3, 0.5, 0.7], tf.float64))
    np.testing.assert_allclose(gradient, [-np.sin(0.3), 0, 0], atol=1e-12)
    assert tracker.totals["circuits"] == 3


def test_identities_in_observables_do_not_widen_light_cones():
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RX(x[1], wires=1)
        return qml.expval(qml.Z(0) @ qml.Identity(1))

    assert circuit.plan(np.zeros(2), order=1).circuits == 3


@pytest.mark.parametrize(
    "gate",
    [
        lambda: qml.RX(1 + 1j, 0),
        lambda: qml.RX(np.complex128(1 + 1j), 0),
        lambda: qml.ctrl(qml.RX(1 + 1j, 0), 1),
        lambda: qml.adjoint(qml.Rot(0.1, 1j, 0.2, 0), lazy=True),
        lambda: qml.prod(qml.X(0), qml.RX(1j, 0)),
    ],
)
def test_complex_numbers_are_no_angles(gate):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RY(x, 0)
        gate()
        return qml.expval(qml.Z(0))

    match = "Parameter .*complex" if REFUSES else "Parameter .*complex.*angle is real"
    with pytest.raises(REFUSES or qshift.UnsupportedError, match=match):
        circuit(tf.constant(0.3))


def test_complex_factors_of_gates():
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RY(x, 0)
        qml.prod(qml.s_prod(1j, qml.X(0)), qml.RX(0.1 if REFUSES else 0.1 + 0j, 0))
        return qml.expval(qml.Z(0))

    assert float(circuit(tf.constant(0.3, tf.float64))) == pytest.approx(-np.cos(0.3) * np.cos(0.1))


def test_terms_without_weight_see_nothing():
    @qshift.qnode(qml.device("default.qubit", wires=2), diff_method="shift")
    def circuit(x, y):
        qml.RY(x, 0)
        qml.RY(y, 1)
        return qml.expval(qml.X(1) + 0 * qml.X(0) @ qml.X(1))

    with qshift.Tracker() as tracker:
        x, y = tf.constant(0.3, tf.float64), tf.constant(0.4, tf.float64)
        _, gradient = qshift.derivatives(circuit, x, y)
    assert [float(g) for g in gradient] == pytest.approx([0.0, np.cos(0.4)])
    assert tracker.totals["circuits"] == 3
