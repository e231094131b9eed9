"""What runs on a worker."""

import os
import pickle
import subprocess
import sys
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from references import random_points, several

from qshift.circuits.circuit import Circuit
from qshift.errors import WorkerError
from qshift.executors.workers import versions
from qshift.executors.workers.on_worker import RUN, Task, pickled
from qshift.executors.workers.pools import Workers


class Halves:
    def __call__(self):
        return half


def half(number):
    return Fraction(number, 2)


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def unsendable(*_):
    raise Unsendable("this", "that")


def answered(key, shared=None, *arguments):
    task = pickle.dumps(Task(key, shared, arguments))
    return pickle.loads(eval(RUN, {"task": task, "versions": dict(versions.own())}))


def test_what_is_shared_is_kept():
    assert answered(b"a", None, 3).kind == "lacks"
    answer = answered(b"a", pickled(Halves()), 3)
    assert (answer.kind, answer.content) == ("done", Fraction(3, 2)) and answer.seconds >= 0
    assert answered(b"a", None, 5).content == Fraction(5, 2)
    assert answered(b"b", None, 5).kind == "lacks"


def test_errors_come_back():
    answer = answered(b"a", pickled(Halves()), "three")
    assert answer.kind == "failed" and isinstance(answer.content, TypeError | ValueError)
    answer = answered(b"c", pickled(lambda: unsendable))
    assert isinstance(answer.content, WorkerError)
    assert str(answer.content) == "Unsendable: this and that"


def test_a_worker_with_other_versions_looks_at_nothing():
    found = eval(RUN, {"task": b"no pickle", "versions": versions.own() | {"qshift": "9"}})
    where = found.pop("where")
    assert found == versions.own() and where.endswith(f", process {os.getpid()},")


def test_a_worker_without_qshift_says_so():
    sent = {"task": b"no pickle", "versions": dict(versions.own())}
    command = [sys.executable, "-I", "-S", "-c", f"print(eval({RUN!r}, {sent!r}))"]
    found = eval(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    with pytest.raises(WorkerError, match=r"The worker .*, process \d+, has no qshift, no pennyl"):
        versions.require_equal(found, found["where"])


def test_workers_stay_at_home():
    assert pickle.loads(pickled({"workers": Workers(2), "number": 3})) == {
        "workers": None,
        "number": 3,
    }


def test_a_circuit_leaves_behind_what_is_derived_from_it():
    circuit = several()
    points = random_points(circuit, 2)
    circuit.planner("circuits"), circuit.joined, circuit.cones  # noqa: B018
    copied = pickle.loads(pickled(circuit))
    assert isinstance(copied, Circuit)
    assert set(vars(copied)) == {each.name for each in fields(Circuit)} < set(vars(circuit))
    assert copied.name == circuit.name and copied.slots == circuit.slots
    assert copied.num_values == circuit.num_values and (copied.cones == circuit.cones).all()
    one, other = (each.bind(points) for each in (circuit, copied))
    for mine, theirs in zip(one.operations, other.operations, strict=True):
        np.testing.assert_array_equal(mine.matrix(), theirs.matrix())
