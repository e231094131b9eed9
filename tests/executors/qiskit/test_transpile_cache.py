"""Transpiled circuits on disk: found by other processes, and never wrong."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

import qshift
from qshift.executors.qiskit import transpile_cache
from qshift.executors.qiskit.device import EstimatorDevice


def sample(angle=0.5):
    circuit = QuantumCircuit(3)
    circuit.rx(2 * Parameter("p0") + angle, 0)
    circuit.cx(0, 2)
    return circuit


def layered(x):
    qml.RX(x[0], wires="a")
    qml.Rot(x[1], 0.3, -x[0], wires="b")
    qml.CNOT(["a", "b"])
    qml.IsingXX(x[1], wires=["b", "c"])
    return qml.expval(qml.X("a") @ qml.Z("c")), qml.probs(op=qml.Y("b"))


def test_a_circuit_comes_back_as_it_was():
    stored = transpile(sample(), FakeManilaV2(), seed_transpiler=1)
    key = transpile_cache.key(sample(), "here")
    assert transpile_cache.load(key) is None
    transpile_cache.save(key, stored)
    found = transpile_cache.load(key)
    assert found.layout.final_index_layout() == stored.layout.final_index_layout()
    assert [p.name for p in found.parameters] == ["p0"]
    assert found.assign_parameters([0.3]) == stored.assign_parameters([0.3])
    assert [file.suffix for file in transpile_cache.directory().iterdir()] == [".qpy"]


def test_all_that_the_result_depends_on_is_in_the_key():
    base = transpile_cache.key(sample(), "manila", 1)
    assert base == transpile_cache.key(sample(), "manila", 1)
    other = sample()
    other.x(1)
    keys = {
        transpile_cache.key(sample(0.5 + 1e-15), "manila", 1),
        transpile_cache.key(other, "manila", 1),
        transpile_cache.key(sample(), "kyiv", 1),
        transpile_cache.key(sample(), "manila", 2),
    }
    assert len(keys) == 4 and base not in keys


@pytest.mark.parametrize("content", [b"", b"QISKIT", b"not a circuit at all", None])
def test_broken_files_are_ignored(content, tracker):
    device = {"backend": "aer:FakeManilaV2"}
    theta = np.array([0.3, 0.4])
    first = qml.QNode(layered, EstimatorDevice(**device))(theta)
    made = tracker.totals["transpilations"]
    for file in transpile_cache.directory().glob("*.qpy"):
        file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    again = qml.QNode(layered, EstimatorDevice(**device))(theta)
    assert tracker.totals["transpilations"] == 2 * made
    third = qml.QNode(layered, EstimatorDevice(**device))(theta)
    assert tracker.totals["transpilations"] == 2 * made  # they were written anew
    for one, two, three in zip(first, again, third, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_other_settings_are_other_circuits(tracker):
    for options in (
        {"backend": "aer:FakeManilaV2"},
        {"backend": "aer:FakeManilaV2", "optimization_level": 3},
        {"backend": "aer:FakeLimaV2"},
        {},
    ):
        before = tracker.totals["transpilations"]
        qml.QNode(layered, EstimatorDevice(**options))(np.array([0.3, 0.4]))
        assert tracker.totals["transpilations"] > before
        before = tracker.totals["transpilations"]
        qml.QNode(layered, EstimatorDevice(**options))(np.array([0.5, 0.1]))
        assert tracker.totals["transpilations"] == before


def test_other_processes_transpile_nothing(tracker):
    theta = np.array([0.3, 0.4])
    here = qml.QNode(layered, EstimatorDevice(backend="aer:FakeManilaV2"))(theta)
    assert tracker.totals["transpilations"] == 1
    script = (
        "import sys; sys.path[:0] = ['tests/executors/qiskit', 'tests/executors', 'tests']\n"
        "import numpy as np, pennylane as qml, qshift\n"
        "from test_transpile_cache import layered, EstimatorDevice\n"
        "with qshift.Tracker() as tracker:\n"
        "    device = EstimatorDevice(backend='aer:FakeManilaV2')\n"
        "    values = qml.QNode(layered, device)(np.array([0.3, 0.4]))\n"
        "print(tracker.totals['transpilations'], *map(repr, values))\n"
    )
    root = Path(qshift.__file__).parent.parent
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # here random, if none is set
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env=os.environ | {"PYTHONHASHSEED": other, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(maxsplit=1) == ["0", " ".join(map(repr, here)) + "\n"]


def test_a_directory_that_cannot_be_written_to_is_no_error(tmp_path, monkeypatch, tracker):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for count in (1, 2):
        qml.QNode(layered, EstimatorDevice(backend="aer:FakeManilaV2"))(np.array([0.3, 0.4]))
        assert tracker.totals["transpilations"] == count


def test_no_home_directory_is_no_error(monkeypatch, tracker):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "")
    for count in (1, 2):
        qml.QNode(layered, EstimatorDevice(backend="aer:FakeManilaV2"))(np.array([0.3, 0.4]))
        assert tracker.totals["transpilations"] == count
    assert not Path("/.cache/qshift").exists()


def test_files_may_be_deleted_at_any_time(tracker):
    def run():
        return qml.QNode(layered, EstimatorDevice(backend="aer:FakeManilaV2"))(np.array([0.3, 0.4]))

    first = run()
    files = [file for file in transpile_cache.directory().rglob("*") if file.is_file()]
    assert files and tracker.totals["transpilations"] == 1
    for file in files:
        file.unlink()
    np.testing.assert_array_equal(np.hstack(run()), np.hstack(first))
    assert tracker.totals["transpilations"] == 2


def test_the_oldest_files_make_room():
    for i in range(11):
        transpile_cache.save(f"key{i}", sample(), most=10)
        file = transpile_cache.directory() / f"key{i}.qpy"
        os.utime(file, (i, i))
    transpile_cache.save("last", sample(), most=10)
    left = {file.stem for file in transpile_cache.directory().iterdir()}
    assert "last" in left and "key0" not in left and len(left) <= 11
