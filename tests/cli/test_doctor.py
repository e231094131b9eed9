"""``qshift doctor``: what it finds out, and what it tells nobody."""

import importlib.metadata
import json
import os
import sys

import pytest

import qshift
from qshift.cli import doctor
from qshift.cli.main import main
from qshift.ledger.ledger import default_path

TOKEN = "a-token-that-nobody-may-see"
SHIPPED = ("simulator", "default-qubit", "aer", "ibm")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Profiles of a user's, and those of qshift's own that are quick."""
    directory = tmp_path / "profiles"
    directory.mkdir()

    def add(name, text):
        (directory / f"{name}.toml").write_text(f'description = "of tests"\n{text}\n')

    monkeypatch.setenv("QSHIFT_DEVICES", str(directory))
    names = doctor._devices
    quick = lambda: [n for n in names() if n in SHIPPED or (directory / f"{n}.toml").exists()]  # noqa: E731
    monkeypatch.setattr(doctor, "_devices", quick)
    return add


def examined(capsys):
    """Returns the status, and what was printed as JSON."""
    status = main(["doctor", "--json", "-"])
    return status, json.loads(capsys.readouterr().out)


def test_what_works_is_told(own, capsys):
    status, found = examined(capsys)
    assert status == 0 and found["qshift"] == qshift.__version__
    assert found["packages"]["tensorflow"] == importlib.metadata.version("tensorflow")
    assert found["system"]["Python"].endswith(".".join(map(str, sys.version_info[:3])))
    checks = found["checks"]
    assert checks["derivatives in TensorFlow"].startswith("works")
    assert all(checks[f"device {name}"].startswith("works") for name in SHIPPED[:3])
    contracts = [outcome for name, outcome in checks.items() if name.startswith("internals ")]
    assert len(contracts) == 8 and set(contracts) == {"holds: every name is there"}


def test_every_module_with_internals_is_examined():
    package = os.path.dirname(qshift.__file__)
    there = {
        os.path.relpath(os.path.join(directory, name[:-3]), os.path.dirname(package))
        for directory, _, names in os.walk(package)
        for name in names
        if name.endswith("_internals.py")
    }
    assert {each.replace(os.sep, ".") for each in there} == set(doctor._INTERNALS)


def test_nothing_is_sent_and_nothing_recorded(own, capsys, loopback):
    own("recording", 'backend = "aer"\n[options]\nledger = true')
    status, found = examined(capsys)
    assert status == 0 and found["checks"]["device recording"].startswith("works")
    assert "not tried" in found["checks"]["device ibm"]
    assert loopback.counts()["jobs"] == 0 and not loopback.counts()["requests"]
    assert not default_path().exists()


def test_what_does_not_work_is_named_and_fails(own, capsys, monkeypatch):
    own("broken", 'device = "no.such.device"')
    status, found = examined(capsys)
    outcome = found["checks"]["device broken"]
    assert status == 1 and outcome.startswith("fails: ProfileError") and "no.such.device" in outcome
    assert found["checks"]["device simulator"].startswith("works")


def test_a_name_that_a_framework_no_longer_has_fails(own, capsys, monkeypatch):
    import keras

    module = "qshift.keras.keras_internals"
    monkeypatch.setattr(doctor, "_INTERNALS", {"qshift.no_internals": None, module: None})
    monkeypatch.setattr(doctor, "_devices", lambda: [])
    assert keras.__version__
    status, found = examined(capsys)
    assert status == 1
    assert found["checks"]["internals qshift.no_internals"].startswith("fails: ModuleNotFoundError")
    assert found["checks"][f"internals {module}"].startswith("holds")


def test_a_device_with_wrong_results_fails(own, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_devices", lambda: ["simulator"])
    monkeypatch.setattr(doctor, "_cosine", lambda device: lambda x: 0.0 * x**3)
    status, found = examined(capsys)
    assert status == 1
    assert "an expectation value is 0.000, not 0.921" in found["checks"]["device simulator"]
    assert "a second derivative is wrong, eager" in found["checks"]["derivatives in TensorFlow"]


def test_an_extra_that_is_not_installed(own, capsys, monkeypatch):
    from qshift import extras

    found_before = extras.is_installed
    lacks = lambda module: module != "qiskit_aer" and found_before(module)  # noqa: E731
    monkeypatch.setattr(doctor, "is_installed", lacks)
    monkeypatch.setattr(extras, "is_installed", lacks)
    status, found = examined(capsys)
    assert status == 0 and found["extras"]["qiskit"] == "lacks qiskit_aer"
    assert found["checks"]["device aer"].startswith("not tried: The backend aer needs qiskit-aer")
    assert found["checks"]["internals qshift.executors.qiskit.aer_internals"] == (
        "not tried: the extra qiskit is not installed"
    )


def test_no_secrets_and_no_names_of_users(own, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_devices", lambda: [])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QISKIT_IBM_TOKEN", TOKEN)
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", TOKEN)
    status = main(["doctor"])
    out = "".join(capsys.readouterr())
    assert status == 0 and "QISKIT_IBM_TOKEN" in out
    assert TOKEN not in out and str(tmp_path) not in out and "~/XDG_DATA_HOME" in out
