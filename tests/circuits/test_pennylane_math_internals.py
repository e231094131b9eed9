"""What `qml.math` does with TensorFlow's tensors, and qshift's core, on a PennyLane without its own
TensorFlow support: the same as on PennyLane as it is."""

import json
import os
import pathlib
import subprocess
import sys

import core_checks
import numpy as np
import pytest
import tensorflow as tf
from core_checks import FUNCTIONS, called

import qshift
from qshift.circuits import pennylane_math_internals as internals

TESTS = pathlib.Path(__file__).parents[1]
# By none of these is there a derivative left, and there is no error.
LOST = ("stack", "concatenate", "tensordot", "einsum", "dot", "where", "kron")
RUN = f"""
import json, without_tensorflow
without_tensorflow.install()
import core_checks
bare = core_checks.functions({LOST})
from qshift.circuits import pennylane_math_internals
found = {{
    "removed": without_tensorflow.REMOVED,
    "added": pennylane_math_internals.ADDED,
    "bare": bare,
    "functions": core_checks.functions(),
    "checks": core_checks.checks(),
    "interface": pennylane_math_internals.known_interface("tf"),
}}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def without():
    """What a process finds whose PennyLane knows nothing of TensorFlow."""
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_is_added_to_what_pennylane_has():
    assert internals.ADDED == ()
    assert internals.known_interface("tf") == "tf"
    assert internals.known_interface("auto") == "auto"


def test_what_is_taken_out_of_pennylane_is_missed(without):
    assert without["removed"]["registrations"] > 40 and without["removed"]["branches"] > 80
    assert {"shape", "where", "get_interface", "requires_grad", "TensorLike"} < {*without["added"]}
    assert without["interface"] == "auto"
    for name in LOST:
        (kind, *_), slope, _ = without["bare"][name]
        assert kind != "tensor" and slope == ["NoneType", "None"], name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_do_the_same_without(name, without):
    assert without["functions"][name] == json.loads(json.dumps(called(FUNCTIONS[name])))


def test_what_is_detached_has_no_derivative(without):
    slope = without["functions"]["detach"][1]
    expected = np.round(core_checks.X.numpy() + 0j, 10).astype(str).tolist()
    assert slope == ["tensor", "float64", expected]


def test_qshift_does_the_same_without(without):
    here = core_checks.checks()
    assert list(here) == list(without["checks"]) and len(here) > 10
    for name, numbers in here.items():
        for a, b in zip(numbers, without["checks"][name], strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_core_has_derivatives_that_are_those_of_numbers():
    """What the other test compares is right: here against finite differences."""
    circuit = core_checks.qnode(core_checks.rotations, core_checks.energy)
    qshift.check_derivatives(circuit, core_checks.X, core_checks.C, order=1)


def test_tensors_of_two_frameworks_are_an_error():
    def asked(*values):
        if "pytorch" in values:
            return "torch"
        return "numpy"

    find = internals._finding_tensors(asked)
    assert find(tf.constant(0.1), 0.2) == "tensorflow" and find(0.1, 0.2) == "numpy"
    with pytest.raises(ValueError, match="mixed types"):
        find(tf.constant(0.1), "pytorch")
