"""IBM's quantum computers as targets, through an unmodified client and a loopback service."""

import http.client
import logging
import os
import re
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_aer.primitives import EstimatorV2 as AerEstimator
from qiskit_ibm_runtime.accounts import management
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from random_circuits import GATES, TEMPLATES, RandomCircuit
from service import INSTANCES, TOKEN
from services import MIXED

import qshift
from qshift.errors import AccountError, JobError, OptionError, ServiceError
from qshift.executors.qiskit import qiskit_internals, retry, unconfirmed_jobs
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.job import Submission
from qshift.executors.qiskit.pub_results import unpacked
from qshift.executors.qiskit.service import ServiceTarget

SHOTS = 20_000


@pytest.fixture
def quick(monkeypatch):
    """Waits of a few milliseconds, and what they would have been."""
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        time.sleep(min(seconds, 0.02))

    monkeypatch.setattr(ServiceTarget, "sleep", staticmethod(sleep))
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.3)
    return waits


def ibm(name="ibm_ideal", **options):
    """A device without a ledger, which has tests of its own."""
    device = EstimatorDevice(backend=f"ibm:{name}", ledger=False, **options)
    device.qshift_shots = 1000
    return device


def rotation(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


def layered(x):
    for wire in range(4):
        qml.RX(x[wire], wires=wire)
    for wire in range(3):
        qml.CNOT([wire, wire + 1])
    return qml.expval(qml.Z(0) @ qml.Z(2))


THETA = tf.constant([0.3, 0.5, 0.7, 0.9], tf.float64)


# Values and counts


@pytest.mark.parametrize("seed", range(3))
def test_random_circuits_agree_with_the_simulator(loopback, seed):
    rng = np.random.default_rng(seed)
    # PennyLane decomposes the first two not at all; the layouts of templates are other tests'.
    names = sorted(set(GATES) - {"C(Evolution)", "Evolution(irrational)"} - set(TEMPLATES))
    ansatz = RandomCircuit(seed, 2 + seed % 4, 2, gates=3, measurements=0, names=names)
    wires = [int(wire) for wire in rng.permutation(ansatz.wires)]

    def circuit(x):
        ansatz(x)
        return (
            qml.expval(qml.prod(*(qml.Y(wire) for wire in wires))),
            qml.expval(0.3 * qml.X(wires[0]) + 0.2 * qml.Z(wires[-1]) - 0.1 * qml.I(wires[0])),
            qml.probs(wires=wires),
            qml.probs(op=qml.X(wires[0])),
        )

    with qshift.Tracker() as tracker:
        qnode = qshift.qnode(ibm(wires=wires), shots=SHOTS, seed=seed)(circuit)
        values = qnode(tf.constant(ansatz.theta))
    assert tracker.totals["jobs"] == loopback.counts()["jobs"] == MIXED
    exact = qml.QNode(circuit, qml.device("default.qubit"))(ansatz.theta)
    for value, truth in zip(values, exact, strict=True):
        np.testing.assert_allclose(value, truth, atol=5 / np.sqrt(SHOTS))


def test_one_transpilation_and_one_job_for_all_orders(loopback, tracker):
    qnode = qshift.qnode(ibm(), seed=1)(layered)
    plan = qnode.plan(THETA, order=2)
    executions = plan.circuits * 1000
    if qiskit_internals.own_mitigation({}) is None:
        # In 16 twirled circuits of 64, and in each job 32 of them to learn the readout.
        executions = plan.circuits * 16 * 64 + plan.jobs * 32 * 64
    assert plan.seconds == pytest.approx(2 * plan.jobs + executions * 250e-6, rel=0.1)
    found = qshift.derivatives(qnode, tf.Variable(THETA), order=2)
    assert tracker.totals["jobs"] == tracker.totals["transpilations"] == 1
    assert tracker.totals["circuits"] == plan.circuits
    (job,) = loopback.jobs()
    assert job["pubs"] == 1 and job["usage"]["seconds"] == plan.circuits * 1000 * 250e-6
    np.testing.assert_allclose(
        found[0], qml.QNode(layered, qml.device("default.qubit"))(THETA.numpy()), atol=0.2
    )
    again = qshift.qnode(ibm(), seed=1)(layered)  # as in another run: from disk
    np.testing.assert_array_equal(
        qshift.derivatives(again, tf.Variable(THETA), order=2)[2], found[2]
    )
    assert tracker.totals["transpilations"] == 1 and tracker.totals["jobs"] == 2


def test_from_a_fake_backend_to_hardware_by_one_word(loopback, tracker):
    for name in ("fake-sherbrooke", "ibm"):

        @qshift.qnode(qshift.device(name))
        def energy(x):
            qml.RX(x, wires=0)
            return qml.expval(qml.Z(0))

        x = tf.Variable(0.4)
        with tf.GradientTape() as tape:
            y = energy(x)
        assert abs(tape.gradient(y, x) + np.sin(0.4)) < 0.2
    assert loopback.counts()["jobs"] == 2 and tracker.totals["jobs"] == 4


def test_larger_batches_are_the_fewest_jobs(loopback):
    points = tf.constant(np.linspace(0, 1, 10))
    for options, jobs in (
        ({"max_parameter_values": 4}, 3),
        ({"max_executions": 3000}, 4),
        ({"max_payload": 600}, 2),
        ({"max_time": 2}, 2),  # 0.25 s each, 1.6 s in all
    ):
        loopback.reset()
        qnode = qshift.qnode(ibm(**options))(rotation)
        assert qnode.plan(points, order=0).jobs == jobs
        np.testing.assert_allclose(qnode(points), np.cos(points), atol=0.2)
        assert loopback.counts()["jobs"] == jobs, options


def test_the_least_busy_backend_that_is_large_enough(loopback):
    loopback.ask("backends", {"ibm_ideal": "maintenance"})
    target = ibm("least-busy").target
    settings = target.settings
    assert target.name == "ibm:least-busy" and target.num_qubits == 5
    assert target.name == "ibm:ibm_manila"  # and so it is called in messages and in the ledger
    assert target.settings == settings  # but results are found by what was asked for
    target = ibm("least-busy", wires=20).target
    assert target.num_qubits == 127 and target.backend_name == "ibm_sherbrooke"
    with pytest.raises(OptionError, match="none of at least 128 qubits"):
        assert ibm("least-busy", wires=128).target.num_qubits


# Options, modes, jobs


def test_options_reach_the_service(loopback):
    options = {
        "resilience_level": 2,
        "twirling": {"enable_gates": True},
        "environment": {"job_tags": ["mine"]},
        "max_time": 77,
    }
    qshift.qnode(ibm(**options))(rotation)(0.3)
    (job,) = loopback.jobs()
    assert job["options"]["resilience_level"] == 2 and job["cost"] == 77
    assert job["options"]["options"]["twirling"]["enable_gates"] is True
    assert job["tags"][-1] == "mine" and len(job["tags"]) == 2


def test_options_of_simulators_are_not_for_services():
    with pytest.raises(OptionError, match="simulator: no effect on ibm:ibm_ideal") as caught:
        ibm(simulator={"noise_model": NoiseModel()})
    assert caught.value.option == "simulator"


@pytest.mark.parametrize("mode", ["batch", "session"])
def test_sessions_and_batches_are_opened_once(loopback, mode):
    qnode = qshift.qnode(ibm(mode=mode, max_time=600))(rotation)
    qnode(0.3)
    loopback.ask("expire", {})
    qnode(0.4)
    sessions = {job["session_id"] for job in loopback.jobs()}
    assert len(sessions) == 1 and None not in sessions
    assert loopback.counts()["requests"]["POST /sessions"] == 1


QUICK = {"num_randomizations": 2, "shots_per_randomization": 8, "layer_pair_depths": [0, 1]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resilience_level": 1, "max_time": 60},
        {"resilience_level": 2, "twirling": {"enable_gates": True}, "mode": "batch"},
        {"mode": "session", "environment": {"log_level": "INFO"}},
        {"resilience": {"pec_mitigation": True, "layer_noise_learning": QUICK}},
    ],
    ids=["plain", "readout", "extrapolation", "session", "pec"],
)
def test_a_program_whose_warnings_are_errors_runs(loopback, tmp_path, options):
    def circuit(x):
        return layered(x), qml.probs(wires=[1])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        device = EstimatorDevice(backend="ibm:ibm_manila", ledger=tmp_path / "ledger", **options)
        qnode = qshift.qnode(device, shots=100)(circuit)
        with tf.GradientTape() as tape:
            tape.watch(THETA)
            value = qnode(THETA)[0]
        assert tape.gradient(value, THETA).shape == (4,)
    assert loopback.counts()["jobs"] >= 2


def test_a_warning_that_is_an_error_is_no_answer_of_something_in_between(loopback, monkeypatch):
    """The client warns of some states of a backend before it sends a job."""

    def warned(*_):
        warnings.warn("The backend has a status of its own.", UserWarning, stacklevel=1)

    monkeypatch.setattr(ServiceTarget, "_require_running", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="of its own"):
            qshift.qnode(ibm())(rotation)(0.3)
    assert loopback.counts()["jobs"] == 0


def test_a_dry_run_is_said_to_have_random_results(loopback):
    with pytest.raises(OptionError, match="there is no 'mock_ideal'.*your account has"):
        with pytest.warns(qshift.errors.QShiftWarning, match="dry runs.*random numbers"):
            device = ibm("mock_ideal")
        qshift.qnode(device)(rotation)(0.3)
    loopback.ask("rename", {"ibm_ideal": "mock_ideal"})
    with pytest.warns(qshift.errors.QShiftWarning, match="dry runs"):
        device = ibm("mock_ideal")
    qshift.qnode(device)(rotation)(0.3)
    (job,) = loopback.jobs()
    assert job["backend"] == "mock_ideal"


def test_the_open_plan_has_no_sessions(loopback):
    device = ibm(mode="session", instance=INSTANCES["open"])
    with pytest.raises(OptionError, match='mode: the open plan has no sessions. Take mode="job"'):
        qshift.qnode(device)(rotation)(0.3)
    assert loopback.counts()["jobs"] == 0
    qshift.qnode(ibm(mode="batch", instance="open"))(rotation)(0.3)
    assert loopback.counts()["jobs"] == 1


def pubs(target):
    """A PUB of rotation, for the target itself."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter

    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("p0"), 0)
    isa = target.transpiled("rotation", lambda: circuit)
    values = BindingsArray({tuple(isa.parameters): [[[0.3]]]})
    return [(isa, [SparsePauliOp("Z").apply_layout(isa.layout)], values, 0.03)]


def test_jobs_are_found_again(loopback, quick):
    loopback.ask("queue", {"delay": 600, "ahead": 3})
    target = ibm().target
    first = target.submit(Submission("estimator", pubs(target), 1, tags=("one",)))
    second = target.submit(Submission("estimator", pubs(target), 1, tags=("two",)))
    assert first.status() == "queued" and second.queue_position() == 5
    other = ibm().target  # as in another process
    assert [job.id for job in other.find("two")] == [second.id]
    assert other.find("three") == []
    other.job(second.id).cancel()
    other.job(second.id).cancel()  # is over already, which is well
    assert second.status() == "cancelled"
    with pytest.raises(JobError, match="cancelled: by you or the operator. Run this again"):
        second.result()
    loopback.ask("queue", {"delay": 0})
    (result,) = other.job(first.id).result()
    assert abs(unpacked("estimator", result)[0][0, 0] - np.cos(0.3)) < 0.2
    assert first.status() == "done" and first.queue_position() is None and first.usage() > 0
    with pytest.raises(ServiceError, match="has no job nobody's"):
        other.job("nobody's").status()


# Faults


@pytest.mark.one_in(2)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["reset", "timeout", "429", "500", "503", "504"])
def test_no_fault_of_submission_makes_two_jobs(loopback, quick, kind, after):
    target = ibm().target
    work = pubs(target)
    seconds = {"timeout": 0.1, "429": 7}.get(kind)
    loopback.faults(
        {"kind": kind, "after": after, "match": "POST /jobs$", "times": 1, "seconds": seconds}
    )
    job = target.submit(Submission("estimator", work, 1, tags=("mine",)))
    assert len(job.result()) == 1
    counts = loopback.counts()
    assert counts["jobs"] == counts["by_tag"]["mine"] == 1
    assert counts["requests"]["POST /jobs"] == (1 if after else 2)  # the client repeats nothing
    assert (quick[0] == 7) if kind == "429" else (quick[0] <= retry.FIRST_WAIT)


def test_a_submission_is_not_repeated_before_it_is_known_whether_it_arrived(loopback, quick):
    target = ibm().target
    work = pubs(target)
    loopback.faults(
        {"kind": "reset", "after": True, "match": "POST /jobs$", "times": 1},
        {"kind": "503", "match": "GET /jobs$", "times": 9},
        {"kind": "reset", "match": "GET /jobs$", "times": 5},
    )
    target.submit(Submission("estimator", work, 1, tags=("mine",))).result()
    assert loopback.counts()["jobs"] == loopback.counts()["requests"]["POST /jobs"] == 1


@pytest.mark.parametrize("kind", ["reset", "timeout", "429", "503"])
def test_whatever_only_reads_is_repeated(loopback, quick, kind):
    rule = {"kind": kind, "match": "^(GET|POST /v3)", "rate": 0.4, "times": 30}
    loopback.faults(rule | ({"seconds": 0.05} if kind == "timeout" else {}))
    with qshift.Tracker() as tracker:
        qshift.qnode(ibm())(layered)(THETA)
    assert tracker.totals["jobs"] == loopback.counts()["jobs"] == 1


def test_every_question_about_a_backend_is_repeated(loopback, quick):
    kinds = {
        "/backends": "reset",
        "/configuration": "429",
        "/properties": "500",
        "/status": "reset",
    }
    for path, kind in kinds.items():
        loopback.faults({"kind": kind, "match": f"{path}$", "times": 5})
        assert qshift.qnode(ibm("ibm_manila"))(rotation)(0.3).shape == ()
        assert qshift.qnode(ibm("least-busy"))(rotation).plan(0.3, order=0).seconds > 0


def test_a_service_that_stays_away_is_an_error_that_says_how_to_go_on(loopback, quick):
    target = ibm().target
    job = target.submit(Submission("estimator", pubs(target), 1))
    loopback.faults({"kind": "429", "seconds": 200})
    with pytest.raises(ServiceError, match="asks to wait 200 s.*keep running.*Run this again") as e:
        job.status()
    assert not isinstance(e.value, AccountError) and quick[-3:] == [200.0] * 3
    loopback.faults({"kind": "400"})
    with pytest.raises(ServiceError, match=r"refuses: A fault that was switched on \(400\)"):
        job.status()
    loopback.faults()
    assert len(job.result()) == 1


def test_credentials_that_expire_are_renewed_once(loopback, quick):
    target = ibm().target
    job = target.submit(Submission("estimator", pubs(target), 1))
    loopback.ask("expire", {})
    assert len(job.result()) == 1
    loopback.ask("expire", {})
    assert len(target.submit(Submission("estimator", pubs(target), 1)).result()) == 1
    loopback.faults({"kind": "401", "match": " /(jobs|backends)"})
    with pytest.raises(AccountError, match="refuses the credentials.*save_acc.*Nothing is lost"):
        job.status()
    with pytest.raises(AccountError, match="refuses the credentials"):
        target.submit(Submission("estimator", pubs(target), 1))
    assert loopback.counts()["jobs"] == 2


def test_maintenance(loopback, quick):
    qnode = qshift.qnode(ibm())(rotation)
    qnode(0.3)
    loopback.ask("backends", {"ibm_ideal": "maintenance"})
    with pytest.raises(ServiceError, match="ibm_ideal does not run jobs now .*maintenance.*Not"):
        qnode(0.3)
    assert loopback.counts()["jobs"] == 1


def test_jobs_that_fail(loopback, quick):
    qnode = qshift.qnode(ibm())(rotation)
    for kind, reason in (
        ("fail", "failed: .*the control electronics lost their calibration"),
        ("cancel", "cancelled"),
        ("short", "came back with results for"),
        ("double", "came back with results for"),
    ):
        loopback.faults({"kind": kind, "times": 1})
        with pytest.raises(JobError, match=reason):
            qnode(0.3)
    assert abs(qnode(0.3) - np.cos(0.3)) < 0.2
    device = ibm(max_time=1)
    device.qshift_shots = 2000
    target = device.target
    ((isa, observable, values, _),) = pubs(target)
    job = target.submit(Submission("estimator", [(isa, observable, values, 0.01)], 1))
    with pytest.raises(JobError, match="maximum execution time.*Raise max_time="):
        job.result()


# Accounts


def test_without_an_account_it_is_said_how_to_save_one(monkeypatch, tmp_path):
    accounts = tmp_path / "accounts.json"
    monkeypatch.setattr(management, "_DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(accounts))
    device = ibm()
    with pytest.raises(AccountError, match="no IBM Quantum account here.*\n.*\n.*save_account"):
        qshift.qnode(device)(rotation)(0.3)
    with pytest.raises(AccountError, match="account called 'work' here"):
        qshift.qnode(ibm(account="work"))(rotation)(0.3)


def test_accounts_that_were_saved_are_used_by_name(loopback, monkeypatch, tmp_path):
    from qiskit_ibm_runtime import QiskitRuntimeService

    for name in [name for name in os.environ if name.startswith("QISKIT_IBM_")]:
        monkeypatch.delenv(name)
    accounts = tmp_path / "accounts.json"
    monkeypatch.setattr(management, "_DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(accounts))
    QiskitRuntimeService.save_account(token=TOKEN, instance=INSTANCES["open"], name="work")
    QiskitRuntimeService.save_account(token="out of date", name="old")
    qshift.qnode(ibm(account="work"))(rotation)(0.3)
    assert loopback.counts()["jobs"] == 1
    with pytest.raises(AccountError, match="refuses the account: Provided API key could not be"):
        qshift.qnode(ibm(account="old"))(rotation)(0.3)


def test_what_the_account_does_not_have(loopback):
    with pytest.raises(OptionError, match="instance: The instance specified .mine."):
        assert ibm(instance="mine").target.num_qubits
    with pytest.raises(OptionError, match="no 'ibm_manilla' .did you mean 'ibm_manila'.*ibm_ideal"):
        assert ibm("ibm_manilla").target.num_qubits


def test_tokens_are_nowhere(loopback, quick, tmp_path, caplog, capfd, monkeypatch):
    """Neither in logs at any level, output, warnings or errors, nor in files."""
    # IBM's SDK turns it on where its messages are wanted, and leaves it so.
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 0)
    caplog.set_level(logging.DEBUG)
    for name in ("qshift", "qiskit_ibm_runtime", "urllib3", "requests", "ibm-cloud-sdk-core"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    texts = []
    try:
        device = EstimatorDevice(backend="ibm:ibm_ideal", ledger=tmp_path / "ledger.db")
        qnode = qshift.qnode(device, shots=100)(rotation)
        texts += [repr(device), repr(vars(device)), repr(vars(device.target)), str(qnode.plan(0.3))]
        qnode(0.3)
        loopback.faults({"kind": "429", "seconds": 10_000}, {"kind": "fail"})
        for fault in (
            {"kind": "429", "seconds": 10_000},
            {"kind": "401"},
            {"kind": "400"},
            {"kind": "reset"},
            {"kind": "fail"},
        ):
            loopback.faults(fault)
            try:
                qnode(0.3)
            except qshift.errors.QShiftError:
                texts.append(traceback.format_exc())
        loopback.faults()
        with pytest.raises(OptionError):
            assert ibm(instance="crn:v1:other").target.num_qubits
    finally:
        for name in ("qshift", "qiskit_ibm_runtime", "urllib3", "requests", "ibm-cloud-sdk-core"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert len(texts) == 9
    texts += [caplog.text, *capfd.readouterr()]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".qpy" for file in files) and tmp_path / "ledger.db" in files
    data = [text.encode() for text in texts] + [file.read_bytes() for file in files]
    assert not any(TOKEN.encode() in each for each in data)
    assert not any(re.search(rb"Bearer ey|apikey ", each) for each in data)


def test_only_the_door_and_what_is_behind_it_import_the_runtime_package():
    package = Path(qshift.__file__).parent
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"^\s*(from|import) qiskit_ibm_runtime", file.read_text(), re.MULTILINE)
    }
    behind = {"runtime_executor", "runtime_primitives"}
    assert found == {f"executors/qiskit/{name}.py" for name in behind | {"qiskit_internals"}}
    importing = {
        file.stem
        for file in package.rglob("*.py")
        if re.search(r"^(from|import) .*\bruntime_(executor|primitives)\b", file.read_text(), re.M)
    }
    assert not importing


# Noise


def test_noisy_derivatives_are_those_of_the_noisy_expectation(loopback, cosine_product):
    """Of Mari, Bromley, Killoran's circuit, to second order, readout errors included."""
    shots, (circuit, exactly) = 40_000, cosine_product
    theta = np.array(exactly["theta"])
    device = ibm("ibm_manila", resilience_level=0)
    qnode = qshift.qnode(device, shots=shots, seed=7)(circuit.func)
    value, gradient, hessian = qshift.derivatives(qnode, tf.Variable(theta), order=2)
    assert loopback.counts()["jobs"] == 1

    # The truth: Aer's exact density matrices of the same transpiled circuit, differentiated
    # numerically, and what misreading the measured qubit makes of a value, which is affine.
    (isa,) = device.target._circuits.values()
    observable = SparsePauliOp("IIIZI").apply_layout(isa.layout)  # Qiskit's order
    simulator = AerSimulator.from_backend(FakeManilaV2())
    estimator = AerEstimator.from_backend(
        simulator, options={"run_options": {"method": "density_matrix"}}
    )
    qubit = isa.layout.final_index_layout()[1]
    (readout,) = (
        error["probabilities"]
        for error in simulator.options.noise_model.to_dict()["errors"]
        if error["type"] == "roerror" and error["gate_qubits"] == [(qubit,)]
    )

    def truth(*points):
        columns = [int(parameter.name[1:]) for parameter in isa.parameters]
        values = np.array(points)[:, columns]
        exact = estimator.run([(isa, observable, values, 0.0)]).result()[0].data.evs
        return (readout[0][0] - readout[1][0]) * exact + readout[0][0] + readout[1][0] - 1

    step, units, sigma = 0.05, np.eye(5), 1 / np.sqrt(shots)
    np.testing.assert_allclose(value, truth(theta)[0], atol=5 * sigma)
    assert abs(truth(theta)[0] - exactly["value"]) > 10 * sigma
    up, down = (truth(*(theta + sign * step * units)) for sign in (1, -1))
    np.testing.assert_allclose(gradient, (up - down) / (2 * step), atol=5 * sigma + step**2 / 6)
    for i, j in [(0, 0), (1, 1), (0, 1), (2, 3)]:
        signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
        corners = truth(*(theta + step * (a * units[i] + b * units[j]) for a, b in signs))
        second = signs.prod(axis=1) @ corners / (4 * step**2)
        np.testing.assert_allclose(hessian[i, j], second, atol=5 * sigma + step**2 / 2)


# Answers that are none of the service's

# Each request, and as what its answer comes.
REQUESTS = {
    ("POST /identity/token$", "html"): "Looking ibm_ideal up",
    ("POST /v3", "list"): "Looking ibm_ideal up",
    ("GET /backends$", "other"): "Looking ibm_ideal up",
    ("GET /backends/.*/properties$", "html"): "Looking ibm_ideal up",
    ("GET /backends/.*/status$", "list"): "Submitting a job to ibm:ibm_ideal",
    ("GET /instances/usage$", "html"): "Submitting a job to ibm:ibm_ideal",
    ("POST /jobs$", "html"): "Submitting a job to ibm:ibm_ideal",
    ("POST /jobs$", "other"): "Submitting a job to ibm:ibm_ideal",
    ("GET /jobs/[^/]*$", "html"): "Asking for job job-",
    ("GET /jobs/[^/]*$", "list"): "Asking for job job-",
    ("GET /jobs/.*/results$", "html"): "Fetching the results of job-",
    ("GET /jobs/.*/results$", "other"): "Fetching the results of job-",
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("request_of, kind", REQUESTS)
def test_other_answers_are_tried_again_and_then_an_error(
    loopback, quick, monkeypatch, caplog, request_of, kind
):
    caplog.set_level(logging.INFO, "qshift")
    monkeypatch.setattr(retry, "UNREADABLE_PATIENCE", 2.0)
    monkeypatch.setattr(retry, "PATIENCE", 5.0)
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.1)
    rule = {"kind": kind, "match": request_of}
    loopback.faults(rule | {"times": 2})
    assert abs(qshift.qnode(ibm())(rotation)(0.3) - np.cos(0.3)) < 0.2
    assert "again in" in caplog.text
    loopback.faults(rule)
    with pytest.raises(ServiceError) as caught:
        qshift.qnode(ibm())(rotation)(0.3)
    said = str(caught.value)
    assert said.startswith(REQUESTS[request_of, kind])
    assert "Run this again" in said
    assert "Sign in" not in said and "hello" not in said  # it may have secrets in it
    counts = loopback.counts()
    assert max(counts["by_tag"].values(), default=0) <= 1


def test_other_answers_about_what_is_not_vital_are_no_error(loopback, quick, monkeypatch):
    monkeypatch.setattr(retry, "UNREADABLE_PATIENCE", 1.0)
    for kind in ("html", "other", "list", "null"):
        loopback.faults({"kind": kind, "match": "GET /jobs/.*/metrics$"})
        assert abs(qshift.qnode(ibm())(rotation)(0.3) - np.cos(0.3)) < 0.2


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", ["html", "other", "list", "null", "empty", "cut"])
def test_a_list_that_is_none_is_not_taken_for_an_empty_one(loopback, quick, monkeypatch, kind):
    """Otherwise a job that has arrived would be sent again."""
    monkeypatch.setattr(retry, "UNREADABLE_PATIENCE", 2.0)
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.1)
    loopback.faults(
        {"kind": "504", "after": True, "match": "POST /jobs$", "times": 1},
        {"kind": kind, "match": "GET /jobs$", "times": 2},
    )
    assert abs(qshift.qnode(ibm())(rotation)(0.3) - np.cos(0.3)) < 0.2
    assert loopback.counts()["jobs"] == 1
    loopback.faults(
        {"kind": "504", "after": True, "match": "POST /jobs$", "times": 1},
        {"kind": kind, "match": "GET /jobs$"},
    )
    with pytest.raises(ServiceError, match="Looking for jobs tagged"):
        qshift.qnode(ibm())(rotation)(0.3)
    assert loopback.counts()["jobs"] == 2 and set(loopback.counts()["by_tag"].values()) == {1}


# Fractional gates


def ising(x):
    qml.RX(x[0], wires=0)
    qml.RY(0.4, wires=1)
    qml.IsingZZ(x[1], wires=[0, 1])
    qml.RX(0.3, wires=1)
    return qml.expval(qml.Y(0) @ qml.Y(1) + 0.5 * qml.Z(0))


def test_fractional_gates_reach_the_backend(loopback):
    x = tf.constant([0.7, 2.5], tf.float64)
    device = ibm("ibm_fractional", use_fractional_gates=True)
    with qshift.Tracker() as tracker:
        found = qshift.derivatives(qshift.qnode(device, shots=20_000, seed=1)(ising), x)
    assert tracker.totals["jobs"] == tracker.totals["transpilations"] == 1
    assert device.target.bounds_angles and device.target.settings["use_fractional_gates"] is True
    truth = qshift.derivatives(qshift.qnode(qshift.device("simulator"))(ising), x)
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, other, atol=0.15)
    plain = ibm("ibm_fractional")
    assert not plain.target.bounds_angles and "use_fractional_gates" not in plain.target.settings


def test_fractional_gates_where_there_are_none(loopback):
    with pytest.raises(OptionError, match="ibm_manila has no fractional gates") as caught:
        assert ibm("ibm_manila", use_fractional_gates=True).target.num_qubits
    assert caught.value.option == "use_fractional_gates"
    target = ibm("least-busy", use_fractional_gates=True).target
    assert target.num_qubits == 5 and target.backend_name == "ibm_fractional"
    loopback.ask("backends", {"ibm_fractional": "maintenance"})
    with pytest.raises(OptionError, match="ibm_ideal, .*, none has fractional gates; leave it out"):
        assert ibm("least-busy", use_fractional_gates=True).target.num_qubits


def test_a_backend_whose_description_did_not_come_is_looked_up_again(loopback, quick):
    loopback.faults({"kind": "500", "match": "ibm_fractional/configuration$", "times": 5})
    target = ibm("least-busy", use_fractional_gates=True).target
    assert target.num_qubits == 5 and target.backend_name == "ibm_fractional" and quick


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"resilience_level": 2}, "twirled gates"),
        ({"twirling": {"enable_gates": True}}, "twirled gates"),
        ({"resilience": {"pec_mitigation": True}}, "error cancellation"),
        ({"resilience": {"zne_mitigation": True, "zne": {"amplifier": "pea"}}}, '"pea"'),
    ],
)
def test_what_fractional_gates_do_not_go_with(options, reason):
    with pytest.raises(OptionError, match=f"do not go together with .*{reason}"):
        ibm("ibm_fractional", use_fractional_gates=True, **options)


def test_fractional_gates_belong_to_backends_of_a_service():
    with pytest.raises(OptionError, match='belongs to backend="ibm:'):
        EstimatorDevice(backend="fake:FakeManilaV2", use_fractional_gates=True)
    with pytest.raises(OptionError, match="expected True or False, got 1"):
        ibm(use_fractional_gates=1)


def test_copies_on_patches_of_a_service_are_one_job(loopback):
    def turned(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0)), qml.probs(wires=0)

    device = ibm("ibm_manila", copies=2)
    with qshift.Tracker() as tracker:
        value, outcomes = qshift.qnode(device, shots=4001, seed=1)(turned)(0.8)
    assert tracker.totals["jobs"] == MIXED and tracker.totals["shots"] == 2 * 4002
    np.testing.assert_allclose([value, outcomes[0] - outcomes[1]], np.cos(0.8), atol=0.12)


def test_conditions_run_on_a_service(loopback):
    def corrected(x):
        for _ in range(5):  # with deferred measurements, that is two wires more than there are
            qml.RX(x, wires=0)
            outcome = qml.measure(0, reset=True)
            qml.cond(outcome, qml.RY)(0.2, wires=1)
        return qml.expval(qml.Z(1))

    qnode = qshift.qnode(ibm("ibm_ideal"), shots=2000, seed=1)(corrected)
    assert qnode.plan(tf.constant(0.7), order=0).seconds > 2
    value = qnode(tf.constant(0.7))
    truth = qshift.qnode(qshift.device("simulator"))(corrected)(tf.constant(0.7))
    assert loopback.counts()["jobs"] == 1
    np.testing.assert_allclose(value, truth, atol=0.1)
