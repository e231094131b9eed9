"""Options as plain data: the same where they are the same, and different where they are not."""

import json

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.quantum_info import PauliList
from qiskit.transpiler import CouplingMap
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
from qiskit_aer.noise.passes import LocalNoisePass
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from qiskit_ibm_runtime.utils.noise_learner_result import LayerError, PauliLindbladError

import qshift
from qshift.errors import OptionError
from qshift.executors.qiskit import canonical_options, digests, estimator
from qshift.executors.qiskit.device import EstimatorDevice


def readout(p):
    model = NoiseModel()
    model.add_all_qubit_readout_error(ReadoutError([[1 - p, p], [p, 1 - p]]))
    return model


def gates(p):
    model = NoiseModel()
    model.add_quantum_error(depolarizing_error(p, 2), ["cx"], [0, 1])
    return model


def relaxing(seconds):
    model = NoiseModel.from_backend(FakeManilaV2())
    (relaxation,) = model._custom_noise_passes
    relaxation._t1s = relaxation._t1s * seconds
    return model


def layers(rate, definition=None):
    circuit = QuantumCircuit(2)
    circuit.cz(0, 1)
    if definition is not None:
        gate = Gate("mine", 1, [])
        gate.definition = QuantumCircuit(1)
        getattr(gate.definition, definition)(0)
        circuit.append(gate, [0])
    rates = np.array([rate, rate / 2])
    return [LayerError(circuit, [0, 1], PauliLindbladError(PauliList(["IX", "XX"]), rates))]


def long(value):
    return np.where(np.arange(2000) == 1000, value, 0)


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [
        (readout, 0.1, 0.2),
        (gates, 0.1, 0.2),
        (relaxing, 1.0, 2.0),
        (layers, 0.1, 0.2),
        (lambda name: layers(0.1, name), "x", "y"),
        (lambda name: layers(0.1, name), "x", None),
        (long, 1, 2),
        (lambda size: np.empty((size, 0)), 1, 2),
        (lambda last: CouplingMap([(0, 1), (1, last)]), 2, 3),
        (lambda key: {(key, 1): 2.0}, 0, 1),
        (lambda last: {"a", "b", last}, "c", "d"),
        (complex, 1j, -1j),
    ],
)
def test_objects_are_what_they_consist_of(make, one, other):
    options = [{"options": {"a": {"b": make(each)}}} for each in (one, one, other)]
    texts = list(map(canonical_options.text, options))
    assert texts[0] == texts[1] != texts[2]
    assert " at 0x" not in texts[0]


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (np.int64(1), 1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("linear"), "linear"),
        (np.array([1.0, 3.0]), [1.0, 3.0]),
        ((1, 3), [1, 3]),
        (np.array([1, "a"], dtype=object), [1, "a"]),
    ],
)
def test_numbers_are_the_same_in_numpy_and_in_python(given, same):
    assert canonical_options.text({"a": given}) == canonical_options.text({"a": same})


def test_plain_options_are_found_as_they_were_recorded():
    plain = {"backend": "aer", "options": {"b": [1, 2.5, "x", None, True], "a": {"c": (1, 2)}}}
    assert canonical_options.text(plain) == json.dumps(plain, sort_keys=True)


def with_a_pass():
    model = readout(0.1)
    model._custom_noise_passes.append(LocalNoisePass(lambda op, qubits: None))
    return model


@pytest.mark.parametrize("make", [object, with_a_pass, lambda: np.longdouble(1) / 3])
def test_what_is_not_known_is_refused_where_it_would_be_recorded(make, tmp_path):
    options = {"simulator": {"noise_model": [make()]}}
    with pytest.raises(OptionError, match=r"^simulator\.noise_model: .*ledger=False"):
        digests.of_options({"options": options})
    assert digests.of_options({"options": options}, False) == digests.of_options(
        {"options": {"simulator": {"noise_model": [make()]}}}, False
    )
    options = {"experimental": {"a": {"b": make()}}}
    with pytest.raises(OptionError, match=r"^experimental\.a\.b: "):
        EstimatorDevice(backend="fake:FakeManilaV2", ledger=tmp_path / "a.sqlite", **options)
    EstimatorDevice(backend="fake:FakeManilaV2", **options)


def test_results_of_another_noise_model_are_not_read(tmp_path, tracker, monkeypatch):
    found = []
    for p in (0.0, 0.4, 0.4):
        monkeypatch.setattr(estimator, "_draws", digests.Draws())  # as another process
        options = {"noise_model": readout(p)}
        ledger = tmp_path / "a.sqlite"
        device = EstimatorDevice(backend="fake:FakeManilaV2", simulator=options, ledger=ledger)

        @qshift.qnode(device, shots=2000)
        def circuit(x):
            qml.RX(x, wires=0)
            return qml.probs(0)

        found.append(circuit(tf.constant(0.0, tf.float64)).numpy()[1])
    assert found[0] == pytest.approx(0.0, abs=0.05)
    assert found[1] == pytest.approx(0.4, abs=0.05)
    assert found[2] == found[1] and tracker.totals["jobs"] == 2
