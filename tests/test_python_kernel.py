"""The kernel for ops that call Python functions, without the rest of qshift."""

import ctypes
import gc
import threading

import fresh
import numpy as np
import pytest
import tensorflow as tf

from qshift import python_kernel, tensorflow_internals
from qshift.machine_code import machine_code
from qshift.python_kernel import Followed, PythonKernel
from qshift.tensorflow_internals import python_op

DTYPES = [tf.float64, tf.float32, tf.complex128, tf.complex64, tf.int64, tf.int32, tf.bool]


def runs(function, dtypes, signature=None):
    """A compiled function that calls a Python function by an op."""
    return tf.function(
        lambda *xs: python_op(function, xs, dtypes, stateful=False),
        autograph=False,
        input_signature=signature,
    )


def test_the_kernel_runs_the_ops(monkeypatch):
    called = []
    run = PythonKernel._run
    monkeypatch.setattr(PythonKernel, "_run", lambda *a: called.append(a) or run(*a))
    # The kernel that is registered already calls what it was made with.
    kernel = PythonKernel("PyFuncStateless", "of-this-test")
    monkeypatch.setattr(tensorflow_internals, "_LABEL", "of-this-test")
    monkeypatch.setattr(tensorflow_internals, "python_kernel", lambda *_: kernel)
    (found,) = runs(lambda x: 2 * x, [tf.float64])(tf.constant([1.0, 2.0], tf.float64))
    assert found.numpy().tolist() == [2.0, 4.0] and len(called) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3, 4), (1,) * 13])
def test_numbers_come_and_go(dtype, shape):
    seen = []

    def function(x, y):
        seen.append((x.dtype, x.shape, y.dtype))
        return [x, np.asarray(y.T), x[..., None]]

    size = int(np.prod(shape))
    x = np.arange(size).reshape(shape).astype(dtype.as_numpy_dtype)
    y = np.arange(6.0).reshape(2, 3)  # its transpose is not contiguous
    results = runs(function, [dtype, tf.float64, dtype])(tf.constant(x), tf.constant(y))
    for found, expected in zip(results, (x, y.T, x[..., None]), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert seen == [(np.dtype(dtype.as_numpy_dtype), shape, np.dtype(float))]


def test_inputs_stay_as_they_are():
    """They do not point into TensorFlow's memory, which others get."""
    kept = []
    run = runs(lambda x: kept.append(x) or x, [tf.float64])
    given = [np.full(1000, float(k)) for k in range(20)]
    for each in given:
        run(tf.constant(each) + 0.0)
    np.testing.assert_array_equal(kept, given)
    with pytest.raises(ValueError, match="read-only"):
        kept[0][0] = 1.0


@pytest.mark.parametrize(
    "error, kind",
    [
        (ValueError("no such value"), tf.errors.InvalidArgumentError),
        (TypeError("no such type"), tf.errors.InvalidArgumentError),
        (StopIteration("no more"), tf.errors.OutOfRangeError),
        (MemoryError("no room"), tf.errors.ResourceExhaustedError),
        (NotImplementedError("not yet"), tf.errors.UnimplementedError),
        (ZeroDivisionError("division by zero"), tf.errors.UnknownError),
        (KeyboardInterrupt("stop"), tf.errors.UnknownError),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_errors_are_those_of_tensorflows_own_kernel(error, kind):
    def function(x):
        raise error

    def message(run):
        with pytest.raises(kind) as raised:
            run(tf.constant(1.0))
        assert type(raised.value) is kind
        return raised.value.message

    own = message(runs(function, [tf.float32]))
    assert f"{type(error).__name__}: {error}" in own and "in function" in own
    if not isinstance(error, KeyboardInterrupt):
        theirs = message(tf.function(lambda x: tf.numpy_function(function, [x], tf.float32)))
        assert f"{type(error).__name__}: {error}" in theirs


class Mute(Exception):
    """An error that does not say what it is."""

    def __str__(self):
        raise ValueError("nothing to say")


@pytest.mark.parametrize("error", [ValueError("caf\udce9"), ValueError("a\0b"), Mute()])
def test_errors_that_cannot_be_told_are_errors(error):
    def function(x):
        raise error

    with pytest.raises(tf.errors.OpError, match=type(error).__name__):
        runs(function, [tf.float32])(tf.constant(1.0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["keep_thread_state", "c_int64", "_array"])
def test_what_interrupts_an_op_anywhere_fails_it_once(monkeypatch, where):
    """As a signal does that arrives while the op begins, or ends."""
    run, usual = runs(lambda x: 2 * x, [tf.float32]), getattr(python_kernel, where)

    class Interrupts:
        def __call__(self, *arguments):
            raise KeyboardInterrupt

        def __getattr__(self, name):
            raise KeyboardInterrupt

        __mul__ = __call__

    monkeypatch.setattr(python_kernel, where, Interrupts())
    with pytest.raises(tf.errors.OpError, match="KeyboardInterrupt|Python code was interrupted"):
        run(tf.constant(1.0))
    monkeypatch.setattr(python_kernel, where, usual)
    assert float(run(tf.constant(2.0))[0]) == 4.0


def test_results_of_another_dtype_are_an_error():
    for wrong in (np.float64(1.0), np.int32(1), np.ones(1000)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="result 0 has another dtype than"):
            runs(lambda x, wrong=wrong: wrong, [tf.float32])(tf.constant(1.0))


def test_an_input_with_too_many_axes_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="14 axes, and no more than 13"):
        runs(lambda x: x, [tf.float32])(tf.ones((1,) * 14))


def test_a_function_lives_as_long_as_its_graph():
    kernel = tensorflow_internals.python_kernel
    found = kernel("PyFuncStateless", tensorflow_internals._LABEL)
    assert found is kernel("PyFuncStateless", tensorflow_internals._LABEL)
    gc.collect()
    before = len(found._called)
    run = runs(lambda x: x, [tf.float32])
    run(tf.constant(1.0))
    assert len(found._called) == before + 1
    del run
    gc.collect()
    assert len(found._called) == before


def test_where_there_is_no_library_tensorflows_kernel_runs_the_ops(monkeypatch):
    monkeypatch.setattr(python_kernel, "_path", lambda: "/nowhere/libtensorflow.so")
    kernel = python_kernel.python_kernel("PyFuncStateless", "nowhere")
    assert kernel is None
    monkeypatch.setattr(tensorflow_internals, "python_kernel", lambda *_: kernel)
    run = runs(lambda x: 2 * x, [tf.float32])
    assert float(run(tf.constant(2.0))[0]) == 4.0
    (op,) = (
        op
        for op in run.get_concrete_function(tf.constant(2.0)).graph.get_operations()
        if op.type == "PyFuncStateless"
    )
    assert "_kernel" not in op.node_def.attr


# --- instructions in place of a call ---

# Doubles the second input, float64[3], unless its first number is negative, and counts its calls.
DOUBLE = """
define i64 @double(ptr %given, ptr %table) {
  %calls.at = getelementptr i64, ptr %given, i32 3
  %calls = load i64, ptr %calls.at
  %calls.after = add i64 %calls, 1
  store i64 %calls.after, ptr %calls.at
  %row = getelementptr i64, ptr %table, i32 16
  %data = load ptr, ptr %row
  %first = load double, ptr %data
  %negative = fcmp olt double %first, 0.0
  br i1 %negative, label %refuse, label %begin
begin:
  br label %next
next:
  %k = phi i64 [0, %begin], [%k.after, %next]
  %x.at = getelementptr double, ptr %data, i64 %k
  %x = load double, ptr %x.at
  %y = fmul double %x, 2.0
  %y.at = getelementptr double, ptr %given, i64 %k
  store double %y, ptr %y.at
  %k.after = add i64 %k, 1
  %more = icmp slt i64 %k.after, 3
  br i1 %more, label %next, label %done
done:
  ret i64 0
refuse:
  ret i64 1
}
"""


class Doubled:
    """Doubles an input, by Python or by instructions."""

    def __init__(self):
        self.code, self.calls = machine_code(DOUBLE), 0
        self.given, self.flag = np.zeros(4), np.zeros(1, np.int64)
        address = self.code.get_function_address("double")
        second = self.given[:3].view(np.int64)
        results = [self.given[:3], second.reshape(1, 3), np.empty((0, 2))]
        self.followed = Followed(address, self.given, results, self.flag, None)

    @property
    def followed_calls(self):
        return int(self.given.view(np.int64)[3])

    def instructions(self, rows):
        return self.followed if rows == 3 else None

    def __call__(self, number, x):
        self.calls += 1
        return [2 * x, (2 * x)[None].view(np.int64), np.empty((0, 2))]


@pytest.fixture(name="doubled")
def fixture_doubled():
    return Doubled()


def test_instructions_are_followed_unless_they_refuse(doubled):
    run = runs(doubled, [tf.float64, tf.int64, tf.float64])
    for numbers, by_python in (
        ([1.0, 2.0, 3.0], False),
        ([-1.0, 2.0, 3.0], True),  # refused
        ([1.0, 2.0], True),  # there are none for two rows
        ([0.5, -2.0, np.inf], False),
    ):
        before, x = doubled.calls, np.array(numbers)
        found, bits, empty = run(tf.constant(1, tf.int64), tf.constant(x))
        np.testing.assert_array_equal(found, 2 * x)
        np.testing.assert_array_equal(bits.numpy().view(float), 2 * x[None])
        assert empty.shape == (0, 2) and doubled.calls - before == by_python
        assert not doubled.flag[0]
    assert doubled.followed_calls == 3


def test_instructions_that_are_in_use_are_left_alone(doubled):
    run, x = (
        runs(doubled, [tf.float64, tf.int64, tf.float64]),
        tf.constant([1.0, 2.0, 3.0], tf.float64),
    )
    doubled.flag[0] = 1
    assert run(tf.constant(1, tf.int64), x)[0].numpy().tolist() == [2.0, 4.0, 6.0]
    assert (doubled.calls, doubled.followed_calls, doubled.flag[0]) == (1, 0, 1)


def test_threads_do_not_share_arrays(doubled):
    run = runs(doubled, [tf.float64, tf.int64, tf.float64])
    run(tf.constant(1, tf.int64), tf.zeros(3, tf.float64))
    wrong = []

    def work(seed):
        for x in np.random.default_rng(seed).uniform(size=(300, 3)):
            found, *_ = run(tf.constant(1, tf.int64), tf.constant(x))
            if not np.array_equal(found, 2 * x):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong and doubled.followed_calls > 0


AT_THE_END = """
import atexit
import tensorflow as tf
from qshift.tensorflow_internals import python_op

atexit.register(lambda: print(run(tf.constant(4.0))[0].numpy()))
run = tf.function(lambda x: python_op(lambda x: 2 * x, [x], [tf.float32], stateful=False))
run(tf.constant(1.0))
"""


def test_what_is_to_happen_at_exit_may_call_ops():
    done = fresh.run(AT_THE_END, timeout=120)
    assert done.stdout.strip() == "8.0", done.stderr


AT_EXIT = """
import itertools, sys
import numpy as np, tensorflow as tf
from qshift.tensorflow_internals import python_op

def dataset():
    @tf.function
    def run(x):
        return python_op(lambda x: x + sum(range(1000)), [x], [tf.int64], stateful=False)[0]
    each = tf.data.Dataset.range(10**9).map(run, num_parallel_calls=2).prefetch(1000)
    return iter(each)

ahead = [dataset() for _ in range(3)]
print([int(next(each)) for each in ahead])
"""


def test_a_process_ends_while_threads_still_run_ops():
    for _ in range(2):
        done = fresh.run(AT_EXIT, timeout=120)
        assert done.stdout.strip() == "[499500, 499500, 499500]", done.stderr
        assert done.returncode == 0, done.stderr


IN_A_FORK = """
import os, threading, time
import tensorflow as tf
from qshift.python_kernel import _end
from qshift.tensorflow_internals import python_op

began, go = threading.Event(), threading.Event()

def wait(x):
    began.set()
    go.wait()
    return x

run = tf.function(lambda x: python_op(wait, [x], [tf.float32], stateful=False))
thread = threading.Thread(target=run, args=(tf.constant(1.0),))
thread.start()
began.wait()
child = os.fork()
if child == 0:
    start = time.monotonic()
    _end()
    os._exit(int(time.monotonic() - start > 5.0))
_, status = os.waitpid(child, 0)
go.set()
thread.join()
print(os.waitstatus_to_exitcode(status))
"""


def test_the_child_of_a_fork_does_not_wait_for_ops_of_its_parent():
    done = fresh.run(IN_A_FORK, timeout=120)
    assert done.stdout.strip() == "0", done.stderr


def test_the_interface_is_that_of_the_library():
    """All functions that the machine code declares are there."""
    library = ctypes.CDLL(python_kernel._path())
    names = {name for name in python_kernel._CODE.split() if name.startswith("@TF_")}
    assert len(names) >= 11
    for name in names:
        assert hasattr(library, name[1:].partition("(")[0])
