"""What all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # results to the last digit, and no notice

import json
import pathlib

import pennylane as qml
import pytest

import qshift


@pytest.fixture(scope="session")
def ground_truth():
    """Exact values from papers."""
    return json.loads((pathlib.Path(__file__).parent / "ground_truth.json").read_text())


@pytest.fixture
def tracker():
    """Counts everything the test executes."""
    with qshift.Tracker() as tracker:
        yield tracker


@pytest.fixture
def cosine_product(ground_truth):
    """The five-qubit circuit of Mari, Bromley, Killoran (2021) and its parameters."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(theta):
        for wire in range(5):
            qml.RX(theta[wire], wires=wire)
        for control, target in [(0, 1), (2, 1), (3, 1), (4, 3)]:
            qml.CNOT(wires=[control, target])
        return qml.expval(qml.Z(1))

    return circuit, ground_truth["cosine_product"]
