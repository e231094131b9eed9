"""OpenQASM circuits and observables, against Qiskit's own reading of the same circuits."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import SparsePauliOp, Statevector

from qshift.cli.openqasm import OpenQASMError, parse_observable, read


def run(function, angles: dict) -> float:
    return float(qml.QNode(function, qml.device("default.qubit"))(**angles))


def qiskit_value(circuit: QuantumCircuit, terms: dict[str, float]) -> float:
    """<H> by Qiskit, whose words have qubit 0 on the right."""
    observable = SparsePauliOp.from_list([(word[::-1], c) for word, c in terms.items()])
    state = Statevector(circuit.remove_final_measurements(inplace=False))
    return float(np.real(state.expectation_value(observable)))


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
    value = run(*read(qasm2.dumps(circuit), OBSERVABLE))
    np.testing.assert_allclose(value, qiskit_value(circuit, TERMS), atol=1e-12)


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
    function, start = read(OPENQASM2 % written, OBSERVABLE)
    assert list(start)[:3] == ["0:rx(0)", "1:mine(0,2)", "2:mine(0,2)"]
    assert tuple(start.values()) == written
    for angles in (written, others):
        legacy = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
        truth = qasm2.loads(OPENQASM2 % angles, custom_instructions=legacy)
        value = run(function, dict(zip(start, angles, strict=True)))
        np.testing.assert_allclose(value, qiskit_value(truth, TERMS), atol=1e-12)


def test_a_gate_defined_in_the_file_wins_over_qiskits_of_that_name():
    text = HEAD2 + "gate rzz(a) p, q { ry(a) p; } qreg q[2]; rzz(0.3) q[0], q[1];"
    function, start = read(text, "ZI")
    assert start == {"0:rzz(0,1)": 0.3}
    np.testing.assert_allclose(run(function, {"0:rzz(0,1)": 1.1}), np.cos(1.1), atol=1e-14)


def test_definitions_in_the_file_are_exact():
    text = HEAD2 + (
        "gate inner(a, b) p { rx(a/3 - b) p; rz(pi/7 + 2*b) p; }"
        "gate g(a, b, c) p, q { inner(b - a/2, c) p; cx p, q; inner(pi/3, a) q; ry(0.7) p; }"
        "qreg q[2]; g(0.1, 0.2, 0.3) q[0], q[1]; h q[0];"
    )
    function, start = read(text, "XZ")
    for angles in ((0.0, 0.0, 0.0), (1e-9, 0.4, -2.0), (3.1, 1e3, 7.0)):
        truth = qasm2.loads(text.replace("0.1, 0.2, 0.3", ", ".join(map(repr, angles))))
        value = run(function, dict(zip(start, angles, strict=True)))
        np.testing.assert_allclose(value, qiskit_value(truth, {"XZ": 1.0}), atol=1e-12)


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
    function, start = read(OPENQASM3, OBSERVABLE)
    assert list(start.items()) == [("theta", None), ("unused", None), ("beta", None)]
    angles = {"theta": 0.4, "unused": 9.0, "beta": -1.3}
    circuit = qasm3.loads(OPENQASM3.replace("for int i in [0:2] { rx(beta) r; }", "rx(3*beta) r;"))
    bound = circuit.assign_parameters(angles, strict=False)
    np.testing.assert_allclose(run(function, angles), qiskit_value(bound, TERMS), atol=1e-12)


@pytest.mark.parametrize(
    "written, plain",
    [
        ("for uint i in [0:2] { rx(a) q[i]; }", "rx(a) q;"),
        ("for int i in {2, 0} { ry(a + i) q[i]; }", "ry(a + 2) q[2]; ry(a) q[0];"),
        ("for int i in [0:2:2] { rx(a * i) q[i]; }", "rx(0 * a) q[0]; rx(2 * a) q[2];"),
        (
            "for int i in [2:-2:0] { rx(a) q[i]; cx q[i], q[1]; }",
            "rx(a) q[2]; cx q[2], q[1]; rx(a) q[0]; cx q[0], q[1];",
        ),
        (
            "for int i in [0:1] { for int j in [i + 1:2] { cp(pi / 2 ** (j - i)) q[j], q[i]; } }",
            "cp(pi / 2) q[1], q[0]; cp(pi / 4) q[2], q[0]; cp(pi / 2) q[2], q[1];",
        ),
        (
            "for int i in {0} { for int i in [i:1] { rx(a) q[i]; } ry(a) q[i]; }",
            "rx(a) q[0]; rx(a) q[1]; ry(a) q[0];",
        ),
        (
            "const int n = 2 * 1; for int i in [0:n] { rx(a) q[i % n]; }",
            "rx(2*a) q[0]; rx(a) q[1];",
        ),
        ("const uint n = 1; gate g(n) p { rx(n) p; } g(a) q[n];", "rx(a) q[1];"),
        ("bit[3] c; rx(a) q[1]; for int i in [0:2] { c[i] = measure q[i]; }", "rx(a) q[1];"),
        ("delay[100ns] q[0]; rx(a) q[0]; delay[3dt] q; ry(a) q;", "rx(a) q[0]; ry(a) q;"),
        ("box { rx(a) q[0]; }", "rx(a) q[0];"),
        ("for int i in [2:1] { rx(a) q[i]; }", ""),
    ],
)
def test_loops_constants_delays_and_resets_of_openqasm3(written, plain):
    """Against the gates that they stand for, by Qiskit."""
    head = HEAD3 + "input float a; qubit[3] q; reset q; reset q[0]; h q; t q[0]; ry(0.4) q[1]; "
    function, start = read(head + written, OBSERVABLE)
    assert list(start) == ["a"]
    truth = qasm3.loads(head.replace("reset q; reset q[0]; ", "") + plain).assign_parameters(
        {"a": 0.7}, strict=False
    )
    np.testing.assert_allclose(run(function, {"a": 0.7}), qiskit_value(truth, TERMS), atol=1e-12)


@pytest.mark.parametrize(
    "head",
    ["", "\ufeff", "// no version\n", "\ufeffOPENQASM 2.0;\r\n", "OPENQASM 2;"],
)
@pytest.mark.parametrize(
    "body",
    [
        'include "qelib1.inc"; qreg q[1]; rx(0.3) q[0];',
        'include "qelib1.inc"; creg c[1]; qreg q[1]; reset q; rx(0.3) q[0]; measure q -> c;',
        "qreg q[1]; U(0.3, 0, 0) q[0];",
    ],
)
def test_openqasm2_with_and_without_its_version(head, body):
    function, start = read(head + body, "Z")
    assert next(iter(start.values())) == 0.3
    assert run(function, start) == pytest.approx(np.cos(0.3))


def test_differences_keep_their_sign():
    text = HEAD3 + "input float lambda; input float E; qubit q; rx(E - lambda/2) q; ry(0.3) q;"
    function, start = read(text, "Y")
    value = run(function, dict(zip(start, (0.3, 0.9), strict=True)))
    np.testing.assert_allclose(value, -np.sin(0.9 - 0.15), atol=1e-14)


def test_tensorflow_differentiates_through_the_angles_of_openqasm3():
    text = HEAD3 + "input float a; input float b; qubit q; rx(a*b) q; rx(a/2) q;"
    function, _ = read(text, "Z")
    x = tf.Variable([0.7, 0.4], dtype=tf.float64)
    with tf.GradientTape() as tape:
        operations = qml.tape.make_qscript(function)(a=x[0], b=x[1]).operations
        angle = tf.add_n([operation.parameters[0] for operation in operations])
    np.testing.assert_allclose(tape.gradient(angle, x), [0.4 + 0.5, 0.7], atol=1e-14)


@pytest.mark.parametrize(
    "text, reason",
    [
        (HEAD2 + "qreg q[1];\nrx(0.1 q[0];", r"not valid OpenQASM 2: bad.qasm, line 4,"),
        (HEAD2 + "qreg q[1];\nfoo q[0];", "'foo' is not defined"),
        (HEAD2 + "qreg q[2]; creg c[1]; measure q[0] -> c[0]; x q[0];", "wire 0 is measured"),
        (HEAD2 + "qreg q[1]; x q[0]; reset q[0];", "'reset' is not a gate.*resets at the start"),
        (HEAD2 + "qreg q[1]; creg c[1]; measure q[0]->c[0]; reset q[0];", "'reset' is not a gate"),
        (HEAD2 + "opaque delay(t) q; qreg q[1]; delay(3) q[0];", "'delay' is not a gate"),
        (HEAD2 + "qreg q[1]; creg c[1]; if (c == 1) x q[0];", "'if_else' is not a gate"),
        (
            HEAD2 + "gate g(a) p { rx(sin(a)) p; } qreg q[1]; g(0.1) q[0];",
            "gate 'g' uses its angle",
        ),
        (HEAD3 + "qubit q;\nrx(0.1 q;", "not valid OpenQASM: line 4:7"),
        (HEAD3 + "qubit q;\nrx(gamma) q;", "bad.qasm cannot be read: line 4,"),
        ("what is this", "not valid OpenQASM: it ends within a statement"),
        ("", "bad.qasm is empty"),
        (" // nothing\n", "bad.qasm is empty"),
        ("OPENQASM 4.0; qubit q;", "bad.qasm is OpenQASM 4; expected OpenQASM 2 or 3"),
        (HEAD3 + "qubit q; x q[1];", "bad.qasm cannot be read"),
        (HEAD3 + "qubit[3] q; for int i in [0:3] { x q[i]; }", "bad.qasm cannot be read"),
        (HEAD3 + "input float a; qubit q; rx(a / 0) q;", "bad.qasm cannot be read"),
        (HEAD3 + "qubit q; for int i in [0:2] { x q; break; }", "'break_loop' is not a gate"),
        (HEAD3 + "qubit q; for int i in [0:0:2] { x q; }", "bad.qasm, line 3: a step of 0"),
        (HEAD3 + "qubit q; for int i in [0:1000000] { x q; }", "more than 100000 statements"),
        (HEAD3 + "const int n = 1 / 0; qubit[n] q;", "bad.qasm, line 3: 1 / 0 is no integer"),
        (HEAD3 + "int n = 2; qubit[3] q; for int i in [0:n] { x q[i]; }", "cannot be read"),
    ],
)
def test_bad_openqasm_says_where(text, reason, capsys):
    with pytest.raises(OpenQASMError, match=reason):
        read(text, "Z" * (2 if "[2]" in text else 1), "bad.qasm")
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
    with pytest.raises(OpenQASMError, match=reason):
        parse_observable(text, 2)
