"""Programs from Python files and OpenQASM, against Qiskit's own reading of the same circuits."""

import json
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import SparsePauliOp, Statevector

from qshift.programs import Program, ProgramError, from_openqasm, load, parse_observable


def run(program: Program, *args) -> float:
    return float(qml.QNode(program.function, qml.device("default.qubit"))(*args))


def qiskit_value(circuit: QuantumCircuit, terms: dict[str, float]) -> float:
    """<H> by Qiskit, whose words have qubit 0 on the right."""
    observable = SparsePauliOp.from_list([(word[::-1], c) for word, c in terms.items()])
    state = Statevector(circuit.remove_final_measurements(inplace=False))
    return float(np.real(state.expectation_value(observable)))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# OpenQASM

HEAD2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
HEAD3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
TERMS = {"XYZ": 0.3, "ZIX": -1.1, "IYI": 0.7, "ZZZ": 0.25, "XXI": -0.6, "III": 0.4}
OBSERVABLE = " + ".join(f"{c} {word}" for word, c in TERMS.items()).replace("+ -", "- ")


@pytest.mark.parametrize(
    "gate",
    [
        name
        for name, gate in get_standard_gate_name_mapping().items()
        if gate.num_qubits <= 3 and name not in ("measure", "reset", "delay", "global_phase")
    ],
)
def test_every_standard_gate_means_what_it_means_in_qiskit(gate):
    angles = np.random.default_rng(5).uniform(-3, 3, 16)
    prototype = get_standard_gate_name_mapping()[gate]
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.u(*angles[3 * qubit : 3 * qubit + 3], qubit)
    bound = prototype.base_class(*angles[9 : 9 + len(prototype.params)])
    circuit.append(bound, [2, 0, 1][: prototype.num_qubits])
    circuit.cx(0, 1)
    circuit.rx(0.3, 2)
    program = from_openqasm(qasm2.dumps(circuit), OBSERVABLE)
    np.testing.assert_allclose(
        run(program, program.start), qiskit_value(circuit, TERMS), atol=1e-12
    )


OPENQASM2 = (
    HEAD2
    + """
gate mine(a, b) p, q { rx(a/2 + b) p; cx p, q; rz(-2*b) q; }  // a comment
qreg a[1]; qreg b[2]; creg c[3];
h a[0];
rx(%r) a[0];
mine(%r, %r) a[0], b[1];
u3(%r, %r, %r) b[0];
cu1(%r) b[1], a[0];
barrier a, b;
rzz(%r) b[0], b[1];
cu3(%r, %r, %r) a[0], b[0];
measure a[0] -> c[0]; measure b[0] -> c[1]; measure b[1] -> c[2];
"""
)


def test_angles_written_in_openqasm2_are_the_parameters():
    rng = np.random.default_rng(0)
    written, others = (tuple(rng.uniform(-3, 3, 11).tolist()) for _ in range(2))
    program = from_openqasm(OPENQASM2 % written, OBSERVABLE)
    np.testing.assert_array_equal(program.start, written)
    assert program.parameters[:3] == ("0:rx(0)", "1:mine(0,2)", "2:mine(0,2)")
    assert len(program.parameters) == 11
    for angles in (written, others):
        legacy = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
        truth = qasm2.loads(OPENQASM2 % angles, custom_instructions=legacy)
        value = run(program, np.array(angles))
        np.testing.assert_allclose(value, qiskit_value(truth, TERMS), atol=1e-12)


def test_a_gate_defined_in_the_file_wins_over_qiskits_of_that_name():
    program = from_openqasm(
        HEAD2 + "gate rzz(a) p, q { ry(a) p; } qreg q[2]; rzz(0.3) q[0], q[1];", "ZI"
    )
    np.testing.assert_allclose(run(program, np.array([1.1])), np.cos(1.1), atol=1e-14)


OPENQASM3 = (
    HEAD3
    + """
/* inputs, in an order
   that is not the alphabet's */
input float[64] theta;
input float unused;
input angle beta;
gate mine(a) p, q { rx(a) p; cx p, q; rz(2*a) q; }
qubit[2] q;
qubit r;
bit[2] c;
rx(2*theta + pi/3) q[0];
ry(0.25) q[1];
mine(-theta) q[1], q[0];
ctrl @ rx(theta*beta) r, q[1];
negctrl @ x q[0], r;
inv @ mine(beta/3) r, q[0];
for int i in [0:2] { rx(beta) r; }
U(theta, 0.1, beta) r;
gphase(theta);
c = measure q;
"""
)


def test_inputs_of_openqasm3_are_the_parameters_in_their_order():
    program = from_openqasm(OPENQASM3, OBSERVABLE)
    assert program.parameters == ("theta", "unused", "beta") and program.start is None
    x = np.array([0.4, 9.0, -1.3])
    circuit = qasm3.loads(OPENQASM3.replace("for int i in [0:2] { rx(beta) r; }", "rx(3*beta) r;"))
    bound = circuit.assign_parameters({"theta": x[0], "beta": x[2]}, strict=False)
    np.testing.assert_allclose(run(program, x), qiskit_value(bound, TERMS), atol=1e-12)


def test_tensorflow_differentiates_through_the_angles_of_openqasm3():
    import tensorflow as tf

    text = HEAD3 + "input float a; input float b; qubit q; rx(a*b) q; rx(a/2) q;"
    program = from_openqasm(text, "Z")
    x = tf.Variable([0.7, 0.4], dtype=tf.float64)
    with tf.GradientTape() as tape:
        operations = qml.tape.make_qscript(program.function)(x).operations
        angle = tf.add_n([operation.parameters[0] for operation in operations])
    np.testing.assert_allclose(tape.gradient(angle, x), [0.4 + 0.5, 0.7], atol=1e-14)


@pytest.mark.parametrize(
    "text, reason",
    [
        (HEAD2 + "qreg q[1];\nrx(0.1 q[0];", r"not valid OpenQASM 2: bad.qasm, line 4,"),
        (HEAD2 + "qreg q[1];\nfoo q[0];", "'foo' is not defined"),
        (HEAD2 + "qreg q[2]; creg c[1]; measure q[0] -> c[0]; x q[0];", "wire 0 is measured"),
        (HEAD2 + "qreg q[1]; reset q[0]; x q[0];", "'reset' is not a gate"),
        (HEAD2 + "qreg q[1]; creg c[1]; if (c == 1) x q[0];", "'if_else' is not a gate"),
        (
            HEAD2 + "gate g(a) p { rx(sin(a)) p; } qreg q[1]; g(0.1) q[0];",
            "gate 'g' uses its angle",
        ),
        (HEAD3 + "qubit q;\nrx(0.1 q;", "not valid OpenQASM: line 4:7"),
        (HEAD3 + "qubit q;\nrx(gamma) q;", "bad.qasm cannot be read: line 4,"),
        ("what is this", "not valid OpenQASM"),
    ],
)
def test_bad_openqasm_says_where(text, reason, capsys):
    with pytest.raises(ProgramError, match=reason):
        from_openqasm(text, "Z" * (2 if "[2]" in text else 1), "bad.qasm")
    assert capsys.readouterr().err == ""


# Observables


@pytest.mark.parametrize(
    "text, terms",
    [
        ("ZZ", {"ZZ": 1}),
        (" -ZZ", {"ZZ": -1}),
        ("ZZ + 0.5 XI", {"ZZ": 1, "XI": 0.5}),
        ("-1.5e-3*IY - .25XX+2 II", {"IY": -1.5e-3, "XX": -0.25, "II": 2}),
        ("0.5 ZI + -0.5 IZ - -1. XY", {"ZI": 0.5, "IZ": -0.5, "XY": 1}),
        ("XX + XX", {"XX": 2}),
    ],
)
def test_observables_are_read_with_wire_0_on_the_left(text, terms):
    pauli = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]])}
    pauli["Z"] = np.diag([1, -1])
    truth = sum(c * np.kron(pauli[word[0]], pauli[word[1]]) for word, c in terms.items())
    matrix = qml.matrix(parse_observable(text, 2), wire_order=[0, 1])
    np.testing.assert_allclose(matrix, truth, atol=1e-15)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "cannot read the term ''"),
        ("ZZ + 0.5 XQ", "the word 'XQ' has letters other than"),
        ("zz", "the word 'zz' has letters other than"),
        ("ZZ + 0.5 X", r"the word 'X' has 1 letters, but the circuit has 2 qubits"),
        ("ZZ + 0.5", "cannot read the term '\\+ 0.5'"),
        ("ZZ + 0.5j XI", "cannot read the term '\\+ 0.5j XI'"),
        ("ZZ XI", "cannot read the term 'ZZ XI'"),
        ("ZZ + (0.5) XI - YY", "cannot read the term '\\+ \\(0.5\\) XI'"),
        ("Z0 Z1", "cannot read the term 'Z0 Z1'"),
    ],
)
def test_bad_observables_name_the_term(text, reason):
    with pytest.raises(ProgramError, match=reason):
        parse_observable(text, 2)


# Python files

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

def number(x):
    return 3.0

def keyword(x, *, y):
    return qml.expval(qml.Z(0))

qnode = qml.QNode(cost, qml.device("default.qubit"))
"""


@pytest.fixture
def module(tmp_path):
    write(tmp_path / "neighbour.py", "FACTOR = 2.0\n")
    return write(tmp_path / "energy.py", MODULE)


def test_functions_and_qnodes_come_out_of_python_files(module):
    cost = load(f"{module}:cost")
    assert cost.name == "energy.py:cost" and cost.parameters is None
    truth = np.cos(0.3) * np.cos(0.8)
    np.testing.assert_allclose(run(cost, np.array([0.3, 0.4])), truth, atol=1e-14)
    qnode = load(f"{module}:qnode")
    assert isinstance(qnode.function, qml.QNode)
    np.testing.assert_allclose(qnode.function(np.array([0.3, 0.4])), truth, atol=1e-14)
    qnode.check(np.array([0.3, 0.4]))


@pytest.mark.parametrize(
    "target, reason",
    [
        ("energy.py", r"name the function, as in .*energy.py:cost; it has cost, several, constant"),
        ("energy.py:cots", r"has no function 'cots' \(did you mean 'cost'\?\); it has cost"),
        ("energy.py:LETTERS", "LETTERS is a str, not a function"),
        ("enrgy.py:cost", r"enrgy.py: no such file; did you mean .*energy.py\?"),
        ("broken.py:f", r"broken.py cannot be imported: NameError: name 'y' .* \(line 2\)"),
        ("syntax.py:f", r"syntax.py cannot be imported: SyntaxError: .* \(line 1\)"),
        ("leaves.py:f", r"leaves.py cannot be imported: SystemExit: 3 \(line 1\)"),
        ("empty.py:f", r"empty.py has no function 'f'; it has none"),
        ("circuit.qasm:f", "an OpenQASM file has no functions"),
        ("circuit.qasm", r'give what to measure, such as --observable "ZZ \+ 0.5 XI"'),
    ],
)
def test_what_cannot_be_loaded_says_why(module, target, reason):
    write(module.parent / "broken.py", "x = 1\nx + y\n")
    write(module.parent / "syntax.py", "def f(:\n")
    write(module.parent / "leaves.py", "raise SystemExit(3)\n")
    write(module.parent / "empty.py", "")
    write(module.parent / "circuit.qasm", HEAD2 + "qreg q[1];")
    with pytest.raises(ProgramError, match=reason):
        load(str(module.parent / target))


def test_observables_are_for_openqasm_only(module):
    with pytest.raises(ProgramError, match="a Python function returns its own measurement"):
        load(f"{module}:cost", observable="Z")
    file = write(module.parent / "circuit.qasm", HEAD2 + "qreg q[2]; rx(0.3) q[1];")
    np.testing.assert_allclose(run(load(str(file), "IZ"), [0.5]), np.cos(0.5), atol=1e-14)


def test_check_tells_what_is_wrong_with_a_function(module):
    load(f"{module}:several").check(0.1, 0.2)
    with pytest.raises(ProgramError, match=r"shapes \(1,\): IndexError: index 1 is out of bounds"):
        load(f"{module}:cost").check(np.array([0.3]))
    with pytest.raises(ProgramError, match="returns float, expected a PennyLane measurement"):
        load(f"{module}:number").check(0.1)


# Values of parameters


def same(given, expected):
    assert len(given) == len(expected)
    for one, other in zip(given.values(), expected, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, np.array(other, dtype=float), strict=True)


def test_values_are_numbers_vectors_or_files(module):
    cost, several = load(f"{module}:cost"), load(f"{module}:several")
    folder = module.parent
    same(cost.arguments(["0.1,-0.2"]), [[0.1, -0.2]])
    same(cost.arguments(["0.1,"]), [[0.1]])
    same(several.arguments(["0.1", "2e-1"]), [0.1, 0.2])
    same(several.arguments(["0.1, 0.2"]), [0.1, 0.2])  # one vector is dealt out
    same(several.arguments(["0.1,0.2", "0.3"]), [[0.1, 0.2], 0.3])
    same(several.arguments(["0.1", "0.2", "0.3"]), [0.1, 0.2, 0.3])
    same(load(f"{module}:constant").arguments([]), [])
    np.save(folder / "x.npy", np.eye(2))
    same(cost.arguments([str(folder / "x.npy")]), [np.eye(2)])
    np.savez(folder / "x.npz", b=np.float64(0.2), a=np.float64(0.1))
    same(several.arguments([str(folder / "x.npz")]), [0.1, 0.2])
    file = write(folder / "x.json", json.dumps([0.5, 0.6]))
    same(cost.arguments([str(file)]), [[0.5, 0.6]])
    file = write(folder / "y.json", json.dumps({"b": [0.5, 0.6]}))
    same(several.arguments(["0.1", str(file)]), [0.1, [0.5, 0.6]])


@pytest.mark.parametrize(
    "function, texts, reason",
    [
        ("cost", [], r"needs values for 1 parameter \(x\): give --params"),
        ("cost", ["1", "2"], r"takes 1 parameter \(x\), but --params gave 2 in order"),
        ("several", ["1,2,3"], "missing a required argument: 'b'"),
        ("constant", ["1"], "takes 0 parameters, but --params gave 1"),
        ("cost", ["0.1,zwei"], "--params 0.1,zwei: expected numbers like 0.1,0.2"),
        ("cost", [","], None),
        ("cost", [""], "expected numbers"),
        ("cost", ["nan"], "not every number is finite"),
        ("cost", ["nowhere.json"], "--params nowhere.json: No such file"),
        ("keyword", ["y.json"], "y can only be passed by keyword"),
    ],
)
def test_bad_values_say_what_was_expected(module, function, texts, reason, monkeypatch):
    monkeypatch.chdir(module.parent)
    write(module.parent / "y.json", '{"x": 1, "y": 2}')
    program = load(f"energy.py:{function}")
    if reason is None:
        same(program.arguments(texts), [[]])
        return
    with pytest.raises(ProgramError, match=reason):
        program.arguments(texts)


def test_values_for_openqasm_fill_its_one_vector(tmp_path):
    program = from_openqasm(OPENQASM3, OBSERVABLE, "c.qasm")
    same(program.arguments(["1,2,3"]), [[1, 2, 3]])
    same(program.arguments(["1", "2", "3"]), [[1, 2, 3]])
    file = write(tmp_path / "x.json", '{"beta": 3, "theta": 1, "unused": 2}')
    same(program.arguments([str(file)]), [[1, 2, 3]])
    with pytest.raises(
        ProgramError, match=r"c.qasm has 3 parameters \(theta, unused, beta\), but "
    ):
        program.arguments(["1,2"])
    with pytest.raises(ProgramError, match="--params gave 0"):
        program.arguments([])
    file = write(tmp_path / "x.json", '{"gamma": 3}')
    with pytest.raises(ProgramError, match="no parameter 'gamma'"):
        program.arguments([str(file)])
    old = from_openqasm(HEAD2 + "qreg q[1]; rx(0.3) q[0]; ry(pi/2) q[0];", "Z", "old.qasm")
    same(old.arguments([]), [[0.3, np.pi / 2]])
    same(old.arguments(["1,2"]), [[1, 2]])
    with pytest.raises(ProgramError, match="old.qasm has 2 parameters"):
        old.arguments(["1"])
