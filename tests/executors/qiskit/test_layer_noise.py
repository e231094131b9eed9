"""The noise of layers of gates, which mitigation needs, on the loopback service."""

import json
import logging
from contextlib import nullcontext
from functools import partial

import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.cli.main import main
from qshift.errors import JobError, LimitError, OptionError, ServiceError, UnsupportedError
from qshift.executors.qiskit import digests, estimator, qiskit_internals, unconfirmed_jobs, waiting
from qshift.executors.qiskit.batch import Batch
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.service import ServiceTarget
from qshift.ledger.ledger import Ledger

NEWEST = not qiskit_internals.LEARNS_BY_ITSELF
PEC = {"resilience_level": 0, "resilience": {"pec_mitigation": True}}
PEA = {
    "resilience_level": 0,
    "resilience": {"zne_mitigation": True, "zne": {"amplifier": "pea", "noise_factors": [1, 2, 3]}},
}


def circuit(x, layers=1):
    qml.RX(x, wires=0)
    for layer in range(layers):  # with rotations between gates that would be cancelled else
        for pair in (0, 1), (1, 2):
            qml.CNOT(wires=pair)
            qml.RX(0.1 * (layer % 5) - 0.15, wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1) @ qml.Z(2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def run(ledger, x=0.3, shots=200, options=PEC, **more):
    """Measures one point, as a new process would."""
    estimator._draws = digests.Draws()
    device = EstimatorDevice(backend="ibm:ibm_manila", ledger=ledger, **options, **more)
    return qshift.qnode(device, shots=shots)(circuit)(tf.constant(x, tf.float64))


def programs(loopback):
    return [job["program"]["id"] for job in loopback.jobs()]


def learnt(loopback):
    return programs(loopback).count("noise-learner")


@pytest.mark.one_in(2)
@pytest.mark.parametrize("options", [PEC, PEA], ids=["pec", "pea"])
def test_noise_is_learnt_once_and_used_until_it_is_stale(loopback, path, options, caplog):
    run(path, options=options)
    estimating = "executor" if NEWEST else "estimator"
    assert programs(loopback) == ["noise-learner", estimating]
    with caplog.at_level(logging.INFO, "qshift"):
        for x in 0.5, 0.7:  # other points, and other processes
            run(path, x, options=options)
    assert "counts as that since 20" in caplog.text
    assert learnt(loopback) == 1 and len(programs(loopback)) == 4
    loopback.ask("calibrate", {"ibm_manila": "2026-11-01T00:00:00+00:00"})
    run(path, options=options)  # is recorded already
    assert len(programs(loopback)) == 4
    run(path, 0.9, options=options)
    assert learnt(loopback) == 2
    run(path, 0.9, options=options, run="another")
    assert learnt(loopback) == 3
    assert {job.state for job in Ledger(path).jobs()} == {"done"}


@pytest.mark.skipif(not NEWEST, reason="the service mitigates there, not the client")
def test_the_noise_that_is_amplified_is_that_of_the_gates(loopback, path):
    """Noise of gates on two qubits acts four times, once in the simulator and three times as it was
    learnt; what is left of others acts once."""

    def measured(factor):
        zne = {"amplifier": "pea", "noise_factors": [factor, 9], "extrapolator": "fallback"}
        options = {
            "resilience_level": 1,
            "resilience": {"zne_mitigation": True, "zne": zne},
            "twirling": {"num_randomizations": 400, "shots_per_randomization": 4},
        }
        device = EstimatorDevice(backend="ibm:ibm_manila", ledger=path, **options)
        return float(qshift.qnode(device, shots=1600)(partial(circuit, layers=12))(0.3))

    exact = qml.QNode(partial(circuit, layers=12), qml.device("default.qubit"))(0.3)
    once, four_times = measured(1), measured(4)
    assert exact * (once / exact) ** 4 - 0.1 < four_times < once - 0.08
    assert learnt(loopback) == 1


@pytest.mark.skipif(not NEWEST, reason="the service computes the values there")
def test_what_has_no_noise_to_cancel_is_not_sent(loopback, path):
    """The client takes the job, and cannot compute a value from what comes back."""

    def single(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    estimator._draws = digests.Draws()
    device = EstimatorDevice(backend="ibm:ibm_manila", ledger=path, **PEC)
    with pytest.raises(UnsupportedError, match="noise of gates on two qubits.*has none"):
        qshift.qnode(device, shots=200)(single)(0.3)
    assert programs(loopback) == []


@pytest.mark.skipif(NEWEST, reason="the client takes it there, and sends no model")
def test_the_estimator_is_told_the_noise(loopback, path):
    run(path)
    (options,) = [j["options"] for j in loopback.jobs() if j["program"]["id"] == "estimator"]
    told = options["options"]["resilience"]["layer_noise_model"]
    assert len(told) == 2 and json.dumps(told).count("PauliLindbladError") == 2


def test_a_learning_job_that_is_under_way_is_waited_for(loopback, path, monkeypatch):
    def struck(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(waiting, "wait", struck)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    assert programs(loopback) == ["noise-learner"]
    run(path)
    assert learnt(loopback) == 1 and len(programs(loopback)) == 2


def test_noise_that_comes_back_incomplete_is_no_noise(loopback, path):
    loopback.faults({"kind": "fail", "times": 1})
    with pytest.raises(JobError, match="lost their calibration"):
        run(path)
    assert programs(loopback) == ["noise-learner"]
    if NEWEST:
        loopback.faults({"kind": "short", "times": 1})
        with pytest.raises(JobError, match=r"results for \[1\] points in its PUBs, not \[1, 1\]"):
            run(path)
    loopback.faults()
    run(path)
    assert programs(loopback)[-2:] == ["noise-learner", "executor" if NEWEST else "estimator"]


def test_limits_hold_before_anything_is_learnt(loopback, path):
    """Learning takes 221,184 executions of at least 250 microseconds each for every layer."""
    few = {"resilience": {"pec_mitigation": True, "pec": {"max_overhead": 1.0}}}
    with pytest.raises(LimitError, match="max_qpu_seconds=40 .*Nothing was sent"):
        run(path, options=few, resilience_level=0, max_qpu_seconds=40)
    assert programs(loopback) == []
    quick = {"num_randomizations": 2, "shots_per_randomization": 8, "layer_pair_depths": [0, 1]}
    few["resilience"]["layer_noise_learning"] = quick
    run(path, options=few, resilience_level=0, max_qpu_seconds=40)
    assert learnt(loopback) == 1


def test_without_a_ledger(loopback):
    if NEWEST:
        with pytest.raises(OptionError, match="learnt by a job of its own and kept in the ledger"):
            run(False)
        assert programs(loopback) == []
    else:  # the service learns in each job
        run(False)
        assert programs(loopback) == ["estimator"]


def test_options_of_learning_are_checked():
    where = {"backend": "ibm:ibm_manila"}
    wrong = {"pec_mitigation": True, "layer_noise_learning": {"num_randomizations": 0}}
    with pytest.raises(OptionError, match=r"layer_noise_learning.num_randomizations.*got 0"):
        EstimatorDevice(**where, resilience=wrong)
    wrong["layer_noise_learning"] = {"randomizations": 3}
    with pytest.raises(OptionError, match="no such option.*layer_noise_learning"):
        EstimatorDevice(**where, resilience=wrong)


def test_jobs_that_learn_are_listed_and_exported(loopback, path, capsys):
    run(path)
    assert main(["jobs", "--ledger", str(path)]) == 0
    listed = capsys.readouterr().out
    assert "noise" in listed and "cx" in listed
    assert main(["jobs", "export", "2", "--json", "-", "--ledger", str(path)]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    (noise,) = job["pubs"][0]["noise"]
    rates = [term[-1] for term in noise["terms"]] if NEWEST else noise[0]["error"]["rates"]
    assert 0 < sum(rates) < 0.1


ONCE = {"times": 1}
LEVEL = {"resilience_level": 1}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("options, jobs", [(PEC, 2), (LEVEL, 1)], ids=["pec", "readout"])
@pytest.mark.parametrize(
    "fault, error, more",
    [
        ({"kind": "html", "match": "results$"}, ServiceError, 0),
        ({"kind": "other", "match": "results$"}, ServiceError, 0),
        ({"kind": "list", "match": "results$"}, ServiceError, 0),
        ({"kind": "404-html", "match": "results$"}, ServiceError, 0),
        ({"kind": "cut", "match": "results$"} | ONCE, None, 0),
        ({"kind": "401", "match": "results$"} | ONCE, None, 0),
        ({"kind": "401", "match": "POST /jobs$"} | ONCE, None, 0),
        ({"kind": "html", "match": "POST /jobs$", "after": True} | ONCE, None, 0),
        ({"kind": "null", "match": "properties$", "times": 2}, None, 0),
        ({"kind": "double"} | ONCE, JobError, 1),
        ({"kind": "deleted"}, JobError, 1),
    ],
    ids=lambda each: "-".join(map(str, each.values())) if isinstance(each, dict) else None,
)
def test_faults_of_the_service(options, jobs, fault, error, more, loopback, path, monkeypatch):
    """Nothing is lost or paid for twice but what the service no longer has, or cannot be read."""
    monkeypatch.setattr(ServiceTarget, "sleep", staticmethod(lambda seconds: None))
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.0)
    if fault["kind"] == "deleted":
        wait = Batch._wait

        def deleting(self, jobs):
            loopback.ask("delete", [job.id for _, job in jobs])
            return wait(self, jobs)

        with monkeypatch.context() as patch, pytest.raises(error, match="was deleted there"):
            patch.setattr(Batch, "_wait", deleting)
            run(path, options=options)
    elif fault["kind"] == "double" and not NEWEST and options is PEC:
        pytest.skip("the learner has one result there, whatever is in it")
    else:
        loopback.faults(fault)
        with pytest.raises(error) if error else nullcontext():
            run(path, options=options)
        loopback.faults()
    found = run(path, options=options)
    assert loopback.counts()["jobs"] == jobs + more
    assert run(path, options=options) == found and loopback.counts()["jobs"] == jobs + more
    states = sorted(job.state for job in Ledger(path).jobs())
    assert states.count("done") == jobs and len(states) == jobs + more
