"""Programs from Python and OpenQASM files, and values for their arguments."""

import json
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest

from qshift.cli.programs import Program, ProgramError, load

MODULE = """
import pennylane as qml
import neighbour

LETTERS = "abc"

def cost(x):
    qml.RX(x[0], 0)
    qml.RY(x[1] * neighbour.FACTOR, 0)
    return qml.expval(qml.Z(0))

def several(a, b, c=2.0):
    qml.RX(a + b * c, 0)
    return qml.expval(qml.Z(0)), qml.probs(wires=0)

def constant():
    return qml.expval(qml.Z(0))

def keyword(x, *, y):
    return qml.expval(qml.Z(0))

qnode = qml.QNode(several, qml.device("default.qubit"))
"""

OPENQASM2 = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; rx(0.3) q[0]; ry(pi/2) q[1];'
OPENQASM3 = (
    'OPENQASM 3.0; include "stdgates.inc"; input float c; input float a; qubit q; rx(c*a) q;'
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "neighbour.py", "FACTOR = 2.0\n")
    write(tmp_path / "energy.py", MODULE)
    write(tmp_path / "old.qasm", OPENQASM2)
    write(tmp_path / "new.qasm", OPENQASM3)
    return tmp_path


def run(program: Program, **arguments) -> float:
    return float(qml.QNode(program.function, qml.device("default.qubit"))(**arguments))


def test_functions_and_qnodes_come_out_of_python_files(folder):
    cost = load(f"{folder}/energy.py:cost")
    assert cost.name == "energy.py:cost" and cost.parameters == cost.required == ("x",)
    truth = np.cos(0.3) * np.cos(0.8)
    np.testing.assert_allclose(run(cost, x=np.array([0.3, 0.4])), truth, atol=1e-14)
    qnode = load("energy.py:qnode")
    assert isinstance(qnode.function, qml.QNode)
    assert qnode.parameters == ("a", "b", "c") and qnode.required == ("a", "b")


def test_openqasm_files_have_their_angles_as_arguments():
    old, new = load("old.qasm", "ZI"), load("new.qasm", "Z")
    assert old.parameters == ("0:rx(0)", "1:ry(1)") == tuple(old.start) and old.required == ()
    np.testing.assert_allclose(run(old, **old.start), np.cos(0.3), atol=1e-14)
    assert new.parameters == new.required == ("c", "a") and new.start == {}
    np.testing.assert_allclose(run(new, c=0.5, a=0.6), np.cos(0.3), atol=1e-14)


@pytest.mark.parametrize(
    "target, observable, reason",
    [
        ("energy.py", None, "name the function, as in energy.py:cost; it has cost, several, const"),
        ("energy.py:cots", None, r"has no function 'cots' \(did you mean 'cost'\?\); it has cost"),
        ("energy.py:LETTERS", None, "LETTERS is a str; it has cost"),
        ("energy.py:cost", "Z", "a Python function returns its own measurement"),
        ("enrgy.py:cost", None, r"enrgy.py: no such file; did you mean energy.py\?"),
        ("broken.py:f", None, r"broken.py cannot be imported: NameError: name 'y' .* \(line 2\)"),
        ("syntax.py:f", None, r"syntax.py cannot be imported: SyntaxError: .* \(line 1\)"),
        ("leaves.py:f", None, r"leaves.py cannot be imported: SystemExit: 3 \(line 1\)"),
        ("empty.py:f", None, r"empty.py has no function 'f'; it has none"),
        ("old.qasm:f", "Z", "an OpenQASM file has no functions; give old.qasm alone"),
        ("picture.png", "Z", "picture.png is no text; expected OpenQASM, or a Python file"),
        ("old.qasm", None, r'give what to measure, such as --observable "ZZ \+ 0.5 XI"'),
    ],
)
def test_what_cannot_be_loaded_says_why(folder, target, observable, reason):
    write(folder / "broken.py", "x = 1\nx + y\n")
    write(folder / "syntax.py", "def f(:\n")
    write(folder / "leaves.py", "raise SystemExit(3)\n")
    write(folder / "empty.py", "")
    (folder / "picture.png").write_bytes(b"\x89PNG\x00\xff")
    with pytest.raises(ProgramError, match=reason):
        load(target, observable)


# Values of arguments


@pytest.mark.parametrize(
    "target, texts, expected",
    [
        ("energy.py:cost", ["0.1,-0.2"], {"x": [0.1, -0.2]}),
        ("energy.py:cost", ["0.1,"], {"x": [0.1]}),
        ("energy.py:cost", [","], {"x": []}),
        ("energy.py:cost", ["x.npy"], {"x": np.eye(2)}),
        ("energy.py:cost", ["x.json"], {"x": [0.5, 0.6]}),
        ("energy.py:several", ["0.1", "2e-1"], {"a": 0.1, "b": 0.2}),
        ("energy.py:several", ["0.1, 0.2"], {"a": 0.1, "b": 0.2}),  # one vector is dealt out
        ("energy.py:several", ["0.1,0.2", "0.3"], {"a": [0.1, 0.2], "b": 0.3}),
        ("energy.py:several", ["0.1", "0.2", "0.3"], {"a": 0.1, "b": 0.2, "c": 0.3}),
        ("energy.py:several", ["x.npz"], {"a": 0.1, "b": 0.2}),
        ("energy.py:several", ["0.1", "b.json"], {"a": 0.1, "b": [0.5, 0.6]}),
        ("energy.py:qnode", ["0.1", "0.2"], {"a": 0.1, "b": 0.2}),
        ("energy.py:keyword", ["0.1", "0.2"], {"x": 0.1, "y": 0.2}),
        ("energy.py:constant", [], {}),
        ("old.qasm", [], {"0:rx(0)": 0.3, "1:ry(1)": np.pi / 2}),
        ("old.qasm", ["1,2"], {"0:rx(0)": 1, "1:ry(1)": 2}),
        ("new.qasm", ["1", "2"], {"c": 1, "a": 2}),
        ("new.qasm", ["x.npz", "c.json"], {"c": 0.7, "a": 0.1}),
    ],
)
def test_values_are_numbers_vectors_or_files(folder, target, texts, expected):
    np.save("x.npy", np.eye(2))
    write(folder / "x.json", json.dumps([0.5, 0.6]))
    write(folder / "b.json", json.dumps({"b": [0.5, 0.6]}))
    write(folder / "c.json", json.dumps({"c": 0.7}))
    np.savez("x.npz", a=np.float64(0.1), **({"b": np.float64(0.2)} if "several" in target else {}))
    observable = {"old.qasm": "ZI", "new.qasm": "Z"}.get(target)
    given = load(target, observable).arguments(texts)
    assert list(given) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(given[name], np.array(value, dtype=float), strict=True)


@pytest.mark.parametrize(
    "target, texts, reason",
    [
        ("energy.py:cost", [], r"cost takes 1 argument \(x\): no value for x. Give --params once"),
        ("energy.py:cost", ["1", "2"], r"takes 1 argument \(x\): --params gave 2"),
        ("energy.py:several", ["1,2,3"], r"3 arguments \(a, b, c\): no value for b"),
        ("energy.py:constant", ["1"], r"takes 0 arguments \(\): --params gave 1"),
        ("energy.py:cost", ["y.json"], "none of them is 'y'"),
        ("new.qasm", ["1,2,3"], r"new.qasm takes 2 arguments \(c, a\): no value for a"),
        ("energy.py:cost", ["0.1,zwei"], "--params 0.1,zwei: expected numbers like 0.1,0.2"),
        ("energy.py:cost", [""], "expected numbers"),
        ("energy.py:cost", ["nan"], "not every number is finite"),
        ("energy.py:cost", ["words.json"], "--params words.json: expected numbers"),
        ("energy.py:cost", ["nowhere.json"], "--params nowhere.json: No such file"),
    ],
)
def test_bad_values_say_what_was_expected(folder, target, texts, reason):
    write(folder / "y.json", '{"x": 1, "y": 2}')
    write(folder / "words.json", '["one"]')
    program = load(target, "Z" if target == "new.qasm" else None)
    with pytest.raises(ProgramError, match=reason):
        program.arguments(texts)
