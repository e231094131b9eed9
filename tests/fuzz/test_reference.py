"""The reference against PennyLane's matrices and simulator, and against itself."""

import itertools

import numpy as np
import pennylane as qml
import pytest

from fuzz import draw_gates
from fuzz.case import Case, Leaf, Measurement, Op, expressions
from fuzz.draw import draw
from fuzz.draw_angles import Angles
from fuzz.draw_gates import CONSTANT_WIRES, TEMPLATES, Gates
from fuzz.draw_measurements import Measurements
from fuzz.gates import PARAMETRIC, Factor, gate
from fuzz.jets import ring
from fuzz.matrices import CONSTANT
from fuzz.modes import MODES
from fuzz.modes.base import FLAT
from fuzz.own import OWN
from fuzz.reference import Variables, results
from fuzz.runner import execute
from fuzz.source import Source
from fuzz.states import apply, expectation, zero_state

FEATURES = {"templates", "wrappers"}
OTHERS = (
    "PauliRot MultiRZ QubitUnitary evolve exp PCPhase QFT SpecialUnitary DiagonalQubitUnitary "
    "FlipSign GlobalPhase GroverOperator Permute MultiControlledX"
).split()
WRAPPERS = ["ctrl", "adjoint", "pow", "prod", "Select", "ControlledSequence", "Reflection"]


def matrix(factors, wires):
    columns = []
    for state in np.eye(2**wires, dtype=complex):
        jet = ring(0, 0).constant(state.reshape((2,) * wires))
        for factor in factors:
            jet = apply(factor, jet)
        columns.append(jet.value.ravel())
    return np.array(columns).T


@pytest.mark.parametrize("name", PARAMETRIC)
def test_parametric_gates_are_those_of_pennylane(name):
    wires = range(PARAMETRIC[name].wires)
    for angles in (np.random.default_rng(0).normal(size=(3, PARAMETRIC[name].angles))) * 3:
        expected = qml.matrix(getattr(qml, name)(*angles, wires=wires), wire_order=wires)
        np.testing.assert_allclose(
            matrix(gate(name, angles, wires), len(wires)), expected, atol=1e-12
        )


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_gates_are_those_of_pennylane(name):
    wires = range(CONSTANT_WIRES[name])
    expected = qml.matrix(getattr(qml, name)(wires=wires), wire_order=wires)
    np.testing.assert_allclose(CONSTANT[name], expected, atol=1e-15)


def in_pennylane(case):
    """Returns the results of a case on default.qubit, as the reference lays them out."""
    source = Source(case, "autograd")
    decorator = '@qml.qnode(qml.device("default.qubit"), mcm_method="deferred")'
    code = [
        source.definitions(),
        source.arguments().replace("requires_grad=True", "requires_grad=False"),
        source.quantum_function(decorator=decorator),
        FLAT.format(shape="[-1]", axis=0),
        f'\ndef run():\n    return [("values", flat({source.call()}))]\n',
    ]
    ((_, found),) = execute("\n".join(code))
    return found


def drawn(make, seed, wires, features=FEATURES):
    """Returns a case around a gate that `make` draws."""
    rng = np.random.default_rng(seed)
    angles = Angles(rng, features)
    gates = Gates(rng, angles, wires, features)
    start = [Op("RY", (("number", 0.4 + wire),), (wire,)) for wire in range(wires)]
    op = make(gates)
    leaves = tuple(Leaf(leaf.name, leaf.values) for leaf in angles.leaves)
    words = Measurements(gates, 0)
    measurements = [Measurement("expval", words._word()) for _ in range(4)]
    measurements += [words.measurement(["expval", "var", "probs"]) for _ in range(2)]
    measurements += [Measurement("probs", None, tuple(range(wires)))]
    return Case(leaves, (*start, op), tuple(measurements))


def assert_as_in_pennylane(case):
    expected = in_pennylane(case)
    found = results(case, Variables(case, [], 0)).value
    np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=repr(case.ops[-1]))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("seed", range(3))
def test_gates_with_options_are_those_of_pennylane(name, seed):
    assert_as_in_pennylane(drawn(lambda gates: gates.other(name=name), seed, 3))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("seed", range(2))
def test_gates_of_users_own_are_what_their_code_says(name, seed):
    assert_as_in_pennylane(drawn(lambda gates: gates.own(name), seed, 2))


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("seed", range(2))
def test_templates_are_those_of_pennylane(name, seed):
    wires = max(TEMPLATES[name][0], 3)
    assert_as_in_pennylane(drawn(lambda gates: gates.template(name), seed, wires))


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_around_gates_is_that_of_pennylane(kind, seed):
    assert_as_in_pennylane(drawn(lambda gates: gates.wrapper(kind), seed, 3))


def test_measurements_in_mid_circuit_are_those_of_pennylane():
    found = 0
    for seed in itertools.count():
        case = draw(seed, "tapes")
        if not any(op.name == "measure" for op in case.ops) or case.batch or case.assigned:
            continue
        if any(leaf.kind == "captured" for leaf in case.leaves) or case.dtype == "float32":
            continue
        leaves = tuple(Leaf(leaf.name, leaf.values) for leaf in case.leaves)
        case = Case(leaves, case.ops, case.measurements)
        if any(part[0] in ("custom", "stop", "inner") for part in expressions(case)):
            continue  # TensorFlow's
        assert_as_in_pennylane(case)
        found += 1
        if found == 8:
            return


# --- derivatives ---


def test_derivatives_of_jets_are_those_of_polynomials():
    jets = ring(3, 3)
    x, y, z = jets.parameters([0.3, -1.2, 0.7], 0)
    value = x * x * y + 2.0 * y * z * z - z
    third = value.derivative(range(3)).derivative(range(3)).derivative(range(3)).value
    expected = np.zeros((3, 3, 3))
    for index in itertools.permutations((0, 0, 1)):
        expected[index] = 2.0
    for index in itertools.permutations((1, 2, 2)):
        expected[index] = 4.0
    np.testing.assert_allclose(third, expected)


@pytest.mark.parametrize("name", ["sin", "cos", "exp", "tanh", "sqrt", "square"])
def test_functions_of_jets_have_their_derivatives(name):
    jets = ring(1, 3)
    (x,) = jets.parameters([0.6], 0)
    y, found = getattr(x, name)(), []
    for _ in range(3):
        y = y.derivative([0])[0]
        found.append(float(y.value))
    function = getattr(np, name)
    # The derivative of an analytic function by a contour around the point, exact to rounding.
    angles = np.exp(2j * np.pi * np.arange(64) / 64)
    for k in (1, 2, 3):
        mean = (function(0.6 + 0.3 * angles) * angles ** (-k)).mean().real
        assert found[k - 1] == pytest.approx(mean * [1, 1, 2, 6][k] / 0.3**k, abs=1e-8)


@pytest.mark.parametrize("seed", range(1, 12))
def test_derivatives_of_a_classical_function_are_those_of_tensorflow(seed):
    """Expressions, batches, assignments, custom gradients and modes, without any circuit."""
    mode = MODES["tapes"]
    control = mode.control(draw(seed, "tapes"))
    found = execute(mode.source(control))
    for (name, value), right in zip(found, mode.expected(control), strict=True):
        tolerance = 1e-9 if control.dtype == "float64" else 2e-4
        scale = max(1.0, np.abs(right).max())
        np.testing.assert_allclose(value, right, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("wires", [(1,), (2, 0)])
def test_large_angles_of_generators_that_do_not_commute(wires):
    """By squaring, as by many small steps; a million takes no longer than a hundred."""
    variables, size = ring(2, 3), 2 ** len(wires)
    rng = np.random.default_rng(0)
    generators = rng.normal(size=(2, size, size)) + 1j * rng.normal(size=(2, size, size))
    generators = [g + g.conj().T for g in generators]
    state = zero_state(variables, 3)
    for wire in range(3):
        turn = Factor((wire,), np.array([[0.6, -0.8], [0.8, 0.6]]))
        state = apply(turn, state)
    angles = [variables.parameters(np.array(x), k) for k, x in enumerate((20.0, 17.0))]
    exponent = tuple(zip(angles, generators, strict=True))
    found = apply(Factor(wires, None, exponent), state)
    smaller = tuple((x * 0.01, g) for x, g in exponent)
    expected = state
    for _ in range(100):
        expected = apply(Factor(wires, None, smaller), expected)
    scale = np.abs(expected.coefficients).max()
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-11 * scale)
    million = tuple((x * 5e4, g) for x, g in exponent)
    norm = expectation(np.eye(8), apply(Factor(wires, None, million), state))
    assert float(norm.value) == pytest.approx(1, abs=1e-8)


def test_every_template_that_is_drawn_is_in_the_reference():
    assert set(draw_gates.TEMPLATES) <= set(__import__("fuzz.templates").templates.TEMPLATES)
