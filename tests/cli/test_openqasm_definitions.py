"""Definitions of gates of OpenQASM 2 files, found from their definitions at numbers."""

import numpy as np
import pytest
from qiskit import qasm2
from qiskit.circuit import Parameter
from qiskit.quantum_info import Operator

from qshift.cli.openqasm_definitions import linear_definition


def gate(body):
    text = f"OPENQASM 2.0; gate g(a, b) p {{ {body} }} qreg q[1]; g(0.1, 0.2) q[0];"
    (step,) = qasm2.loads(text).data
    return step.operation


def test_a_definition_has_the_gates_parameters():
    found = gate("U(a/3 - b, pi/7, 2*b) p; U(0, 0, 0.5 - a) p;")
    found.params = a, b = [Parameter("a"), Parameter("b")]
    linear = linear_definition(found)
    assert found.params == [a, b]
    for angles in ((0.0, 0.0), (1e-9, -2.0), (1e3, np.pi)):
        bound = linear.assign_parameters(dict(zip((a, b), angles, strict=True)))
        again = gate("U(a/3 - b, pi/7, 2*b) p; U(0, 0, 0.5 - a) p;")
        again.params, again.definition = list(angles), None
        np.testing.assert_allclose(Operator(bound), Operator(again.definition), atol=1e-12)
    first, second = linear.data
    assert first.operation.params[0].bind({a: 3.0, b: 0.5}).numeric() == 0.5
    assert second.operation.params[:2] == [0.0, 0.0]  # without parameters, so without derivatives


@pytest.mark.parametrize("angle", ["sin(a)", "a*b", "1/a", "sqrt(a)", "a^2", "ln(b)"])
def test_what_is_not_linear_has_none(angle):
    found = gate(f"U({angle}, 0, 0) p;")
    found.params = [Parameter("a"), Parameter("b")]
    assert linear_definition(found) is None
