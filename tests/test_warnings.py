"""Which warnings fail a test, and which are listed after all tests."""

import collections
import os
import pathlib
import re

import fresh

ROOT = pathlib.Path(__file__).parents[1]

# A library that a later release makes warn, and a module of qshift's that is the cause of some.
LIBRARY = """
import warnings

from pennylane.exceptions import PennyLaneDeprecationWarning

def says(kind, stacklevel):
    warnings.warn(f"told by a library: {kind.__name__}", kind, stacklevel)

def of_qshift(code):
    exec(code, {"__name__": "qshift.of_a_test"})
"""
TESTS = """
import fresh
import pytest
import pennylane as qml
from library import PennyLaneDeprecationWarning, of_qshift, says

FUTURE = [DeprecationWarning, PendingDeprecationWarning, FutureWarning, PennyLaneDeprecationWarning]

@pytest.mark.parametrize("kind", [*FUTURE, UserWarning, RuntimeWarning])
def test_passes_of_a_library(kind):
    says(kind, 1)

@pytest.mark.parametrize("kind", [*FUTURE, UserWarning])
def test_passes_told_to_a_test(kind):
    says(kind, 2)

@pytest.mark.parametrize("kind", FUTURE)
def test_passes_of_a_library_that_qshift_uses(kind):
    of_qshift(f"from library import *; says({kind.__name__}, 2)")

def test_fails_of_a_line_of_qshift():
    of_qshift("import numpy as np; np.float64(1) / np.float64(0)")

def test_fails_slower():
    from qshift.fallbacks import warn_slower
    warn_slower("What is tested", "it is tested")

def test_fails_told_to_the_caller():
    import qshift

    @qshift.qnode(qml.device("default.qubit"))
    def circuit():
        return qml.expval(qml.Z(0))

    circuit.update(device=qshift.device("simulator", shots=5))

def test_fails_in_a_thread():
    import threading
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""


def test_warnings_of_qshift_are_errors_and_those_of_others_are_listed(tmp_path):
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "test_them.py").write_text(TESTS)
    done = fresh.run(
        "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-rpf", "-p", "no:cacheprovider", "-p", "no:xdist"),
        *("-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, tmp_path),
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "500"},  # so that the list has why tests failed
        timeout=240,
    )
    told = done.stdout + done.stderr
    passed = collections.Counter(re.findall(r"^PASSED \S*::(\w+)", told, re.M))
    assert passed == {
        "test_passes_of_a_library": 6,
        "test_passes_told_to_a_test": 5,
        "test_passes_of_a_library_that_qshift_uses": 4,
    }, told
    # Each fails by the warning that it is about, which has become an error.
    failed = dict(re.findall(r"^FAILED \S*::test_fails_(\w+) - ([\w.]+): ", told, re.M))
    assert failed == {
        "of_a_line_of_qshift": "RuntimeWarning",
        "slower": "qshift.errors.SlowerWarning",
        "told_to_the_caller": "qshift.errors.QShiftWarning",
        "in_a_thread": "pytest.PytestUnhandledThreadExceptionWarning",
    }, told
    # Each of the others is in the list after all tests, with the places that it came from.
    listed = told[told.index("warnings summary") :]
    future = ("Deprecation", "PendingDeprecation", "Future", "PennyLaneDeprecation")
    places = {kind: 3 for kind in future} | {"User": 2, "Runtime": 1}
    for kind, count in places.items():
        assert (
            len(re.findall(rf"\b{kind}Warning: told by a library: {kind}Warning", listed)) == count
        )
