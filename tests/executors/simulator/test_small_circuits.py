"""Small circuits at few points: the numbers of the simulation, with little around the kernel."""

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pennylane as qml
import pytest
from references import differences, truth

import qshift
from qshift.autodiff.pulled_back import PulledBack, shifts_of
from qshift.executors.executor import Asked
from qshift.executors.simulator.simulation import Simulation
from qshift.executors.simulator.simulator import SimulatorExecutor

WIRES = 3


def gates(x, y):
    qml.StatePrep(np.arange(1.0, 9.0), wires=range(WIRES), normalize=True)
    for wire in range(WIRES):
        qml.RX(x[..., wire], wire)
        qml.CNOT((wire, (wire + 1) % WIRES))
        qml.RZ(y[..., wire], wire)
        qml.CRY(y[..., 0], (wire, (wire + 1) % WIRES))


def quantum_function(x, y):
    gates(x, y)
    words = qml.X(0) @ qml.Y(1), 0.3 * qml.Z(2) - 1.7 * qml.Y(0)
    return [qml.expval(word) for word in words]


def circuit_of(function=quantum_function, wires=WIRES):
    """An executor, and the circuit that it runs: of six parameters, three of them the x."""
    device = qml.device("default.qubit", wires=wires)
    qnode = qshift.qnode(device)(function)
    tape = qnode.construct([np.zeros((2, wires)), np.ones((2, wires))], {})
    return SimulatorExecutor(device), qnode.preparation.compile(tape).circuit


def points_of(circuit, count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, circuit.num_parameters))


def results(of, points, cotangents):
    """Values, derivatives, and derivatives of sums, from a small circuit."""
    return of.values(points), of.gradients(points), of.pulled_back(points, cotangents)


def usual(executor, circuit, points, cotangents):
    """The same from the simulation, and the executor's, which takes them from the small circuit."""
    simulation = Simulation(circuit, {})
    (part,) = simulation.parts(points) if len(points) > 1 else [simulation.alone]
    yield simulation.values(points, part), executor(circuit, points)
    yield simulation.gradients(points, part), executor.gradients(circuit, points)
    sums = executor.pulled_back(circuit, points, cotangents)
    yield simulation.pulled_back(cotangents, points, part), sums


@pytest.mark.parametrize("count", [1, 3, 4, 5, 64, 67, 256])
def test_numbers_are_those_of_the_simulation_to_the_last_bit(count):
    executor, circuit = circuit_of()
    points = points_of(circuit, count)
    cotangents = np.random.default_rng(1).normal(size=(count, circuit.num_values))
    expected = usual(SimulatorExecutor(executor.device), circuit, points, cotangents)
    small = executor.small(circuit, count)
    for found, pair in zip(results(small, points, cotangents), expected, strict=True):
        for wanted in pair:
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("count", [300, 512])
def test_values_of_twice_as_many_points(count):
    """They are those of the simulation in several parts, to the last bit."""
    executor, circuit = circuit_of()
    points, simulation = points_of(circuit, count), Simulation(circuit, {})
    assert simulation.small(count) is None and simulation.small(count, only_values=True)
    parts = simulation.parts(points)
    expected = np.concatenate([simulation.values(points, part) for part in parts])
    assert len(parts) == 2
    np.testing.assert_array_equal(executor(circuit, points), expected)
    slopes = np.concatenate([simulation.gradients(points, part) for part in parts])
    np.testing.assert_array_equal(executor.gradients(circuit, points), slopes)
    assert simulation.small(516, only_values=True) is None


def test_numbers_are_those_of_products_of_matrices():
    executor, circuit = circuit_of()
    points, cotangents = points_of(circuit, 5), np.ones((5, circuit.num_values))
    values, gradients, sums = results(executor.small(circuit, 5), points, cotangents)
    slopes = differences(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-12)
    np.testing.assert_allclose(gradients, slopes, atol=1e-7)
    np.testing.assert_allclose(sums, slopes.sum(axis=1), atol=1e-7)


def test_arrays_that_are_kept_do_not_mix_points():
    """Neither what was there before, nor another number of points, nor zeros with a sign matter."""
    executor, circuit = circuit_of()
    cotangents = np.ones((64, circuit.num_values))
    turns = [points_of(circuit, count, seed) for seed, count in enumerate((1, 5, 5, 1, 7, 8, 1))]
    turns += [turns[0] * 0.0, turns[0] * -0.0, turns[0]]
    earlier = []
    for points in turns:
        small = executor.small(circuit, len(points))
        found = results(small, points, cotangents[: len(points)])
        fresh = SimulatorExecutor(executor.device).small(circuit, len(points))
        expected = results(fresh, points, cotangents[: len(points)])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        earlier.append((found, [each.copy() for each in found]))
    for found, copies in earlier:
        for one, other in zip(found, copies, strict=True):
            np.testing.assert_array_equal(one, other)


def test_threads_do_not_share_arrays():
    executor, circuit = circuit_of()
    small = executor.small(circuit, 16)
    batches = [points_of(circuit, 16, seed) for seed in range(40)]
    cotangents = np.ones((16, circuit.num_values))
    expected = [results(small, points, cotangents) for points in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda points: results(small, points, cotangents), batches))
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count", [0, 2, 65, 257, 4000])
def test_points_that_no_one_state_holds(count):
    executor, circuit = circuit_of()
    assert executor.small(circuit, count) is None


def with_matrix(x, y):
    qml.RX(x[..., 0], 0)
    qml.QubitUnitary(np.diag([1, 1, 1, np.exp(0.3j)]), (0, 1))
    return qml.expval(qml.Y(0))


def with_probabilities(x, y):
    qml.RX(x[..., 0], 0)
    return qml.probs(wires=[0, 1])


def without_parameters(x, y):
    qml.Hadamard(0)
    return qml.expval(qml.X(0))


@pytest.mark.parametrize("function", [with_matrix, with_probabilities, without_parameters])
def test_circuits_that_are_not_small(function):
    executor, circuit = circuit_of(function)
    assert executor.small(circuit, 1) is None


def wide(x, y):
    for wire in range(13):
        qml.RX(x[..., wire], wire)
    return qml.expval(qml.Z(0))


def test_wide_circuits_are_not_small():
    executor, circuit = circuit_of(wide, wires=13)
    assert executor.small(circuit, 1) is None


def test_nothing_is_small_while_somebody_counts():
    executor, circuit = circuit_of()
    assert executor.small(circuit, 1) is not None
    with qshift.Tracker():
        assert executor.small(circuit, 1) is None
    with qml.Tracker(executor.device):
        assert executor.small(circuit, 1) is None
    assert executor.small(circuit, 1) is not None


def followed(written, *inputs):
    """Follows instructions with some inputs; returns whether they refuse, and the results."""
    table = np.zeros((1 + len(inputs), 16), np.int64)
    for row, each in zip(table[1:], inputs, strict=True):
        row[: 3 + each.ndim] = [each.ctypes.data, 2, each.ndim, *each.shape]
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    refused = kind(written.code)(written.instructions.ctypes.data, table.ctypes.data)
    return bool(refused), [each.copy() for each in written.results]


PARTS = (0, 2, 4, 8), (5, 1, 3, 6, 7)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 64, 67])
def test_instructions_give_the_same_numbers(count):
    """To the last bit, whatever was followed before, by these or by others of the circuit."""
    executor, circuit = circuit_of()
    small = executor.small(circuit, count)
    values = small.written(count, PARTS, 1e9, [Asked("values"), None])
    sums = small.written(count, PARTS, 1e9, [Asked("pulled_back", (4, 1))])
    turns = [points_of(circuit, count, seed) for seed in range(3)]
    for seed, points in enumerate([*turns, turns[0], turns[0] * 0.0, turns[0] * -0.0]):
        cotangents = np.random.default_rng(seed).normal(size=(count, circuit.num_values))
        inputs = [np.ascontiguousarray(points[:, part]) for part in PARTS]
        wanted, _, pulled = results(small, points, cotangents)
        refused, (found, nothing) = followed(values, *inputs)
        assert not refused and nothing.size == 0
        np.testing.assert_array_equal(found, wanted)
        refused, (found,) = followed(sums, *inputs, cotangents[:, :, None].copy())
        assert not refused
        np.testing.assert_array_equal(found, pulled[:, [4, 1]])


@pytest.mark.parametrize("count", [1, 4])
def test_instructions_give_a_value_with_its_gradient(count):
    def function(x, y):
        gates(x, y)
        return qml.expval(qml.Z(0) @ qml.X(1))

    executor, circuit = circuit_of(function)
    small, points = executor.small(circuit, count), points_of(circuit, count)
    written = small.written(count, PARTS, 1e9, [Asked("values"), Asked("gradients", (2, 0, 1))])
    _, (values, slopes) = followed(written, *[points[:, part].copy() for part in PARTS])
    np.testing.assert_array_equal(values, small.values(points))
    np.testing.assert_array_equal(slopes, small.gradients(points)[:, :, [2, 0, 1]])


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_instructions_give_the_gradients_of_several_values_and_sums_of_them(count):
    """Also by the instructions of another op, behind them or before; none where no cone is."""
    executor, circuit = circuit_of()
    small, rng = executor.small(circuit, count), np.random.default_rng(3)
    cones = np.ones((circuit.num_values, circuit.num_parameters), bool)
    cones[1, [2, 5]] = False
    columns = (5, 0, 2)
    written = [
        small.written(
            count, PARTS, 1e9, [Asked("values"), Asked("gradients", columns, cones=cones)]
        ),
        small.written(count, PARTS, 1e9, [Asked("contracted", columns, cones=cones)]),
    ]
    for seed in (0, 1, 1, 0, 2):
        points = points_of(circuit, count, seed)
        inputs = [points[:, part].copy() for part in PARTS]
        factors = rng.normal(size=(count, circuit.num_values, 1))
        of_all = small.gradients(points) * cones
        pair = [(written[0], inputs), (written[1], [*inputs, factors])]
        refused, found = zip(*[followed(*[w, *i]) for w, i in pair[:: (-1) ** seed]], strict=True)
        assert not any(refused)
        (values, gradients), (sums,) = found[:: (-1) ** seed]
        np.testing.assert_array_equal(values, small.values(points))
        np.testing.assert_array_equal(gradients, of_all[:, :, columns])
        np.testing.assert_array_equal(sums, (factors * of_all).sum(axis=1)[:, columns])


def test_parameters_that_follow_others_do_not_mix_with_those_that_do_not():
    executor, circuit = circuit_of()
    small, points = executor.small(circuit, 4), points_of(circuit, 4)
    columns, factor = (0, 3, 5), -0.5
    of_all = small.gradients(points)[:, :, columns]
    joint = of_all + [factor, 0.0, 0.0] * of_all[:, :, [1, 1, 1]] - [0.0, 1.0, 0.0] * of_all
    inputs = [points[:, part].copy() for part in PARTS]
    asked = [Asked("gradients", columns)]
    for follows, expected in ((), of_all), (((0, 3, factor),), joint), ((), of_all):
        refused, (found,) = followed(small.written(4, PARTS, 1e9, asked, follows), *inputs)
        assert not refused
        np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_instructions_give_sums_at_shifted_points(count):
    executor, circuit = circuit_of()
    small, planner = executor.small(circuit, count), circuit.planner("circuits")
    for lower in (((3,),), ((0,), (4,), (2,)), ((0, 1), (1, 1), (1, 3))):
        shifts = shifts_of(planner, circuit.shifted, lower)
        if executor.small(circuit, shifts.points * count) is None:
            continue  # two points, which run one after the other
        written = small.written(count, PARTS, 1e9, [Asked("shifted", (4, 1), shifts=shifts)])
        for seed in (0, 1, 0):
            points = points_of(circuit, count, seed)
            factors = np.random.default_rng(seed).normal(
                size=(count, circuit.num_values, len(lower))
            )
            function = functools.partial(executor.pulled_back, circuit)
            expected = PulledBack.of(lower, factors, planner, circuit.shifted, points, function)
            inputs = [points[:, part].copy() for part in PARTS]
            refused, (found,) = followed(written, *inputs, factors)
            assert not refused
            np.testing.assert_array_equal(found, expected.sums[:, [4, 1]])
        factors[0] = 0.0
        assert followed(written, *inputs, factors)[0]


def test_no_instructions_where_the_gradients_of_all_values_take_too_much_room():
    executor, circuit = circuit_of()
    small = executor.small(circuit, 4)
    small._most_numbers = 8 * circuit.num_parameters
    assert small.written(4, PARTS, 1e9, [Asked("gradients", (0,))]) is not None
    small._most_numbers -= 1
    assert small.written(4, PARTS, 1e9, [Asked("values")]) is not None
    assert small.written(4, PARTS, 1e9, [Asked("gradients", (0,))]) is None


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1.1e9])
def test_instructions_refuse_unusual_parameters_and_stay_right(number):
    executor, circuit = circuit_of()
    small, points = executor.small(circuit, 4), points_of(circuit, 4)
    written = small.written(4, PARTS, 1e9, [Asked("values")])
    inputs = [points[:, part].copy() for part in PARTS]
    inputs[1][3, 2] = number
    assert followed(written, *inputs)[0]
    inputs[1][3, 2] = 0.25
    points[3, 3] = 0.25
    refused, (found,) = followed(written, *inputs)
    assert not refused
    np.testing.assert_array_equal(found, small.values(points))


def test_instructions_refuse_another_number_of_points():
    executor, circuit = circuit_of()
    written = executor.small(circuit, 4).written(4, PARTS, 1e9, [Asked("values")])
    for count in (3, 5):
        points = points_of(circuit, count)
        assert followed(written, *[points[:, part].copy() for part in PARTS])[0]
