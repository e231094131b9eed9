"""Device profiles: what ships, how files are found and checked, what the built devices are."""

import pickle
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest

from qshift.api import profiles
from qshift.api.profiles import ProfileError, device
from qshift.errors import MissingExtraError

EXACT = ("aer", "default-qubit", "lightning", "mixed", "simulator")
NOISY = ("aer-noisy", "fake-manila", "fake-sherbrooke")
AER = {"device": "qiskit.aer", "wires": 2}
SHIPPED = tuple(sorted((*EXACT, "aer-shots", *NOISY, "gpu", "ibm")))


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Keeps the profiles of whoever runs the tests out of them."""
    monkeypatch.delenv("QSHIFT_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "qshift" / "devices"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


GOOD = 'description = "mine"\ndevice = "default.qubit"\n'


def circuit(x):
    qml.RX(x, wires=0)
    qml.DoubleExcitation(0.4, wires=[0, 1, 2, 3])
    qml.CRot(x, 0.1, 0.2, wires=[0, 1])
    return qml.expval(0.7 * qml.Z(0) @ qml.Y(1) + 0.2 * qml.X(2)), qml.probs(wires=[0, 1])


# What ships


def test_shipped_profiles_are_listed_in_order_with_their_descriptions():
    listed = [profiles.read(file) for file in profiles.profile_files().values()]
    assert tuple(each.name for each in listed) == SHIPPED
    sampling = ("aer-shots", "fake-manila", "fake-sherbrooke", "ibm")
    assert {each.name: each.shots for each in listed if each.shots} == dict.fromkeys(sampling, 1024)
    for each in listed:
        assert len(each.description) > 10 and "\n" not in each.description
        assert each.file.is_file() and each.file.stem == each.name


@pytest.mark.parametrize("name", (*EXACT, "aer-shots"))
def test_shipped_profiles_build_devices_that_agree_with_default_qubit(name):
    built = device(name)
    assert isinstance(built, qml.devices.Device)
    assert built.qshift_profile == name
    assert not built.shots  # PennyLane deprecates shots on the device itself
    exact = qml.QNode(circuit, qml.device("default.qubit"))(0.3)
    qnode = qml.QNode(circuit, built)
    if built.qshift_shots:
        qnode = qml.set_shots(qnode, 20_000)
    for value, truth in zip(qnode(0.3), exact, strict=True):
        # Five standard deviations of the mean of 20000 samples of variance below 1.
        np.testing.assert_allclose(value, truth, atol=0.036 if built.qshift_shots else 1e-12)


def test_ibm_is_not_contacted_before_something_runs():
    built = device("ibm", instance="mine", max_time=60)  # there is no account, and no way out
    assert built.target.name == "ibm:least-busy" and built.target.is_remote
    assert built.qshift_shots == 1024 and built.limits.seconds == 48
    assert device("ibm", backend="ibm:ibm_torino", mode="batch").target.name == "ibm:ibm_torino"


@pytest.mark.parametrize(
    "overrides, key, reason",
    [
        ({"backend": "ibm:"}, "backend", 'expected "ibm:NAME" or "ibm:least-busy"'),
        ({"backend": "ibn:ibm_torino"}, "backend", "there is no 'ibn:ibm_torino'; expected .*ibm:"),
        ({"mode": "jobs"}, "options.mode", 'expected "job", "batch" or "session", got \'jobs\''),
        ({"max_time": "2h"}, "options.max_time", "a number of seconds, got '2h'"),
        ({"max_time": True}, "options.max_time", "a number of seconds, got True"),
        ({"account": 3}, "options.account", "expected a name, got 3"),
        ({"instance": ""}, "options.instance", "expected a name, got ''"),
        ({"max_pubs": 0}, "options.max_pubs", "expected a positive number, got 0"),
        ({"resilience_level": 3}, "options.resilience_level", "must be <=2"),
        ({"resilence_level": 1}, "options.resilence_level", "did you mean 'resilience_level'"),
        ({"max_execution_time": 9}, "options.max_execution_time", "give max_time="),
        ({"backend": "fake:FakeManilaV2"}, "options.mode", "belongs to backend=.ibm:"),
        ({"shots": None}, "shots", "cannot run without shots"),
    ],
)
def test_what_ibm_would_not_take_is_an_error_at_once(overrides, key, reason):
    with pytest.raises(ProfileError, match=reason) as caught:
        device("ibm", **overrides)
    assert caught.value.key == key


# Overrides


def test_overrides_reach_the_device():
    assert device("simulator", wires=3).wires == qml.wires.Wires([0, 1, 2])
    assert device("mixed", wires=["a", "b"]).wires == qml.wires.Wires(["a", "b"])
    assert device("aer-shots", wires=range(2)).wires == qml.wires.Wires([0, 1])
    assert device("simulator", device="lightning.qubit").name == "lightning.qubit"
    assert device("simulator", device="lightning.qubit", batch_obs=True)._batch_obs is True
    options = {"batch_obs": True}
    assert device("simulator", device="lightning.qubit", options=options)._batch_obs is True


@pytest.mark.parametrize(
    "shots, kept",
    [(None, None), (7, 7), (np.int64(7), 7), ([5, 6], (5, 6)), ([(5, 2), 3], ((5, 2), 3))],
)
def test_shots_are_kept_for_the_qnode(shots, kept):
    built = device("simulator", shots=shots)
    assert built.qshift_shots == kept
    assert qml.measurements.Shots(built.qshift_shots) == qml.measurements.Shots(kept)
    assert not built.shots


def test_seed_makes_samples_repeat():
    def sampled(seed):
        qnode = qml.QNode(
            lambda: (qml.Hadamard(0), qml.sample(wires=0))[1],
            device("simulator", wires=1, seed=seed),
        )
        return qml.set_shots(qnode, 64)()

    np.testing.assert_array_equal(sampled(3), sampled(3))
    assert np.any(sampled(3) != sampled(4))


@pytest.mark.parametrize(
    "name, overrides, key, reason",
    [
        ("simulator", {**AER, "seed": 3}, "options.seed", "its samples goes to qshift.qnode"),
        ("simulator", {"sead": 3}, "options.sead", "did you mean 'seed'"),
        ("simulator", {"wires": 0}, "wires", "got 0"),
        ("simulator", {"wires": []}, "wires", "a positive number of wires or a list of labels"),
        ("simulator", {"wires": "ab"}, "wires", "got 'ab'"),
        ("simulator", {"shots": 0}, "shots", "a positive number"),
        ("simulator", {"shots": True}, "shots", "got True"),
        ("simulator", {"shots": [10, (5, 0)]}, "shots", "[shots, copies]"),
        ("simulator", {"shots": [None]}, "shots", "got [None]"),
        ("simulator", {"shots": "many"}, "shots", "got 'many'"),
        ("aer-shots", {"shots": None}, "shots", "cannot run without shots"),
        ("simulator", {"device": "lightning.quibit"}, "device", "did you mean 'lightning.qubit'"),
        ("simulator", {"device": "no.such"}, "device", "install the plugin that provides it"),
        ("simulator", {"device": "qiskit.aer"}, "options", "positional argument: 'wires'"),
        ("simulator", {"options": 3}, "options", "a table"),
        ("simulator", {"options": {"shots": 3}}, "options.shots", "belongs beside device"),
        ("simulator", {**AER, "method": "no-such-method"}, "options", "qiskit.aer cannot be built"),
        ("aer", {"method": "automatic"}, "options.method", "no such option"),
        ("simulator", {"workers": -1}, "workers", "expected a number of processes"),
        ("aer", {"workers": "tcp:8786"}, "workers", "got 'tcp:8786'"),
        ("ibm", {"workers": 2}, "workers", "the jobs of ibm:least-busy run on its service"),
        ("simulator", {"options": {"workers": 3}}, "options.workers", "belongs beside device"),
    ],
)
@pytest.mark.filterwarnings("ignore:The `QasmSimulator` backend:DeprecationWarning")
def test_bad_overrides_name_file_key_and_reason(name, overrides, key, reason):
    with pytest.raises(ProfileError) as caught:
        device(name, **overrides)
    error = caught.value
    assert error.key == key and reason in error.reason
    assert str(error).startswith(f"{error.file}: {key}: ") and error.file.name == f"{name}.toml"


def test_a_backend_needs_no_profile():
    built = device(backend="aer:FakeManilaV2", wires=2, shots=100)
    assert built.qshift_profile == "aer:FakeManilaV2" and built.qshift_shots == 100
    with pytest.raises(ProfileError, match="no name is given; give that of a profile .*aer-noisy"):
        device(shots=100)


def test_workers_belong_to_the_device(own_places):
    for name in ("simulator", "aer-noisy"):
        assert getattr(device(name), "qshift_workers", None) is None
        built = device(name, workers=2)
        assert built.qshift_workers.given == 2 and not built.qshift_workers.is_open
        assert getattr(device(name, workers=None), "qshift_workers", None) is None
        assert pickle.loads(pickle.dumps(built)).qshift_workers.given == 2
    write(own_places / "mine.toml", GOOD + "workers = 3\n")
    assert profiles.profile("mine").workers == 3
    assert device("mine").qshift_workers.given == 3
    assert device("mine", workers=0).qshift_workers.given == 0
    bad = write(own_places / "bad.toml", GOOD + "workers = [1]\n")
    with pytest.raises(ProfileError, match=f"{bad}: workers: expected a number of processes"):
        device("bad")


def test_unknown_name_lists_what_there_is():
    with pytest.raises(ProfileError, match="did you mean 'lightning'") as caught:
        device("lightnin")
    assert all(name in str(caught.value) for name in SHIPPED)


@pytest.mark.parametrize(
    "name, message",
    [
        ("ibm_torino", r'qshift.device\("ibm", backend="ibm:ibm_torino"\)'),
        ("ibmq_manila", r'backend="ibm:ibmq_manila"'),
        ("FakeManilaV2", r'qshift.device\("fake-manila", backend="fake:FakeManilaV2"\)'),
        ("fake_manila", "did you mean 'fake-manila'"),
        ("default.qubit", "did you mean 'default-qubit'"),
        ("cirq.simulator", r"qshift.qnode\(qml.device\('cirq.simulator', ...\)\)"),
        ("lightning.qubit", "did you mean 'lightning'"),
        ("lightning.gpu", "did you mean 'gpu'"),
        ("qiskit.aer", "did you mean 'aer'"),
        ("aer_simulator", "did you mean 'aer'"),
        ("ibmq_qasm_simulator", "did you mean 'aer-shots'"),
        ("qiskit.ibmq", "did you mean 'ibm'"),
        (3, "expected the name of a profile or the path of a .toml file, got 3"),
        (None, "no name is given; give that of a profile"),
        (qml.device("default.qubit"), "go to qshift.qnode themselves"),
    ],
)
def test_names_that_mean_something_elsewhere(name, message):
    with pytest.raises(ProfileError, match=message):
        device(name)


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_it_takes(monkeypatch):
    with pytest.raises(MissingExtraError, match="pip install pennylane-lightning-gpu, or take"):
        device("gpu")

    class Installed:
        name = "lightning.gpu"
        load = staticmethod(lambda: lambda wires=None, shots=None: None)

    # The plugin is there, and its device cannot be made.
    monkeypatch.setattr(profiles, "entry_points", lambda group: [Installed])
    with pytest.raises(ProfileError, match="cannot be built: .* an NVIDIA GPU with its driver"):
        device("gpu", wires=2)


def test_the_ways_out_that_are_named_work():
    assert device("fake-manila", backend="fake:FakeManilaV2").target.name == "fake:FakeManilaV2"
    assert device("ibm", backend="ibm:ibm_torino").target.name == "ibm:ibm_torino"


# Files


def test_a_users_own_profiles_are_found_and_win(own_places, tmp_path, monkeypatch):
    write(own_places / "mine.toml", GOOD + "wires = 2\nshots = 11\n")
    write(own_places / "simulator.toml", GOOD)
    assert device("mine").qshift_shots == 11 and len(device("mine").wires) == 2
    assert profiles.profile("simulator").description == "mine"

    first = write(tmp_path / "first" / "mine.toml", GOOD + "shots = 12\n")
    second = write(tmp_path / "second" / "mine.toml", GOOD + "shots = 13\n")
    monkeypatch.setenv("QSHIFT_DEVICES", f"{first.parent}:{second.parent}")
    assert device("mine").qshift_shots == 12
    assert profiles.profile_files()["mine"] == first
    assert device(str(second)).qshift_shots == 13  # a path serves as well as a name
    assert device(second).qshift_profile == "mine"


def test_without_xdg_the_place_is_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".config/qshift/devices/homely.toml", GOOD)
    assert device("homely").qshift_profile == "homely"


@pytest.mark.parametrize(
    "text, key, reason",
    [
        ("description = \n", None, "not valid TOML: Invalid value (at line 1, column 15)"),
        ("", "description", "missing"),
        ('description = "x"\n', "device", "missing"),
        (GOOD + "shot = 3\n", "shot", "unknown key (did you mean 'shots'?)"),
        (GOOD + 'seed = "x"\n', "seed", "belong into [options]"),
        (GOOD + 'wires = "four"\n', "wires", "got 'four'"),
        (GOOD + "wires = 2.5\n", "wires", "got 2.5"),
        (GOOD + "shots = -1\n", "shots", "got -1"),
        (GOOD + "shots = []\n", "shots", "got []"),
        (GOOD + "needs_shots = 1\n", "needs_shots", "true or false"),
        (GOOD + "options = 1\n", "options", "a table"),
        ('description = ""\ndevice = "default.qubit"', "description", "a text"),
        ('description = "x"\ndevice = 3', "device", "a text"),
    ],
)
def test_a_bad_file_names_file_key_and_reason(own_places, text, key, reason):
    file = write(own_places / "bad.toml", text)
    with pytest.raises(ProfileError) as caught:
        profiles.profile("bad")
    error = caught.value
    assert error.file == file and error.key == key and reason in error.reason
    assert isinstance(error, ValueError) and str(file) in str(error)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ProfileError, match=r"nowhere\.toml: cannot be read: No such file"):
        device(tmp_path / "nowhere.toml")


def test_options_of_a_file_reach_the_device(own_places):
    write(
        own_places / "batched.toml",
        'description = "x"\ndevice = "lightning.qubit"\n[options]\nbatch_obs = true\n',
    )
    assert device("batched")._batch_obs is True
    assert device("batched", batch_obs=False)._batch_obs is False


def test_a_user_without_a_home_directory_has_the_shipped_profiles(monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    assert "simulator" in profiles.profile_files()
    assert device("simulator").name == "lightning.qubit"
    assert not any(place.is_relative_to("/.config") for place in profiles.directories())
