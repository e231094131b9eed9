"""Spectra of gates against spectra found numerically."""

import gc
import itertools
import weakref

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import NESTED, PLAIN, tape_derivatives

import qshift
from qshift.circuits.spectra import spectra
from qshift.rules.planner import Frequencies, Recipe

DEFAULT_MIXED = qml.device("default.mixed", wires=2)


def gate_matrix(apply, angles, wires):
    """Returns a gate's matrix from what it does, complex128[2**wires, 2**wires]."""
    with qml.queuing.AnnotatedQueue() as queue:
        apply(angles, list(range(wires)))
    return qml.matrix(qml.tape.QuantumScript.from_queue(queue), wire_order=range(wires))


def measured_frequencies(function, candidates, period):
    """Returns which of the candidate frequencies a real function of one angle contains.

    By least squares over a fine grid of angles, with the constant taken off.
    """
    angles = np.linspace(0, period, 8 * len(candidates) + 64, endpoint=False)
    values = np.array([function(angle) for angle in angles])
    phases = np.outer(angles, candidates)
    basis = np.hstack([np.ones((len(angles), 1)), np.cos(phases), np.sin(phases)])
    coefficients, *_ = np.linalg.lstsq(basis, values, rcond=None)
    assert np.abs(basis @ coefficients - values).max() < 1e-9, "frequencies beyond the candidates"
    cosines, sines = coefficients[1:].reshape(2, -1)
    return {w for w, c, s in zip(candidates, cosines, sines, strict=True) if np.hypot(c, s) > 1e-9}


def random_expectation(rng, matrix):
    """Returns a function of an angle: the expectation value of random states and observables."""
    size = len(matrix(0.0))
    state = rng.normal(size=size) + 1j * rng.normal(size=size)
    state /= np.linalg.norm(state)
    observable = rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size))
    observable = observable + observable.conj().T

    def expectation(angle):
        after = matrix(angle) @ state
        return float(np.real(after.conj() @ observable @ after))

    return expectation


# What decomposes instead: Exp is given by its complex exponent, fractional powers have branches.
DECOMPOSED = set("Exp CRX**0.5 RX**2.5 CC(Rot) C(U3) Prod Select ControlledSequence cond".split())
EXACT = {
    name: gate
    for name, gate in (PLAIN | NESTED).items()
    if name not in DECOMPOSED and "irrational" not in name and "C(Evo" not in name
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "name, parameter", [(name, i) for name, gate in EXACT.items() for i in range(gate.angles)]
)
def test_spectra_are_those_of_random_expectation_values(name, parameter):
    gate, rng = EXACT[name], np.random.default_rng(0)
    angles = rng.uniform(0.3, 2.8, size=gate.angles).tolist()

    def matrix(angle):
        return gate_matrix(
            gate.apply, [*angles[:parameter], angle, *angles[parameter + 1 :]], gate.wires
        )

    candidates = np.arange(1, 17) / 4
    found = measured_frequencies(random_expectation(rng, matrix), candidates, 8 * np.pi)
    with qml.queuing.AnnotatedQueue() as queue:
        gate.apply(angles, list(range(gate.wires)))
    (op,) = qml.tape.QuantumScript.from_queue(queue).operations
    (spectrum,) = [s for i, s in enumerate(spectra(op)) if i == parameter]
    np.testing.assert_allclose(sorted(spectrum.values), sorted(found), atol=1e-9)


@pytest.mark.parametrize("name", ["Evolution(irrational)", "C(Evolution)"])
def test_irrational_spectra_are_those_of_the_generator(name):
    gate, rng = NESTED[name], np.random.default_rng(1)
    step = 1e-3
    # From two matrices alone: G = i log(U(x + step) U(x)^-1) / step.
    ratio = (
        gate_matrix(gate.apply, [0.5 + step], gate.wires)
        @ gate_matrix(gate.apply, [0.5], gate.wires).conj().T
    )
    energies = np.unique((np.angle(np.linalg.eigvals(ratio)) / step).round(8))
    expected = {
        round(abs(a - b), 7) for a, b in itertools.combinations(energies, 2) if abs(a - b) > 1e-6
    }
    with qml.queuing.AnnotatedQueue() as queue:
        gate.apply([rng.uniform()], list(range(gate.wires)))
    (op,) = qml.tape.QuantumScript.from_queue(queue).operations
    (spectrum,) = spectra(op)
    np.testing.assert_allclose(sorted(spectrum.values), sorted(expected), atol=1e-6)


def test_an_evolution_has_the_spectrum_of_its_own_hamiltonian():
    def evolution(coefficient):
        hamiltonian = qml.Hamiltonian([0.5, coefficient], [qml.X(0), qml.Z(1)])
        return qml.evolve(hamiltonian, 0.3)

    assert spectra(evolution(1.0))[0].values == pytest.approx((1.0, 2.0, 3.0))
    assert spectra(evolution(1.5))[0].values == pytest.approx((1.0, 2.0, 3.0, 4.0))
    assert spectra(evolution(1.0))[0].values == pytest.approx((1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "op",
    [
        qml.QubitUnitary(np.eye(2), wires=0),
        qml.StatePrep(np.array([1.0, 0.0]), wires=0),
        qml.AmplitudeDamping(0.1, wires=0),
        qml.PhaseDamping(0.1, wires=0),
        qml.pow(qml.CRX(0.3, wires=[0, 1]), 0.5, lazy=True),
        qml.ctrl(qml.pow(qml.RX(0.3, wires=1), 0.5, lazy=True), control=0),
        qml.exp(qml.Z(0), -0.3j),
        *[getattr(qml, name)(0.1, 0.2, wires=0) for name in ["Displacement"] if hasattr(qml, name)],
        qml.StronglyEntanglingLayers(np.zeros((1, 2, 3)), wires=[0, 1]),
        qml.prod(qml.RX(0.1, 0), qml.RY(0.2, 1)),
    ],
    ids=lambda op: op.name,
)
def test_gates_without_a_rule_have_none(op):
    assert set(spectra(op)) == {None}


def test_an_angle_that_nothing_depends_on_has_no_frequencies():
    assert spectra(qml.GlobalPhase(0.1)) == (Frequencies(()),)


def test_a_pauli_word_of_identities_is_a_phase():
    op = qml.PauliRot(0.1, "II", wires=[0, 1])
    assert spectra(op) == (Frequencies(()),)
    assert spectra(qml.ctrl(op, control=2)) == (Frequencies((0.5,)),)


def test_a_wide_pauli_word_needs_no_matrix():
    op = qml.PauliRot(0.2, "XYZ" * 20, wires=range(60))
    assert spectra(op) == (Frequencies((1.0,)),)


def test_what_is_remembered_of_a_gate_keeps_no_graph_alive():
    @tf.function
    def traced(x):
        spectra(qml.PauliRot(x, "XZYXYZ", wires=range(6)))
        return x

    concrete = traced.get_concrete_function(tf.TensorSpec([], tf.float64))
    graph = weakref.ref(concrete.graph)
    del concrete, traced
    gc.collect()
    assert graph() is None


# --- custom gates ---


class StatedFrequencies(qml.operation.Operation):
    """Rotates two wires by different multiples of one angle: frequencies 1, 3 and 2, 4."""

    num_params, num_wires, ndim_params = 1, 2, (0,)
    parameter_frequencies = [(1, 2, 3, 4)]

    @staticmethod
    def compute_matrix(x):
        return np.kron(qml.RX.compute_matrix(x), qml.RX.compute_matrix(3 * x))


class InheritedFrequencies(StatedFrequencies):
    """A subclass that states nothing itself."""


class GeneratorOnly(qml.operation.Operation):
    """exp(i x G), known by its generator."""

    num_params, num_wires, ndim_params = 1, 2, (0,)

    def generator(self):
        return -0.5 * qml.X(self.wires[0]) - 1.5 * qml.X(self.wires[1])

    @staticmethod
    def compute_matrix(x):
        return StatedFrequencies.compute_matrix(x)


class StatedRecipe(qml.operation.Operation):
    """An RX that brings a recipe with shifts of its own."""

    num_params, num_wires, ndim_params = 1, 1, (0,)
    grad_recipe = ([[1 / (2 * np.sin(0.7)), 1, 0.7], [-1 / (2 * np.sin(0.7)), 1, -0.7]],)

    @staticmethod
    def compute_matrix(x):
        return qml.RX.compute_matrix(x)


class RecipeAndFrequencies(qml.operation.Operation):
    """Two angles, one with a recipe, one with frequencies."""

    num_params, num_wires, ndim_params = 2, 1, (0, 0)
    grad_recipe = (StatedRecipe.grad_recipe[0], None)
    parameter_frequencies = [(1,), (1,)]

    @staticmethod
    def compute_matrix(x, y):
        return qml.RY.compute_matrix(y) @ qml.RX.compute_matrix(x)


@pytest.mark.parametrize("gate", [StatedFrequencies, InheritedFrequencies, GeneratorOnly])
@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_custom_gates(gate, objective):
    @qshift.qnode(qml.device("default.qubit"), objective=objective)
    def circuit(x):
        gate(x, wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1))

    # cos(x) cos(3x) = (cos(2x) + cos(4x)) / 2
    got = qshift.derivatives(circuit, tf.constant(0.4, tf.float64), order=3)
    expected = [
        (2**k * np.cos(0.8 + k * np.pi / 2) + 4**k * np.cos(1.6 + k * np.pi / 2)) / 2
        for k in range(4)
    ]
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_a_custom_gate_with_a_recipe():
    assert isinstance(spectra(StatedRecipe(0.1, wires=0))[0], Recipe)

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        StatedRecipe(x, wires=0)
        return qml.expval(qml.Z(0))

    got = qshift.derivatives(circuit, tf.constant(0.4, tf.float64), order=4)
    np.testing.assert_allclose(got, [np.cos(0.4 + k * np.pi / 2) for k in range(5)], atol=1e-12)


def test_recipes_and_frequencies_combine():
    recipe, frequencies = spectra(RecipeAndFrequencies(0.1, 0.2, wires=0))
    assert isinstance(recipe, Recipe)
    assert frequencies == Frequencies((1.0,))


class Withdrawn(qml.PhaseShift):
    """Says that the rule it inherits does not hold."""

    grad_method = None

    def decomposition(self):
        return [qml.RY(3 * self.data[0], wires=self.wires)]


@pytest.mark.parametrize("nested", [lambda op: op, qml.adjoint, lambda op: qml.ctrl(op, 1)])
def test_a_rule_that_is_withdrawn_is_not_inherited(nested):
    assert spectra(nested(Withdrawn(0.1, wires=0))) == (None,)
    assert spectra(nested(qml.PhaseShift(0.1, wires=0))) != (None,)


@pytest.mark.parametrize("diff_method", ["shift", "adjoint"])
def test_a_withdrawn_rule_leaves_the_decomposition(diff_method):
    @qshift.qnode(qml.device("default.qubit"), diff_method=diff_method)
    def circuit(x):
        Withdrawn(x, wires=0)
        return qml.expval(qml.Z(0))

    got = qshift.derivatives(circuit, tf.constant(0.4, tf.float64), order=2)
    np.testing.assert_allclose(got, [np.cos(1.2), -3 * np.sin(1.2), -9 * np.cos(1.2)], atol=1e-12)


# --- channels ---


@pytest.mark.parametrize(
    "channel, factor",
    [
        (qml.BitFlip, lambda p: 1 - 2 * p),  # what it multiplies <Z> by
        (qml.DepolarizingChannel, lambda p: 1 - 4 * p / 3),
    ],
)
def test_channels_are_linear_in_their_probability(channel, factor):
    @qshift.qnode(DEFAULT_MIXED)
    def circuit(x):
        qml.RX(x[0], wires=0)
        channel(x[1], wires=0)
        return qml.expval(qml.Z(0))

    angle, p = 0.4, 0.15
    value, gradient, hessian, third = tape_derivatives(circuit, np.array([angle, p]), 3)
    slope = factor(1.0) - factor(0.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    assert value == pytest.approx(factor(p) * cosine)
    np.testing.assert_allclose(gradient, [-factor(p) * sine, slope * cosine], atol=1e-12)
    np.testing.assert_allclose(
        hessian, [[-factor(p) * cosine, -slope * sine], [-slope * sine, 0.0]], atol=1e-12
    )
    assert third[0, 0, 1] == pytest.approx(-slope * cosine)
    assert third[1, 1, 0] == pytest.approx(0.0, abs=1e-12)


def test_phase_flip_and_two_channels_in_a_row():
    @qshift.qnode(DEFAULT_MIXED)
    def circuit(x):
        qml.RY(x[0], wires=0)
        qml.PhaseFlip(x[1], wires=0)
        qml.PhaseFlip(x[2], wires=0)
        return qml.expval(qml.X(0))

    angle, p, q = 0.4, 0.1, 0.3
    _, _, hessian = tape_derivatives(circuit, np.array([angle, p, q]), 2)
    by_p, by_q, both = -2 * (1 - 2 * q), -2 * (1 - 2 * p), 4.0
    cosine, sine = np.cos(angle), np.sin(angle)
    expected = [
        [-(1 - 2 * p) * (1 - 2 * q) * sine, by_p * cosine, by_q * cosine],
        [by_p * cosine, 0.0, both * sine],
        [by_q * cosine, both * sine, 0.0],
    ]
    np.testing.assert_allclose(hessian, expected, atol=1e-12)


@pytest.mark.parametrize("channel", [qml.AmplitudeDamping, qml.PhaseDamping])
def test_channels_without_a_recipe_are_refused_before_anything_runs(channel, tracker):
    @qshift.qnode(DEFAULT_MIXED)
    def circuit(x):
        qml.RX(x[0], wires=0)
        channel(x[1], wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.NoShiftRuleError, match=f"{channel.__name__}.*stop_gradient"):
        tape_derivatives(circuit, np.array([0.4, 0.1]), 1)
    assert tracker.totals["circuits"] == 0
    # As data, they are welcome.
    value, gradient = tape_derivatives(lambda x: circuit([x[0], 0.1]), np.array([0.4]), 1)
    assert np.isfinite(value) and np.abs(gradient) > 0.1


def test_layers_of_one_wire_are_taken_as_they_are():
    """PennyLane cannot make them anew: the ranges that it gives them are those that it refuses."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.Hadamard(1)
        qml.ctrl(qml.StronglyEntanglingLayers(tf.reshape(x, (1, 1, 3)), wires=[0]), control=[1])
        return qml.expval(qml.Z(0))

    x = tf.constant([0.3, 0.4, 0.5], tf.float64)
    value, gradient = qshift.derivatives(circuit, x, order=1)
    assert float(value) == pytest.approx((1 + np.cos(0.4)) / 2)
    np.testing.assert_allclose(gradient, [0, -np.sin(0.4) / 2, 0], atol=1e-12)
