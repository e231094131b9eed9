"""What `qshift.executors.simulator.numba_internals` promises, without the rest of qshift."""

import ctypes
import json
import os

import fresh
import numba
import numpy as np
import pytest

from qshift.errors import UnsupportedError
from qshift.executors.simulator.numba_internals import as_numbers, compiled

# Compiles or reads a function that needs Numba's runtime, another function, and the C library.
PROCESS = """
import json, math, sys
import numpy as np
from numba import njit
from qshift.executors.simulator.numba_internals import compiled

@njit
def inner(x):
    return math.sin(x)

def function(x):
    made = np.zeros(3)
    for i in range(3):
        made[i] = inner(x[i]) / (1.0 + x[i])
    return made

made = compiled(function, "float64[:](float64[:])", nogil=True, error_model="numpy")
found = made(np.array([0.1, 0.2, -1.0])).tolist()
try:
    refused = made(np.ones(2, np.float32)) is None
except TypeError:
    refused = True
ready = "numba.np.linalg" in sys.modules  # which only compiling needs
other = compiled(lambda x: x + 1, "int64(int64)")(2)
hits, misses = made.stats.cache_hits, made.stats.cache_misses
print(json.dumps([found, refused, ready, sum(hits.values()), sum(misses.values()), other]))
"""


@pytest.fixture
def run(tmp_path):
    script = tmp_path / "functions.py"
    script.write_text(PROCESS)
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run():
        done = fresh.run_file(script, env=settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_functions_are_compiled_once_and_read_without_what_compiling_needs(run):
    (found, *compiled), (again, *read) = run(), run()
    # Refused types, ready to compile, hits and misses of the cache; then another function.
    assert compiled == [True, True, 0, 1, 3] and read == [True, False, 1, 0, 3]
    assert found == again
    assert found[:2] == pytest.approx([0.09075765, 0.16555778]) and found[2] == float("-inf")


def test_machine_code_may_be_called_without_numba():
    def function(number, a, b):
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                b[j] += number * a[i, j]

    made = compiled(function, "void(int64, float64[:,::1], float64[::1])", nogil=True)
    a, b, expected = np.arange(6.0).reshape(2, 3), np.ones(3), np.ones(3)
    address, numbers = as_numbers(made, (7, a, b))
    made(7, a, expected)
    kinds = [ctypes.c_int64] * len(numbers)
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *kinds)(address)
    room = np.zeros(2, np.int64)
    assert call(room[:1].ctypes.data, room[1:].ctypes.data, *numbers) == 0
    np.testing.assert_array_equal(b, expected)
    assert b.tolist() == [22.0, 36.0, 50.0]


def test_where_numba_does_not_compile_the_error_says_so(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(UnsupportedError, match="NUMBA_DISABLE_JIT is set.*Unset it"):
        compiled(lambda x: x + 1, "int64(int64)")
