"""Mitigated readout and twirled circuits on simulators of this process."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

import qshift
from qshift.errors import JobError, OptionError, UnsupportedError
from qshift.executors.qiskit import digests, estimator, pub_results
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.local_target import LocalTarget
from qshift.ledger.ledger import Ledger

X = tf.constant([0.4, -1.1], tf.float64)
CHANCES = ((0.02, 0.10), (0.08, 0.05))  # of reading 1 in place of 0, and 0 in place of 1
LEVEL = {"resilience_level": 1}


def noise(chances=CHANCES):
    """Errors of the readout only."""
    model = NoiseModel()
    for qubit, (up, down) in enumerate(chances):
        model.add_readout_error(ReadoutError([[1 - up, up], [down, 1 - down]]), [qubit])
    return model


def backend(chances=CHANCES):
    return AerSimulator(noise_model=noise(chances), coupling_map=[[0, 1], [1, 0]])


def gates(x):
    qml.RX(x[0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RY(x[1], wires=1)


def energy(x):
    gates(x)
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(1) - 0.2)


def all_kinds(x):
    gates(x)
    return qml.expval(qml.Z(0) @ qml.Z(1)), qml.var(qml.X(1)), qml.probs(wires=[0, 1])


def qnode(circuit, shots=20_000, backend=backend, **options):
    device = EstimatorDevice(backend=backend(), shots=shots, **{"seed": 1, **options})
    return qshift.qnode(device)(circuit)


def truth(circuit, order=1):
    return qshift.derivatives(qshift.qnode(qshift.device("simulator"))(circuit), X, order=order)


def test_values_and_derivatives_are_without_readout_errors():
    exact = truth(energy)
    bare = qshift.derivatives(qnode(energy), X)
    found = qshift.derivatives(qnode(energy, **LEVEL), X, errors=True)
    for (value, error), right in zip(found, exact, strict=True):
        assert np.all(np.abs(value - right) < 4 * error) and np.max(error) < 0.03
    # 0.88 * 0.87 of Z Z are left, and an offset, where there is no mitigation.
    assert np.abs(bare[0] - exact[0]) > 5 * found[0][1]


def test_errors_are_those_of_the_values():
    def batched(x):
        gates(tf.transpose(x))
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(1) - 0.2)

    x = np.tile(X, (150, 1)) + 1e-5 * np.arange(150)[:, None]  # as good as the same point
    options = LEVEL | {"twirling": {"num_randomizations": 2}}
    made = qnode(batched, shots=300, **options)
    ((values, errors),) = qshift.derivatives(made, tf.constant(x), order=0, errors=True)
    spread = np.std(values)
    assert np.mean(errors) == pytest.approx(spread, rel=0.2)
    # The error of the calibration, which they have in common, is a fifth of that.
    assert abs(np.mean(values) - truth(energy, 0)[0]) < 5 * spread * (1 / 5 + 1 / np.sqrt(150))


def test_six_qubits_with_asymmetric_readout():
    """Any two of them flip together as often as not."""

    def pairs(x):
        for wire in range(6):
            qml.RY(x[0] + 0.4 * wire, wires=wire)
        words = [qml.Z(i) @ qml.Z(j) for i in range(6) for j in range(i)]
        return qml.expval(qml.sum(*words))

    exact = qshift.qnode(qshift.device("simulator"))(pairs)(X)
    for seed in (0, 2):
        device = EstimatorDevice(
            backend=AerSimulator(noise_model=noise(((0.0, 0.2),) * 6)),
            shots=100_000,
            seed=seed,
            **LEVEL,
        )
        ((value, error),) = qshift.derivatives(qshift.qnode(device)(pairs), X, order=0, errors=True)
        assert abs(value - exact) < 4 * error


@pytest.mark.parametrize(
    "options", [LEVEL, {"resilience_level": 0, "twirling": {"enable_measure": True}}]
)
def test_a_qubit_that_is_measured_before_is_flipped_at_the_end_only(options):
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.cond(qml.measure(0), qml.RY)(x[1], wires=1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    found = qnode(circuit, 8000, FakeManilaV2, **options)(X)
    exact = qshift.qnode(qshift.device("simulator"))(circuit)(X)
    np.testing.assert_allclose(found, exact, atol=0.1)  # gates have errors, too


@pytest.mark.parametrize("shots", [300, 777, 1000])
def test_what_is_counted_is_what_is_drawn(shots, tracker, monkeypatch):
    drawn, simulate = [], LocalTarget.simulate

    def counted(self, submission):
        if submission.primitive == "sampler":
            drawn.extend(shots * bindings.size for _, bindings, shots in submission.pubs)
        return simulate(self, submission)

    monkeypatch.setattr(LocalTarget, "simulate", counted)
    made = qnode(energy, shots, **LEVEL)
    made(X)
    assert tracker.totals["shots"] == sum(drawn) == made.plan(X, order=0).shots


def test_what_is_returned_beside_expectation_values(tracker):
    found = qnode(all_kinds, **LEVEL)(X)
    exact = [each.numpy() for each in qshift.qnode(qshift.device("simulator"))(all_kinds)(X)]
    for value, right in zip(found[:2], exact[:2], strict=True):
        assert abs(value - right) < 0.03
    # Probabilities are as a Sampler gives them.
    confusion = [np.array([[1 - up, down], [up, 1 - down]]) for up, down in CHANCES]
    np.testing.assert_allclose(found[2], np.kron(*confusion) @ exact[2], atol=0.02)
    twirled = {"twirling": {"enable_measure": True}}
    symmetric = [np.array([[1 - p, p], [p, 1 - p]]) for p in np.mean(CHANCES, axis=1)]
    found = qnode(all_kinds, **twirled)(X)
    np.testing.assert_allclose(found[2], np.kron(*symmetric) @ exact[2], atol=0.02)


def test_plans_are_what_runs(tracker):
    made = qnode(all_kinds, shots=1000, **LEVEL)
    plan = made.plan(X)
    made(X)
    order = plan.orders[0]
    assert tracker.totals["shots"] == order.shots and tracker.totals["jobs"] == order.jobs == 2
    # Two bases of 8 variants, the outcomes of one, and a calibration.
    assert order.shots == 2 * 8 * 125 + 1000 + 8 * 128
    tracker.reset()
    device = EstimatorDevice(backend=backend(), seed=1, **LEVEL)
    own = qshift.qnode(device, shots=qshift.Shots(per_circuit=1000, least=200))(energy)
    found = qshift.derivatives(own, X, errors=True)
    for (value, error), right in zip(found, truth(energy), strict=True):
        assert np.all(np.abs(value - right) < 4.5 * error)
    assert tracker.totals["jobs"] == 1


@pytest.mark.parametrize("seed", [3, None])
def test_many_points_and_pubs_are_one_job(seed, tracker):
    @qshift.qnode(EstimatorDevice(backend=backend(), shots=4000, seed=seed, **LEVEL))
    def batched(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0)), qml.expval(qml.Y(0))

    x = np.linspace(-3, 3, 18)  # a block is of 16
    for values, right in zip(batched(tf.constant(x)), (np.cos(x), -np.sin(x)), strict=True):
        np.testing.assert_allclose(values, right, atol=5 / 0.88 / np.sqrt(4000))
    assert tracker.totals["jobs"] == 1


def test_seeds_repeat_samples():
    def values():
        return qshift.derivatives(qnode(energy, shots=200, **LEVEL), X)

    for one, other in zip(values(), values(), strict=True):
        np.testing.assert_array_equal(one, other)
    different = qshift.derivatives(qnode(energy, shots=200, seed=2, **LEVEL), X)
    assert different[0] != values()[0]


def test_the_ledger_keeps_mitigated_results_apart(tmp_path, tracker, monkeypatch):
    path = tmp_path / "ledger"

    def values(**options):
        monkeypatch.setattr(estimator, "_draws", digests.Draws())  # as another process
        tracker.reset()
        made = qnode(energy, shots=500, ledger=path, seed=None, **options)
        ((value, error),) = qshift.derivatives(made, X, order=0, errors=True)
        return float(value), float(error), tracker.totals["jobs"]

    first = values(**LEVEL)
    assert first[2] == 1
    assert values(**LEVEL) == (*first[:2], 0)  # the calibration is not measured again, either
    assert values()[2] == 1
    twirled = {"twirling": {"enable_measure": True}, "resilience_level": 0}
    assert values(**twirled)[2] == 1
    jobs = Ledger(path).jobs()
    assert sorted(job.shots for job in jobs) == [1000, 2 * 16 * 32, 2 * 16 * 32 + 16 * 64]
    rows = [
        len(pub_results.decoded("estimator", kept))
        for job in jobs
        for *_, kept in Ledger(path).points(job)
    ]
    assert sorted(rows) == [2, 2, 4]


def test_results_of_releases_without_mitigation_are_not_taken_for_mitigated():
    made = EstimatorDevice(backend="fake:FakeManilaV2", **LEVEL)
    assert made.target.settings["mitigation"]
    assert "mitigation" not in EstimatorDevice(backend="fake:FakeManilaV2").target.settings
    level = {"resilience_level": 0}
    assert "mitigation" not in EstimatorDevice(backend="fake:FakeManilaV2", **level).target.settings


def test_twirled_gates_on_a_fake_backend(tracker):
    options = {"twirling": {"enable_gates": True, "num_randomizations": 8}}
    device = EstimatorDevice(backend="fake:FakeManilaV2", shots=8000, seed=1, **options)
    found = qshift.derivatives(qshift.qnode(device)(energy), X)
    for value, right in zip(found, truth(energy), strict=True):
        np.testing.assert_allclose(value, right, atol=0.06)  # errors of gates are left
    assert tracker.totals["transpilations"] <= 1


def test_a_readout_that_tells_nothing_is_an_error():
    blind = lambda: backend(((0.5, 0.5), (0.0, 0.0)))  # noqa: E731
    with pytest.raises(JobError, match="cannot be divided by; take more shots"):
        qnode(energy, backend=blind, **LEVEL)(X)


@pytest.mark.parametrize(
    "options, key, message",
    [
        ({"resilience_level": 2}, "resilience_level", "no effect on fake:FakeManilaV2"),
        ({"dynamical_decoupling": {"enable": True}}, "dynamical_decoupling", "no effect"),
        ({"twirling": {"enable_gates": True, "strategy": "all"}}, "twirling.strategy", "no effect"),
        ({"environment": {"log_level": "INFO"}}, "environment", "no effect"),
        ({"execution": {"init_qubits": False}}, "execution", "no effect"),
        (
            {"resilience_level": 2, "experimental": {"a": 1}},
            "resilience_level",
            r"this process \(nor have experimental\)",
        ),
    ],
)
def test_options_without_effect_are_errors(options, key, message, tracker):
    device = EstimatorDevice(backend="fake:FakeManilaV2", shots=100, **options)
    made = qshift.qnode(device)(energy)
    assert made.plan(X, order=0).circuits == 1  # a plan says what they cost elsewhere
    with pytest.raises(OptionError, match=message) as caught:
        made(X)
    assert caught.value.option == key and not tracker.totals["jobs"]


def test_what_has_no_effect_on_a_circuit_is_an_error(tracker):
    exact = EstimatorDevice(backend="aer", **LEVEL)
    with pytest.raises(UnsupportedError, match="exact values here, .* give shots="):
        qshift.qnode(exact)(energy)(X)

    def outcomes(x):
        gates(x)
        return qml.probs(wires=0)

    named = {"resilience": {"measure_mitigation": True}}
    with pytest.raises(UnsupportedError, match="returns probabilities only"):
        qnode(outcomes, **named)(X)
    assert not tracker.totals["jobs"]
    assert qnode(outcomes, shots=100, **LEVEL)(X).shape == (2,)  # a level is for what it applies to
