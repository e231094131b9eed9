"""The commands of the command line: what they print and write, against closed forms."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from qshift.cli.main import main
from qshift.optimize.optimizers import OPTIMIZERS

SHIPPED = sorted(file.stem for file in (Path(__file__).parents[2] / "devices").glob("*.toml"))

PROGRAMS = """
import pennylane as qml

def cosine(x):
    qml.RX(x[0], 0)
    qml.RX(x[1], 1)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(1))  # cos x0 cos x1

def two(a, b):
    qml.RX(a, 0)
    qml.RX(b[0] * b[1], 1)
    return qml.expval(qml.Z(0) @ qml.Z(1)), qml.probs(wires=0)

def spread(x):
    qml.RX(x[0], 0)
    qml.RX(x[1], 0)
    return qml.var(qml.Z(0))

def damped(x):
    qml.AmplitudeDamping(x, 0)
    return qml.expval(qml.Z(0))

def state(x):
    qml.RX(x, 0)
    return qml.state()

def number(x):
    return 3.0

def fixed():
    qml.RX(0.3, 0)
    return qml.expval(qml.Z(0))

def many(x):
    for i in range(12):
        qml.RY(x[i], 0)
    return qml.expval(qml.Z(0))

@qml.qnode(qml.device("lightning.qubit", wires=1))
def qnode(x):
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))
"""

OPENQASM3 = """OPENQASM 3.0;
include "stdgates.inc";
input float theta;
input float phi;
qubit[2] q;
rx(theta) q[0];
ry(2*phi) q[1];
"""

OPENQASM2 = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
rx(0.4) q[0];
rx(pi/8) q[1];
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty directory to work in, with the programs, and without anyone's own profiles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QSHIFT_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "programs.py").write_text(PROGRAMS)
    (tmp_path / "three.qasm").write_text(OPENQASM3)
    (tmp_path / "two.qasm").write_text(OPENQASM2)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command that has to succeed; returns what it printed."""

    def run(*arguments):
        assert main(list(map(str, arguments))) == 0
        return capsys.readouterr().out

    return run


def rows(table):
    """The cells of a printed table, row by row."""
    lines = [re.split("[│┃]", line)[1:-1] for line in table.splitlines() if "│" in line]
    return [[cell.strip() for cell in line] for line in lines]


# devices


def test_devices_are_listed(run, folder):
    out = run("devices", "--json", "devices.json")
    assert [row[0] for row in rows(out)] == SHIPPED
    assert str(folder / "config" / "qshift" / "devices") in out and "Written: devices.json" in out
    listed = json.loads((folder / "devices.json").read_text())
    assert [each["name"] for each in listed] == SHIPPED
    sampling = {each["name"]: each["shots"] for each in listed if each["shots"]}
    names = ("aer-shots", "fake-manila", "fake-sherbrooke", "ibm")
    assert sampling == dict.fromkeys(names, 1024)
    assert all(Path(each["file"]).is_file() for each in listed)


def test_a_bad_profile_is_reported_and_the_others_are_listed(folder, capsys):
    own = folder / "config" / "qshift" / "devices"
    own.mkdir(parents=True)
    (own / "bad.toml").write_text("description = 3\n")
    (own / "mine.toml").write_text('description = "my own"\ndevice = "default.qubit"\n')
    assert main(["devices"]) == 2
    out, err = capsys.readouterr()
    assert [row[0] for row in rows(out)] == sorted([*SHIPPED, "mine"])
    assert str(own / "bad.toml") in err and "device: missing" in err


# plan


@pytest.mark.parametrize("target", ["cosine", "two", "spread"])
def test_values_of_shots_come_with_errors(run, folder, target):
    parameters = ["--params", "0.3", "--params", "0.2,0.7"] if target == "two" else ["--params"]
    parameters = parameters if target == "two" else [*parameters, "0.3,0.2"]
    command = ("evaluate", f"programs.py:{target}", *parameters)
    plain = json.loads(run(*command, "--json", "-"))
    assert "errors" not in plain
    out = run(*command, "--shots", 200, "--json", "out.json", "--npz", "out.npz")
    assert re.search(r"value\W+error", out)
    # Values end where the second digit of their error is.
    ends = re.findall(r"\.(\d+) +│ +\d\.(\d+) ", out)
    assert ends and all(len(value) <= len(error) + 1 <= 5 for value, error in ends)
    content = json.loads((folder / "out.json").read_text())

    def flat(each):
        return sum(map(flat, each), []) if isinstance(each, list) else [each]

    values, errors = flat(content["derivatives"]), flat(content["errors"])
    exact = flat(plain["derivatives"])
    assert len(values) == len(errors) == len(exact)
    assert (np.abs(np.subtract(values, exact)) <= 5 * np.array(errors) + 1e-9).all()
    assert np.mean(errors) > 0.01
    with np.load(folder / "out.npz") as arrays:
        assert sum(name.startswith("error") for name in arrays) * 2 == len(arrays) - 1


def test_errors_of_a_job(run):
    command = ("evaluate", "programs.py:cosine", "--params", "0.3,0.2", "--device", "aer-shots")
    content = json.loads(run(*command, "--json", "-"))
    assert content["errors"] and content["executed"]["jobs"] == 1


def test_a_device_that_tells_no_errors(run):
    # It does not say which of several results share samples.
    command = ("evaluate", "programs.py:two", "--params", "0.3", "--params", "0.2,0.7")
    content = json.loads(run(*command, "--device", "mixed", "--shots", 100, "--json", "-"))
    assert "errors" not in content and content["executed"]["circuits"] > 1


def test_plan_says_what_orders_cost(run, folder):
    out = run("plan", "programs.py:cosine", "--params=-0.1,0.2", "--order", 3, "--json", "out.json")
    assert "programs.py:cosine on simulator" in out
    assert [row[:3] for row in rows(out)] == [
        ["0", "1", "1"], ["1", "1", "2"], ["2", "4", "6"], ["3", "3", "9"]
    ]  # fmt: skip
    content = json.loads((folder / "out.json").read_text())
    assert content["plan"]["circuits"] == 9
    assert content["parameters"] == {"x[0]": -0.1, "x[1]": 0.2}


def test_plan_knows_shots_and_objectives(run):
    command = ("plan", "programs.py:cosine", "--params", "0,0", "--order", 2, "--json", "-")
    shots = json.loads(run(*command, "--device", "aer-shots", "--shots", 10))
    assert shots["shots"] == 10 and shots["plan"]["objective"] == "shots"
    assert shots["plan"]["shots"] == 10 * shots["plan"]["circuits"]
    circuits = json.loads(run(*command, "--shots", 10, "--objective", "circuits"))
    assert circuits["plan"]["circuits"] == 8 < shots["plan"]["circuits"]


# evaluate


def test_evaluate_prints_the_distinct_derivatives(run):
    out = run("evaluate", "programs.py:cosine", "--params", "-0.1,0.2", "--order", 2)
    assert "6 circuits executed" in out
    a, b = -0.1, 0.2
    expected = {
        ("0", ""): np.cos(a) * np.cos(b),
        ("1", "x[0]"): -np.sin(a) * np.cos(b),
        ("1", "x[1]"): -np.cos(a) * np.sin(b),
        ("2", "x[0] x[0]"): -np.cos(a) * np.cos(b),
        ("2", "x[0] x[1]"): np.sin(a) * np.sin(b),
        ("2", "x[1] x[1]"): -np.cos(a) * np.cos(b),
    }
    printed = {(order, by): float(value) for order, by, value in rows(out)}
    assert printed == pytest.approx(expected, abs=1e-9)


def test_long_tables_end_early(run):
    out = run("evaluate", "programs.py:many", "--params", ",".join(["0.1"] * 12), "--order", 2)
    assert len(rows(out)) == 1 + 12 + 60 + 1 and "--json or --npz" in out


def test_evaluate_writes_several_arguments_and_measurements(run, folder):
    command = ("evaluate", "programs.py:two", "--params", "0.3", "--params", "0.4,0.5")
    out = run(*command, "--order", 2, "--json", "out.json", "--npz", "out.npz")
    assert "Written: out.json" in out and "Written: out.npz" in out
    titles = [line.strip() for line in out.splitlines() if re.match(r"(expval|probs)\(", line)]
    assert titles == ["expval(Z(0) @ Z(1))", "probs(wires=[0])"]
    content = json.loads((folder / "out.json").read_text())
    assert content["parameters"] == {"a": 0.3, "b[0]": 0.4, "b[1]": 0.5}
    cos, sin, p, q = np.cos(0.3), np.sin(0.3), np.cos(0.2), np.sin(0.2)  # 0.2 is b0 b1
    energy = [
        cos * p,
        [-sin * p, -cos * q * 0.5, -cos * q * 0.4],
        [
            [-cos * p, sin * q * 0.5, sin * q * 0.4],
            [sin * q * 0.5, -cos * p * 0.25, -cos * (p * 0.2 + q)],
            [sin * q * 0.4, -cos * (p * 0.2 + q), -cos * p * 0.16],
        ],
    ]
    probabilities = [(np.array([1 + cos, 1 - cos])) / 2, np.outer([-1, 1], [sin / 2, 0, 0])]
    with np.load(folder / "out.npz") as arrays:
        assert list(arrays["parameters"]) == ["a", "b[0]", "b[1]"]
        for m, truth in enumerate((energy, probabilities)):
            for order, derivative in enumerate(truth):
                found = content["derivatives"][m][order]
                np.testing.assert_allclose(found, derivative, atol=1e-12)
                np.testing.assert_array_equal(arrays[f"order{order}_m{m}"], found)
        assert arrays["order2_m1"].shape == (2, 3, 3)


def test_evaluate_prints_json_and_nothing_else(run):
    out = run("evaluate", "programs.py:cosine", "--params", "0.1,0.2", "--order", 3, "--json", "-")
    content = json.loads(out)
    assert content["executed"]["circuits"] == 9 and content["executed"]["batches"] == 2
    third = np.array(content["derivatives"][3])
    truth = np.empty((2, 2, 2))
    for index in np.ndindex(2, 2, 2):
        m = sum(index)  # how often by x1
        truth[index] = np.cos(0.1 + (3 - m) * np.pi / 2) * np.cos(0.2 + m * np.pi / 2)
    np.testing.assert_allclose(third, truth, atol=1e-12)


def test_evaluate_runs_openqasm(run):
    command = ("evaluate", "three.qasm", "--observable", "-ZZ + 0.5 XI", "--json", "-")
    content = json.loads(run(*command, "--params", "0.3,0.4"))
    assert content["parameters"] == {"theta": 0.3, "phi": 0.4}
    value, gradient = content["derivatives"]
    np.testing.assert_allclose(value, -np.cos(0.3) * np.cos(0.8), atol=1e-12)
    truth = [np.sin(0.3) * np.cos(0.8), 2 * np.cos(0.3) * np.sin(0.8)]
    np.testing.assert_allclose(gradient, truth, atol=1e-12)
    content = json.loads(run("evaluate", "two.qasm", "--observable", "ZI", "--json", "-"))
    assert content["parameters"] == {"0:rx(0)": 0.4, "1:rx(1)": np.pi / 8}
    np.testing.assert_allclose(content["derivatives"][0], np.cos(0.4), atol=1e-12)


def test_a_qnode_keeps_its_device_unless_another_is_named(run):
    command = ("evaluate", "programs.py:qnode", "--params", "0.3", "--json", "-")
    content = json.loads(run(*command))
    assert content["device"] == "lightning.qubit" and content["shots"] is None
    value, [slope] = content["derivatives"]
    np.testing.assert_allclose([value, slope], [np.cos(0.3), -np.sin(0.3)], atol=1e-12)
    content = json.loads(run(*command, "--device", "simulator", "--wires", 1, "--shots", 5))
    assert content["device"] == "simulator" and content["executed"]["shots"] == 15


def test_a_seed_repeats_the_samples_of_aer(run):
    command = ("evaluate", "programs.py:qnode", "--params", "1.3", "--json", "-", "--wires", 1)
    values = [
        json.loads(run(*command, "--device", "aer-shots", "--seed", seed))["derivatives"]
        for seed in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]
    # Five standard deviations of 1024 samples.
    value, [slope] = values[0]
    np.testing.assert_allclose([value, slope], [np.cos(1.3), -np.sin(1.3)], atol=5 / 32)


def test_a_function_of_nothing_has_a_value(run):
    content = json.loads(run("evaluate", "programs.py:fixed", "--order", 0, "--json", "-"))
    np.testing.assert_allclose(content["derivatives"], [np.cos(0.3)], atol=1e-12)


# minimize


def test_minimize_prints_plots_and_cleans_up(run, folder):
    out = run("minimize", "programs.py:cosine", "--params", "2.6,0.3",
              "--plot", "run.png", "--json", "run.json")  # fmt: skip
    table = dict(rows(out))
    content = json.loads((folder / "run.json").read_text())
    assert content["converged"] and float(table["value"]) == pytest.approx(-1, abs=1e-9)
    np.testing.assert_allclose(np.cos(content["x"]).prod(), -1, atol=1e-12)
    assert float(table["x[0]"]) == pytest.approx(content["x"][0])
    assert int(table["steps"]) == content["steps"] == len(content["history"]) - 1
    assert content["circuits"] == 6 * (content["steps"] + 1) == int(table["circuits executed"])
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("*.checkpoint.json"))


@pytest.mark.parametrize("steps", ["2", "50"])
def test_minimize_has_a_status_for_what_is_not_a_minimum(run, capsys, steps):
    command = ["minimize", "programs.py:cosine", "--params", "0.1,0.1", "--steps", steps]
    command += ["--optimizer", "newton"]
    status = main([*command, "--tolerance", "1e-3", "--json", "-"])
    content = json.loads(capsys.readouterr().out)
    assert status == 1 and not content["converged"] and content["gradient_norm"] <= 1e-3
    assert "not to a minimum" in content["message"]


def test_minimize_descends_where_newton_climbs(run):
    content = json.loads(
        run("minimize", "programs.py:cosine", "--params", "0.1,0.1", "--json", "-")
    )
    assert content["converged"] and content["value"] == pytest.approx(-1)


def test_numbers_have_the_digits_that_shots_give(run):
    table = dict(rows(run("minimize", "programs.py:cosine", "--params", "2.6,0.3",
                          "--shots", "1e4", "--seed", 1)))  # fmt: skip
    value, _, error = table["value"].partition(" +- ")
    digits = [len(text.partition(".")[2]) for text in (value, error, table["x[0]"])]
    assert digits == [4, 4, 3]  # those of two digits of the error, and those of so many shots


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_minimize_runs_every_optimizer(run, optimizer):
    command = ("minimize", "two.qasm", "--observable", "XI - YZ", "--optimizer", optimizer)
    if optimizer == "shot-frugal":
        command += ("--shots", 10_000)
    content = json.loads(run(*command, "--json", "-", "--steps", 3, "--learning-rate", "0.1"))
    assert content["steps"] == 3 and content["optimizer"] == optimizer
    first, *_, last = (point["value"] for point in content["history"])
    assert "newton" in optimizer or last < first


def test_minimize_keeps_a_named_checkpoint_and_goes_on_from_it(run, folder, capsys):
    command = ("minimize", "programs.py:cosine", "--params", "0.4,0.3", "--optimizer", "adam",
               "--checkpoint", "run.json", "--json", "-", "--steps")  # fmt: skip
    whole = json.loads(run(*command, 6))
    (folder / "run.json").unlink()
    run(*command, 4)
    assert main([*command, "6"]) == 0
    out, err = capsys.readouterr()
    resumed = json.loads(out)["history"]
    assert [point["x"] for point in resumed] == [point["x"] for point in whole["history"]]
    assert "Going on from run.json" in err
    assert main([*command, "6", "--damping", "2", "--optimizer", "newton"]) == 2
    err = capsys.readouterr().err
    assert "of another run: optimizer is 'adam' there and" in err and "Going on" not in err


# Errors of what is run; those of how it is given are the command line's


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["programs.py:cosine", "--params", "0.1"], "fails for arguments of shapes ()"),
        (["programs.py:number", "--params", "0.1"], "must return either a single measurement"),
        (["programs.py:damped", "--params", "1"], "AmplitudeDamping"),
        (["programs.py:state", "--params", "1"], "qml.expval"),
        (["programs.py:fixed"], "has no parameters; give --order 0"),
        (["programs.py:qnode", "--params", "1", "--wires", "2"], "--device with --wires"),
        (["three.qasm", "--observable", "ZZ", "--params", "2"], "no value for phi"),
        (["two.qasm", "--observable", "ZZ", "--device", "air"], "did you mean 'aer'"),
        (["two.qasm", "--observable", "ZZ", "--wires", "1"], "wires not found on the device"),
    ],
)
def test_errors_are_messages(capsys, arguments, message):
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_workers_run_what_the_command_line_asks_for(folder, monkeypatch):
    from qshift.api import profiles

    built, device = [], profiles.device
    monkeypatch.setattr(
        "qshift.device", lambda *args, **given: built.append(device(*args, **given)) or built[-1]
    )
    arguments = ["evaluate", "programs.py:cosine", "--params", "0.1,0.2", "--json", "-"]
    assert main([*arguments, "--workers", "2"]) == 0
    assert built[0].qshift_workers.given == 2
    arguments[1] = "programs.py:qnode"
    assert main([*arguments[:2], "--params", "0.1", "--workers", "2"]) == 2
