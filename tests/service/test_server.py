"""The loopback service, against an unmodified client of the real one."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit_ibm_runtime import (
    Batch,
    EstimatorV2,
    IBMInputValueError,
    QiskitRuntimeService,
    SamplerV2,
    Session,
)
from qiskit_ibm_runtime.api.exceptions import RequestsApiError
from qiskit_ibm_runtime.exceptions import (
    IBMNotAuthorizedError,
    IBMRuntimeError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
)

from service import INSTANCES, TOKEN
from service.faults import Faults, parse


def pub(backend, values=(0.1, 0.7), precision=0.02):
    circuit = QuantumCircuit(2)
    circuit.rx(Parameter("p0"), 0)
    circuit.cx(0, 1)
    isa = transpile(circuit, backend, seed_transpiler=0)
    observable = SparsePauliOp("ZI").apply_layout(isa.layout)
    return isa, [[observable]], [[value] for value in values], precision


def options(seed=None, **more):
    simulator = {} if seed is None else {"simulator": {"seed_simulator": seed}}
    return {**simulator, **more}


def tagged(*tags):
    return {"environment": {"job_tags": list(tags)}}


def test_nothing_else_can_be_reached():
    with pytest.raises(PermissionError, match="192.0.2.1"):
        socket.create_connection(("192.0.2.1", 443))
    with pytest.raises(PermissionError, match="example.org"):
        socket.create_connection(("example.org", 443))
    with pytest.raises(Exception, match="Unable to retrieve instances"):
        QiskitRuntimeService(token="nobody's")


def test_accounts_and_instances(loopback):
    service = QiskitRuntimeService()
    assert {(each["name"], each["plan"]) for each in service.instances()} == {
        ("open", "open"),
        ("premium", "premium"),
    }
    assert service.active_instance() == INSTANCES["premium"]
    named = QiskitRuntimeService(token=TOKEN, instance="open")
    assert named.active_instance() == INSTANCES["open"]
    with pytest.raises(IBMInputValueError, match="not have access"):
        QiskitRuntimeService(instance="crn:v1:bluemix:public:quantum-computing:us-east:a/b:c::")
    with pytest.raises(Exception, match="Unable to retrieve instances"):
        QiskitRuntimeService(token="another")


def test_backends_are_described_as_hardware_is(loopback):
    service = QiskitRuntimeService()
    backends = {each.name: each for each in service.backends()}
    assert set(backends) == {"ibm_ideal", "ibm_manila", "ibm_sherbrooke", "ibm_fractional"}
    sherbrooke = backends["ibm_sherbrooke"]
    assert sherbrooke.num_qubits == sherbrooke.target.num_qubits == 127
    assert sherbrooke.default_rep_delay == 250e-6
    assert sherbrooke.properties().t1(0) > 0
    assert sherbrooke.target["ecr"][(1, 0)].duration > 0
    assert service.least_busy(min_num_qubits=100).name == "ibm_sherbrooke"
    loopback.ask("backends", {"ibm_sherbrooke": "maintenance"})
    assert not sherbrooke.status().operational
    assert service.backend("ibm_manila").status().operational


def test_jobs_run_and_equal_seeds_give_equal_numbers(loopback):
    backend = QiskitRuntimeService().backend("ibm_ideal")
    work = pub(backend)
    runs = [
        EstimatorV2(mode=backend, options=options(seed)).run([work]).result()[0].data.evs
        for seed in (3, 3, 4, None, None)
    ]
    np.testing.assert_allclose(runs[0][0], np.cos([0.1, 0.7]), atol=0.08)
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[3], runs[4])
    assert np.any(runs[0] != runs[2])
    counts = loopback.counts()
    assert counts["jobs"] == 5 and sorted(counts["by_content"].values()) == [1, 2, 2]
    circuit = work[0].copy()
    circuit.measure_all()
    job = SamplerV2(mode=backend).run([(circuit, work[2], 100)])
    assert job.result()[0].data.meas.num_shots == 100
    assert job.metrics()["executions"] == 200 and job.usage() == 0.05


def test_jobs_have_options_tags_and_a_place_in_the_queue(loopback):
    service = QiskitRuntimeService()
    backend = service.backend("ibm_ideal")
    loopback.ask("queue", {"delay": 600, "ahead": 6})
    given = options(3, resilience_level=2, max_execution_time=50, **tagged("one", "two"))
    first = EstimatorV2(mode=backend, options=given).run([pub(backend)])
    second = EstimatorV2(mode=backend, options=tagged("two")).run([pub(backend)])
    assert first.status() == "QUEUED"
    assert first.metrics()["position_in_queue"] == 7
    assert second.metrics()["position_in_queue"] == 8
    assert [job.job_id() for job in service.jobs(job_tags=["one", "two"])] == [first.job_id()]
    found = service.jobs(job_tags=["two"], descending=False)
    assert [job.job_id() for job in found] == [first.job_id(), second.job_id()]
    assert loopback.counts()["by_tag"] == {"one": 1, "two": 2}
    shown = loopback.jobs()[0]
    assert shown["options"]["resilience_level"] == 2 and shown["cost"] == 50
    assert first.inputs["resilience_level"] == 2
    second.cancel()
    loopback.ask("queue", {"delay": 0})
    with pytest.raises(RuntimeInvalidStateError, match="cancelled"):
        second.result()
    assert len(first.result()) == 1
    with pytest.raises(RuntimeInvalidStateError, match="cannot be cancelled"):
        first.cancel()
    first.update_tags(["three"])
    assert service.job(first.job_id()).tags == ["three"]
    service.delete_job(second.job_id())
    assert len(service.jobs()) == 1


def test_sessions_and_batches(loopback):
    service = QiskitRuntimeService()
    backend = service.backend("ibm_ideal")
    for mode in (Session, Batch):
        opened = mode(backend, max_time=60)
        job = EstimatorV2(mode=opened).run([pub(backend)])
        assert len(job.result()) == 1 and job.session_id == opened.session_id
        assert opened.details()["max_time"] == 60
        opened.close()
        assert "not accepting" in opened.status() or opened.details()["accepting_jobs"] is False
    poor = QiskitRuntimeService(token=TOKEN, instance="open").backend("ibm_ideal")
    with pytest.raises(RequestsApiError, match="open plan"):
        Session(poor)
    Batch(poor).close()


@pytest.mark.parametrize(
    "fault, jobs",
    [
        # Behind a proxy, the client repeats all these by itself, accepted or not:
        ({"kind": "reset"}, 1),
        ({"kind": "reset", "after": True}, 2),
        ({"kind": "timeout", "seconds": 0.1}, 1),
        ({"kind": "timeout", "seconds": 0.1, "after": True}, 2),
        ({"kind": "503"}, 1),
        ({"kind": "500", "after": True}, 2),
        # And these are errors:
        ({"kind": "429", "seconds": 7}, 0),
        ({"kind": "429", "after": True}, 1),
        ({"kind": "401"}, 0),
    ],
)
def test_faults_of_submission(loopback, fault, jobs):
    backend = QiskitRuntimeService().backend("ibm_ideal")
    work = pub(backend)
    loopback.faults({"match": "POST /jobs$", "times": 1, **fault})
    run = EstimatorV2(mode=backend).run
    if fault["kind"] in ("429", "401"):
        with pytest.raises((IBMRuntimeError, IBMNotAuthorizedError)):
            run([work])
    else:
        run([work]).result()
    assert loopback.counts()["jobs"] == jobs
    assert max(loopback.counts()["by_content"].values(), default=0) == jobs


def test_faults_of_jobs(loopback):
    backend = QiskitRuntimeService().backend("ibm_ideal")
    work = pub(backend)
    loopback.faults({"kind": "fail", "match": "bad"}, {"kind": "short", "match": "few"})

    def job(tag):
        return EstimatorV2(mode=backend, options=tagged(tag)).run([work, work])

    with pytest.raises(RuntimeJobFailureError, match="calibration"):
        job("bad").result()
    assert len(job("few").result()) == 1
    assert len(job("good").result()) == 2
    loopback.faults({"kind": "cancel", "times": 1})
    with pytest.raises(RuntimeInvalidStateError):
        job("any").result()
    limited = options(max_execution_time=1)
    tiny = pub(backend, precision=0.002)
    with pytest.raises(Exception, match="longer than"):
        EstimatorV2(mode=backend, options=limited).run([tiny]).result()


def test_expired_tokens_are_refused(loopback):
    backend = QiskitRuntimeService().backend("ibm_ideal")
    loopback.ask("expire", {})
    with pytest.raises(IBMNotAuthorizedError):
        backend.status()


def test_the_server_outlives_its_client(loopback):
    script = (
        "from qiskit_ibm_runtime import *\n"
        "import os, sys; sys.path[:0] = ['tests', 'tests/service']\n"
        "from test_server import pub, tagged\n"
        "backend = QiskitRuntimeService().backend('ibm_ideal')\n"
        "EstimatorV2(mode=backend, options=tagged('orphan')).run([pub(backend)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    loopback.ask("queue", {"delay": 0.5})
    done = subprocess.run([sys.executable, "-c", script], timeout=100)
    assert done.returncode == -9
    (job,) = QiskitRuntimeService().jobs(job_tags=["orphan"])
    assert len(job.result()) == 1


def test_random_faults_follow_from_a_seed():
    rules = [{"kind": "404", "rate": 0.5}, {"kind": "fail", "rate": 0.5}]
    seen = []
    for _ in range(2):
        faults = Faults(seed=5)
        faults.set(rules)
        seen.append([faults.of_request("GET /jobs") is None for _ in range(20)])
    assert seen[0] == seen[1] and set(seen[0]) == {True, False}
    assert parse("reset:0.25,500-after") == [
        {"kind": "reset", "after": False, "rate": 0.25},
        {"kind": "500", "after": True, "rate": 1.0},
    ]
