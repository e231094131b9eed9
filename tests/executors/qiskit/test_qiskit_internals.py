"""What `qshift.executors.qiskit.qiskit_internals` promises of the runtime client's private and
undocumented names, each alone."""

import pytest
import requests
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import QiskitRuntimeService, RuntimeJobV2, SamplerV2
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qshift.executors.qiskit import qiskit_internals as internals
from qshift.executors.qiskit.aer_internals import noise_in, noise_passes


@pytest.fixture
def service(loopback):
    return QiskitRuntimeService()


@pytest.fixture
def job(service):
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    backend = service.backend("ibm_ideal")
    options = {"environment": {"job_tags": ["mine"]}}
    return SamplerV2(backend, options=options).run([(circuit, None, 10)])


def test_requests_are_for_an_instance(service):
    client = internals.client_of(service)
    assert internals.instance_of(client) == service.active_instance()
    assert client in internals.clients_of(service)


def test_all_requests_go_out_by_one_session(service, monkeypatch):
    client, seen = internals.client_of(service), []
    session = internals.session_of(client)
    assert isinstance(session, requests.Session)
    send = session.get_adapter("https://").send
    adapter = requests.adapters.HTTPAdapter()
    adapter.send = lambda request, **more: seen.append(request.method) or send(request, **more)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    client.list_backends()
    client.jobs_get(limit=1)
    assert seen == ["GET", "GET"]


def test_devices_are_listed(service):
    devices = internals.client_of(service).list_backends()
    assert "ibm_ideal" in {each["name"] for each in devices}
    assert all(isinstance(each["qubits"], int) and each["status"]["name"] for each in devices)
    assert {each["queue_length"] for each in devices} == {0}


def test_jobs_are_found(service, job):
    client = internals.client_of(service)
    found = client.job_get(job.job_id(), exclude_params=True)
    assert found["id"] == job.job_id() and found["program"]["id"] == "sampler" and found["created"]
    listed = client.jobs_get(limit=5, skip=0, job_tags=["mine"], descending=False)
    assert [each["id"] for each in listed["jobs"]] == [job.job_id()] and listed["count"] == 1
    assert client.jobs_get(limit=5, skip=1, job_tags=["mine"], descending=False)["jobs"] == []
    assert client.jobs_get(limit=5, skip=0, job_tags=["other"], descending=False)["jobs"] == []


def test_jobs_are_made_without_a_backend(service, job):
    made = RuntimeJobV2(
        backend=None,
        api_client=internals.client_of(service),
        job_id=job.job_id(),
        program_id="sampler",
        service=service,
        creation_date=None,
    )
    assert len(made.result()) == 1 and made.status() == "DONE"


def test_fake_backends_make_their_simulators_when_they_run():
    backend = FakeManilaV2()
    assert backend.sim is None and backend.options.noise_model is None
    backend._setup_sim()
    assert isinstance(backend.sim, AerSimulator)
    assert backend.options.noise_model is not None


@pytest.mark.parametrize("name", ["FakeManilaV2", "FakeSherbrooke"])
def test_the_noise_of_some_steps_is_that_of_the_backend_there(name):
    """Gates on one qubit and two, one without an error, delays and a readout."""
    backend = internals.fake_backend(name)
    pair = tuple(next(iter(backend.target["cx" if "cx" in backend.target else "ecr"])))
    two = "cx" if "cx" in backend.target else "ecr"
    steps = {("sx", pair[:1]), ("rz", pair[1:]), (two, pair), ("measure", pair[1:])}
    part = internals._noise(backend, frozenset(steps))
    whole = type(backend).__mro__[2]()
    whole._setup_sim()
    expected = noise_in(whole.options.noise_model, steps)
    found, wanted = (
        [repr(error | {"id": None}) for error in model.to_dict()["errors"]]
        for model in (part, expected)
    )
    assert found == wanted and len(found) >= 3
    assert len(noise_passes(part)) == len(noise_passes(expected)) == 1


def test_a_fake_backend_is_made_once():
    backend = internals.fake_backend("FakeManilaV2")
    assert internals.fake_backend("FakeManilaV2") is backend
