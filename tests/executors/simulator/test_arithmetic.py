"""Functions as machine code, against the same in Python."""

import os
import threading

import fresh
import numpy as np
import pytest

from qshift.executors.simulator.arithmetic import NUMBER, WIDTH, Function, Variable, function


@function("int64", "int64", "int64[:]")
def integers(code, a, b, out):
    found = a + b, a - b, a * b, a // b, a % b, a & b, a | b, a ^ b, 3 + a, 2 * a, 5 - a
    for k, each in enumerate([*found, code.parity(a)]):
        out[k] = each


@pytest.mark.parametrize("a, b", [(13, 4), (7, 7), (0, 3), (2**40 + 5, 2**33)])
def test_integers(a, b):
    out = np.zeros(12, np.int64)
    integers(a, b, out)
    expected = [a + b, a - b, a * b, a // b, a % b, a & b, a | b, a ^ b, 3 + a, 2 * a, 5 - a]
    expected = np.array([each % 2**64 for each in expected], np.uint64).view(np.int64)
    assert out.tolist() == [*expected, a.bit_count() % 2]


@function("float64[:]", "float64[:]")
def numbers(code, given, out):
    x, y = given[0], given[1]
    cosine, sine = code.cosine_and_sine(x)
    for k, each in enumerate((x + y, x - y, x * y, -x, 1.5 - x, cosine, sine)):
        out[k] = each
    for k, condition in enumerate((x == y, x != y, x < y, x >= y), 7):
        out[k] = code.choose(condition, code.number(1.0), code.number(0.0))


@pytest.mark.parametrize("x", [0.3, -0.0, 1e-300, 1e13, np.inf, np.nan])
@pytest.mark.parametrize("y", [0.3, 0.0, np.nan])
def test_numbers_are_those_of_ieee(x, y):
    out = np.zeros(11)
    numbers(np.array([x, y]), out)
    with np.errstate(invalid="ignore"):
        x, y = np.float64(x), np.float64(y)
        np.testing.assert_array_equal(out[:5], [x + y, x - y, x * y, -x, 1.5 - x])
        np.testing.assert_allclose(out[5:7], [np.cos(x), np.sin(x)], rtol=1e-15)
    assert out[7:].tolist() == [x == y, x != y, x < y, x >= y]
    assert np.signbit(out[3]) != np.signbit(x) or np.isnan(x)


@function("int64", "int64", "int64", "int64[:]")
def loops(code, start, stop, step, out):
    """Writes how often each row of a table comes, and leaves out every third one."""
    count = Variable(code, code.integer(0))
    for i in code.loop(stop, start, step):
        for j in code.loop(i):
            with code.when((i + j) % 3 != 0):
                count.now = count.now + j
                out[i] = out[i] + 1
    out[0] = count.now


@pytest.mark.parametrize("start, stop, step", [(0, 7, 1), (1, 9, 3), (4, 4, 1), (5, 2, 1)])
def test_loops(start, stop, step):
    out, expected, count = np.zeros(10, np.int64), np.zeros(10, np.int64), 0
    loops(start, stop, step, out)
    for i in range(start, stop, step):
        for j in range(i):
            if (i + j) % 3:
                expected[i] += 1
                count += j
    expected[0] = count
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("fuses", [True, False])
@pytest.mark.parametrize("order", range(WIDTH))
def test_vectors(order, fuses):
    def write(code, a, out):
        code.fuses = fuses
        x, y = code.load(a.at(0, 0)), code.load(a.at(1, 0))
        found = x * y + code.permuted(x, order) * code.spread(a[1, 2]) - code.zeros()
        code.store(found, out.at(0))

    a, out = np.random.default_rng(0).normal(size=(2, WIDTH)), np.zeros(WIDTH)
    made = Function(write, ["float64[:,:]", "float64[:]"])
    made(a, out)
    expected = a[0] * a[1] + a[0, np.arange(WIDTH) ^ order] * a[1, 2]
    np.testing.assert_allclose(out, expected, rtol=1e-15, atol=1e-16)
    if not fuses:
        np.testing.assert_array_equal(out, expected)
        assert "contract" not in made.source()


def test_entries_of_arrays():
    @function("float64[:,:,:]", "int64[:,:]", "float64[:]")
    def picked(code, a, places, out):
        for k in code.loop(places.shape[0]):
            out[k] = a[places[k, 0], places[k, 1], places[k, 2]]
        out[places.shape[0]] = code.load(a.at(1, 0, 0), NUMBER)

    a, out = np.random.default_rng(0).normal(size=(3, 4, 5)), np.zeros(5)
    places = np.array([[0, 0, 0], [2, 3, 4], [1, 2, 0], [0, 3, 1]])
    picked(a, places, out)
    np.testing.assert_array_equal(out, [*a[tuple(places.T)], a[1, 0, 0]])


@function("float64[:]", "float64[:]")
def doubled(code, given, out):
    for k in code.loop(given.shape[0]):
        out[k] = given[k] * 2.0


def test_arrays_that_must_not_be_written_to_or_are_empty():
    given, out = np.arange(3.0), np.ones(3)
    given.flags.writeable = False
    doubled(np.empty(0), out)
    assert out.tolist() == [1.0, 1.0, 1.0]
    doubled(given, out)
    assert out.tolist() == [0.0, 2.0, 4.0] and given.tolist() == [0.0, 1.0, 2.0]
    assert doubled.numbers([given[1:], out]) == [given.ctypes.data + 8, 2, out.ctypes.data, 3]


@pytest.mark.parametrize(
    "array",
    [np.zeros(8, np.float32), np.zeros((2, 4)), np.zeros(16)[::2], np.zeros(8, np.int64)],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(TypeError, match="numbers takes contiguous arrays float64 of 1 axes"):
        numbers(np.zeros(2), array)


def test_too_few_arguments_are_refused():
    with pytest.raises(ValueError, match="longer"):
        numbers(np.zeros(2))


def test_instructions_are_written_once(monkeypatch):
    wrote = []
    made = Function(lambda code, out: wrote.append(out[0]), ["float64[:]"])
    assert not wrote
    made(np.zeros(1))
    address = made.address
    made(np.zeros(1))
    assert len(wrote) == 1 and made.address == address


FIRST_CALLS = """
import threading
import numpy as np
from qshift.executors.simulator import kernel
from qshift.executors.simulator.state_steps import table
from qshift.executors.simulator.clifford_frame import Word
found, barrier = [], threading.Barrier(8)
def work():
    own = table([(Word(1, 0, 0), 1.0)], 2, 3, True)
    angles, state = np.empty((1, 1, 12)), np.eye(1, 8)
    barrier.wait()
    kernel.angles(np.full((1, 1), 0.6), np.zeros(1, int), np.ones(1), own.signs, angles)
    kernel.forward(state, own.words, angles, 0, 1)
    found.append(state)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
expected = np.zeros((1, 8)); expected[0, 0], expected[0, 5] = np.cos(0.3), -np.sin(0.3)
assert len(found) == 8
for state in found: np.testing.assert_allclose(state, expected, atol=1e-15)
"""


def test_first_calls_at_the_same_time():
    """Of eight threads."""
    done = fresh.run(FIRST_CALLS)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_the_child_of_a_fork_runs_and_compiles():
    """In a process of its own: TensorFlow's threads are not to be forked."""
    code = """
import os, numpy as np
from qshift.executors.simulator.arithmetic import Function
def double(code, out): out[0] = out[0] * 2.0
one, other, out = Function(double, ["float64[:]"]), Function(double, ["float64[:]"]), np.ones(1)
one(out)
child = os.fork()
one(out); other(out)
assert out[0] == 8.0
if child: assert os.waitpid(child, 0)[1] == 0
"""
    done = fresh.run(code)
    assert done.returncode == 0, done.stderr


@function("int64", "float64[:]")
def long(code, turns, out):
    for _ in code.loop(turns):
        for k in code.loop(out.shape[0]):
            out[k] = out[k] * 1.0001


def test_other_threads_run_meanwhile():
    """While one thread's function takes long, this one goes on."""
    turns, done = 0, threading.Event()

    def work():
        long(2000, np.ones(10_000))
        done.set()

    long.address  # noqa: B018 - it is compiled
    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        turns += 1
    thread.join()
    assert turns > 1000
