"""Backends as objects: simulators with a noise model of one's own, and fake backends."""

import pickle

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit.providers import BackendV2
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from service import TOKEN

import qshift
from qshift.errors import OptionError
from qshift.executors.qiskit import digests
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.given_target import GivenTarget

X = tf.constant(0.4, tf.float64)


def depolarizing(p):
    model = NoiseModel(basis_gates=["rx", "rz", "cx", "id"])
    model.add_all_qubit_quantum_error(depolarizing_error(p, 1), ["rx"])
    return model


def cosine(device, **settings):
    @qshift.qnode(device, **settings)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    return circuit


@pytest.mark.parametrize("p", [0.0, 0.1, 0.3])
def test_ones_own_noise_shrinks_values_and_derivatives_alike(p):
    device = EstimatorDevice(backend=AerSimulator(noise_model=depolarizing(p)))
    found = qshift.derivatives(cosine(device), X, order=2)
    exact = np.array([np.cos(0.4), -np.sin(0.4), -np.cos(0.4)])
    np.testing.assert_allclose(found, (1 - p) * exact, atol=1e-12)


def test_a_simulator_without_noise_is_exact():
    found = qshift.derivatives(cosine(EstimatorDevice(backend=AerSimulator())), X)
    np.testing.assert_allclose(found, [np.cos(0.4), -np.sin(0.4)], atol=1e-12)


def test_shots_see_errors_of_reading_out():
    model = NoiseModel()
    model.add_all_qubit_readout_error(ReadoutError([[0.9, 0.1], [0.1, 0.9]]))
    device = qshift.device(backend=AerSimulator(noise_model=model), seed=1)
    assert device.qshift_profile == "aer_simulator"
    value = float(cosine(device, shots=40_000)(X))
    assert abs(value - 0.8 * np.cos(0.4)) < 5 / 200


@pytest.mark.parametrize("backend", [FakeManilaV2(), GenericBackendV2(3, seed=1)])
def test_fake_backends(backend, tracker):
    device = qml.device("qshift.estimator", wires=1, backend=backend, seed=3)
    circuit = cosine(device, shots=4000)
    value, slope = qshift.derivatives(circuit, X)
    assert abs(float(value) - np.cos(0.4)) < 0.15 and abs(float(slope) + np.sin(0.4)) < 0.15
    assert tracker.totals["jobs"] == tracker.totals["transpilations"] == 1
    with pytest.raises(qshift.UnsupportedError, match="it needs shots"):
        cosine(EstimatorDevice(backend=backend))(X)


def identity(backend):
    return digests.of_options(GivenTarget(backend, None, {}).settings)


def test_the_ledger_tells_objects_apart_by_what_they_do():
    def noisy(p):
        return AerSimulator(noise_model=depolarizing(p))

    assert identity(noisy(0.1)) == identity(noisy(0.1))
    kinds = [noisy(0.1), noisy(0.2), AerSimulator(), AerSimulator(method="matrix_product_state")]
    kinds += [FakeManilaV2(), GenericBackendV2(3, seed=1), GenericBackendV2(3, seed=2)]
    assert len({identity(backend) for backend in kinds}) == len(kinds)
    assert identity(GenericBackendV2(3, seed=1)) == identity(GenericBackendV2(3, seed=1))


def test_results_are_recorded_and_not_mixed(tmp_path, tracker):
    def sampled(p):
        backend = AerSimulator(noise_model=depolarizing(p))
        device = EstimatorDevice(backend=backend, ledger=tmp_path / "ledger.sqlite", run="one")
        return float(cosine(device, shots=20_000)(X))

    weak, strong = sampled(0.05), sampled(0.5)
    assert abs(weak - 0.95 * np.cos(0.4)) < 0.04 and abs(strong - 0.5 * np.cos(0.4)) < 0.04
    assert tracker.totals["jobs"] == 2


class Elsewhere(BackendV2):
    """Stands for a backend of another provider."""

    target = max_circuits = None

    @classmethod
    def _default_options(cls):
        return None

    def run(self, run_input, **options):
        raise AssertionError("nothing may be sent")


@pytest.mark.parametrize(
    "backend, message",
    [
        (3, "expected a name or a backend of Qiskit's, got a builtins.int"),
        (FakeManilaV2, "expected a name or a backend of Qiskit's, got a abc.ABCMeta"),
        (Elsewhere(name="far"), "may be on a service, where nothing would be recorded"),
    ],
)
def test_what_is_refused(backend, message):
    with pytest.raises(OptionError, match=message):
        EstimatorDevice(backend=backend)


@pytest.mark.parametrize("mode", ["job", "batch"])
def test_a_backend_that_was_opened_on_a_service(loopback, tracker, tmp_path, mode):
    from qiskit_ibm_runtime import QiskitRuntimeService

    backend = QiskitRuntimeService().backend("ibm_ideal")
    path = tmp_path / "ledger.sqlite"
    device = EstimatorDevice(backend=backend, ledger=path, run="one", mode=mode)
    value, slope = qshift.derivatives(cosine(device, shots=4000), X)
    assert abs(float(value) - np.cos(0.4)) < 0.1 and abs(float(slope) + np.sin(0.4)) < 0.1
    assert tracker.totals["jobs"] == loopback.counts()["jobs"] == 1
    # By its name it is the same to the ledger, also in another process.
    named = EstimatorDevice(backend="ibm:ibm_ideal", ledger=path, run="one").target
    assert device.target.name == "ibm:ibm_ideal" and device.target.settings == named.settings
    assert device.target._version() == named._version()


def test_what_a_backend_was_opened_with_stays(loopback):
    from qiskit_ibm_runtime import QiskitRuntimeService

    service = QiskitRuntimeService()
    plain = EstimatorDevice(backend=service.backend("ibm_ideal"), ledger=False)
    opened = service.backend("ibm_fractional", use_fractional_gates=True)
    fractional = EstimatorDevice(backend=opened, ledger=False)
    assert not plain.target.settings.get("use_fractional_gates")
    assert fractional.target.settings["use_fractional_gates"] is True
    copied = pickle.dumps(fractional)
    assert TOKEN.encode() not in copied
    restored = pickle.loads(copied)
    assert restored.target.name == "ibm:ibm_fractional"
    assert restored.target.settings["use_fractional_gates"] is True
    for key, value in (("account", "a"), ("instance", "b"), ("use_fractional_gates", True)):
        with pytest.raises(OptionError, match="was opened with its own"):
            EstimatorDevice(backend=opened, **{key: value})


def test_keywords_of_the_service_are_refused():
    with pytest.raises(OptionError, match="belongs to IBM's backends"):
        EstimatorDevice(backend=AerSimulator(), mode="session")
