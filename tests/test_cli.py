"""The command line, through `main` and as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import qshift
from qshift.cli import main
from qshift.optimize import OPTIMIZERS

ROOT = Path(__file__).parents[1]
SHIPPED = ("aer", "aer-shots", "default-qubit", "lightning", "mixed", "simulator")
aer_warns = pytest.mark.filterwarnings("ignore:.*IBMFractionalTranslationPlugin:DeprecationWarning")

PROGRAMS = """
import os
import time
import pennylane as qml

def cosine(x):
    time.sleep(float(os.environ.get("SLEEP", 0)))
    qml.RX(x[0], 0)
    qml.RX(x[1], 1)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(1))  # cos x0 cos x1

def two(a, b):
    qml.RX(a, 0)
    qml.RX(b[0] * b[1], 1)
    return qml.expval(qml.Z(0) @ qml.Z(1)), qml.probs(wires=0)

def damped(x):
    qml.AmplitudeDamping(x, 0)
    return qml.expval(qml.Z(0))

def state(x):
    qml.RX(x, 0)
    return qml.state()

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


@pytest.fixture
def fail(capsys):
    """Runs a command that has to fail; returns its error message."""

    def fail(*arguments):
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as error:  # of argparse
            status = error.code
        out, err = capsys.readouterr()
        assert status == 2 and out == "" and "Traceback" not in err
        return err

    return fail


def rows(table):
    """The cells of a printed table, row by row."""
    lines = [re.split("[│┃]", line)[1:-1] for line in table.splitlines() if "│" in line]
    return [[cell.strip() for cell in line] for line in lines]


# devices


def test_devices_are_listed(run):
    assert [row[0] for row in rows(run("devices"))] == list(SHIPPED)
    listed = json.loads(run("devices", "--json"))
    assert [each["name"] for each in listed] == list(SHIPPED)
    assert {each["name"]: each["shots"] for each in listed if each["shots"]} == {"aer-shots": 1024}
    assert all(Path(each["file"]).is_file() for each in listed)


def test_a_bad_profile_is_reported_and_the_others_are_listed(folder, capsys):
    own = folder / "config" / "qshift" / "devices"
    own.mkdir(parents=True)
    (own / "bad.toml").write_text("description = 3\n")
    (own / "mine.toml").write_text('description = "my own"\ndevice = "default.qubit"\n')
    assert main(["devices"]) == 2
    out, err = capsys.readouterr()
    assert [row[0] for row in rows(out)] == sorted((*SHIPPED, "mine"))
    assert str(own / "bad.toml") in err and "device: missing" in err


# plan


def test_plan_says_what_orders_cost(run):
    out = run("plan", "programs.py:cosine", "--params", "0.1,0.2", "--order", "3")
    assert "programs.py:cosine on simulator" in out
    assert [row[:3] for row in rows(out)] == [
        ["0", "1", "1"], ["1", "4", "5"], ["2", "3", "8"], ["3", "1", "9"]
    ]  # fmt: skip
    content = json.loads(run("plan", "programs.py:cosine", "--params=0.1,0.2", "--json"))
    assert content["plan"]["circuits"] == 5 and content["arguments"] == {"x": [0.1, 0.2]}


def test_plan_knows_shots_and_objectives(run):
    command = ("plan", "programs.py:cosine", "--params", "0,0", "--order", 2, "--json")
    shots = json.loads(run(*command, "--device", "aer-shots", "--shots", 10))
    assert shots["shots"] == 10 and shots["plan"]["objective"] == "shots"
    assert shots["plan"]["shots"] == 10 * shots["plan"]["circuits"]
    circuits = json.loads(run(*command, "--shots", 10, "--objective", "circuits"))
    assert circuits["plan"]["circuits"] == 8 < shots["plan"]["circuits"]


# evaluate


def test_evaluate_prints_the_distinct_derivatives(run):
    out = run("evaluate", "programs.py:cosine", "--params", "-0.1,0.2", "--order", 2)
    assert "8 circuits executed" in out
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
    a, b = 0.3, np.array([0.4, 0.5])
    p, s = np.prod(b), b[::-1]
    cross = np.array([[0, 1], [1, 0]])
    first = [
        np.cos(a) * np.cos(p),
        [-np.sin(a) * np.cos(p), -np.cos(a) * np.sin(p) * s],
        [
            [-np.cos(a) * np.cos(p), np.sin(a) * np.sin(p) * s],
            [
                np.sin(a) * np.sin(p) * s,
                -np.cos(a) * (np.cos(p) * np.outer(s, s) + np.sin(p) * cross),
            ],
        ],
    ]
    content = json.loads((folder / "out.json").read_text())
    assert content["arguments"] == {"a": 0.3, "b": [0.4, 0.5]} and content["device"] == "simulator"
    value, gradient, hessian = (order[0] for order in content["derivatives"])
    np.testing.assert_allclose(value, first[0], atol=1e-12)
    for given, truth in zip(gradient, first[1], strict=True):
        np.testing.assert_allclose(given, truth, atol=1e-12)
    for given, truth in zip(sum(hessian, []), sum(first[2], []), strict=True):
        np.testing.assert_allclose(given, truth, atol=1e-12)
    probabilities = [np.cos(a / 2) ** 2, np.sin(a / 2) ** 2]
    np.testing.assert_allclose(content["derivatives"][0][1], probabilities, atol=1e-12)
    with np.load(folder / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["order0_m0"], first[0], atol=1e-12)
        np.testing.assert_allclose(arrays["order0_m1"], probabilities, atol=1e-12)
        np.testing.assert_allclose(arrays["order2_m0_a_b"], first[2][0][1], atol=1e-12)
        np.testing.assert_allclose(arrays["order2_m0_b_b"], first[2][1][1], atol=1e-12)
        np.testing.assert_allclose(arrays["order1_m1_b"], np.zeros((2, 2)), atol=1e-12)
        assert arrays["order2_m1_b_a"].shape == (2, 2)


def test_evaluate_prints_json_and_nothing_else(run):
    out = run("evaluate", "programs.py:cosine", "--params", "0.1,0.2", "--order", 3, "--json", "-")
    content = json.loads(out)
    assert content["executed"]["circuits"] == 9 and content["executed"]["batches"] == 1
    third = np.array(content["derivatives"][3])
    truth = np.empty((2, 2, 2))
    a, b = 0.1, 0.2
    for i, j, k in np.ndindex(2, 2, 2):
        m = i + j + k  # how often by x1
        truth[i, j, k] = np.cos(a + (3 - m) * np.pi / 2) * np.cos(b + m * np.pi / 2)
    np.testing.assert_allclose(third, truth, atol=1e-12)


def test_evaluate_runs_openqasm(run):
    command = ("evaluate", "three.qasm", "--observable", "-ZZ + 0.5 XI", "--json", "-")
    content = json.loads(run(*command, "--params", "0.3,0.4"))
    value, gradient = content["derivatives"]
    np.testing.assert_allclose(value, -np.cos(0.3) * np.cos(0.8), atol=1e-12)
    truth = [np.sin(0.3) * np.cos(0.8), 2 * np.cos(0.3) * np.sin(0.8)]
    np.testing.assert_allclose(gradient, truth, atol=1e-12)
    assert [row[1] for row in rows(run(*command[:4], "--params", "0.3,0.4"))] == [
        "", "theta", "phi"
    ]  # fmt: skip
    content = json.loads(run("evaluate", "two.qasm", "--observable", "ZI", "--json", "-"))
    assert content["arguments"] == {"x": [0.4, np.pi / 8]}
    np.testing.assert_allclose(content["derivatives"][0], np.cos(0.4), atol=1e-12)


def test_a_qnode_keeps_its_device_unless_another_is_named(run):
    command = ("evaluate", "programs.py:qnode", "--params", "0.3", "--json", "-")
    content = json.loads(run(*command))
    assert content["device"] == "lightning.qubit" and content["shots"] is None
    np.testing.assert_allclose(content["derivatives"], [np.cos(0.3), -np.sin(0.3)], atol=1e-12)
    content = json.loads(run(*command, "--device", "simulator", "--wires", 1, "--shots", 5))
    assert content["device"] == "simulator" and content["executed"]["shots"] == 15


@aer_warns
def test_a_seed_repeats_the_samples_of_aer(run):
    command = ("evaluate", "programs.py:qnode", "--params", "1.3", "--json", "-", "--wires", 1)
    values = [
        json.loads(run(*command, "--device", "aer-shots", "--seed", seed))["derivatives"]
        for seed in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]
    # Five standard deviations of 1024 samples.
    np.testing.assert_allclose(values[0], [np.cos(1.3), -np.sin(1.3)], atol=5 / 32)


def test_a_function_of_nothing_has_a_value(run):
    content = json.loads(run("evaluate", "programs.py:fixed", "--order", 0, "--json", "-"))
    np.testing.assert_allclose(content["derivatives"], [np.cos(0.3)], atol=1e-12)


# minimize


def test_minimize_prints_plots_and_cleans_up(run, folder):
    out = run("minimize", "programs.py:cosine", "--params", "2.6,0.3",
              "--plot", "run.png", "--json", "run.json")  # fmt: skip
    table = dict(row for row in rows(out))
    content = json.loads((folder / "run.json").read_text())
    assert content["converged"] and float(table["value"]) == pytest.approx(-1, abs=1e-9)
    np.testing.assert_allclose(np.cos(content["x"]).prod(), -1, atol=1e-12)
    assert int(table["steps"]) == content["steps"] == len(content["history"]["values"]) - 1
    assert content["circuits"] == 8 * (content["steps"] + 1)
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("*.checkpoint.json"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_minimize_runs_every_optimizer(run, optimizer):
    content = json.loads(
        run(
            "minimize",
            "two.qasm",
            "--observable",
            "XI - YZ",
            "--optimizer",
            optimizer,
            "--json",
            "-",
            "--steps",
            3,
            "--learning-rate",
            "0.1",
        )  # fmt: skip
    )
    assert content["steps"] == 3 and content["optimizer"] == optimizer
    first, *_, last = content["history"]["values"]
    assert "newton" in optimizer or last < first


def test_minimize_keeps_a_named_checkpoint_and_goes_on_from_it(run, folder, capsys):
    command = ("minimize", "programs.py:cosine", "--params", "0.4,0.3", "--optimizer", "adam",
               "--checkpoint", "run.json", "--json", "-", "--steps")  # fmt: skip
    whole = json.loads(run(*command, 6))
    (folder / "run.json").unlink()
    run(*command, 4)
    assert main([*command, "6"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["history"]["points"] == whole["history"]["points"]
    assert "Going on from run.json" in err
    assert json.loads(run(*command, 6, "--restart"))["circuits"] == whole["circuits"]


# Errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["evaluate", "nowhere.py:f"], "nowhere.py: no such file"),
        (["evaluate", "programs.py:kosine"], "did you mean 'cosine'"),
        (["evaluate", "programs.py:cosine"], "needs values for 1 parameter (x): give --params"),
        (["evaluate", "programs.py:cosine", "--params", "0.1"], "fails for arguments of shapes ()"),
        (
            ["evaluate", "programs.py:cosine", "--params", "1", "--params", "2"],
            "but --params gave 2",
        ),
        (["evaluate", "programs.py:damped", "--params", "1"], "AmplitudeDamping"),
        (["evaluate", "programs.py:state", "--params", "1"], "qml.expval"),
        (["evaluate", "programs.py:fixed"], "has no parameters; give --order 0"),
        (
            ["evaluate", "programs.py:qnode", "--params", "1", "--wires", "2"],
            "--device with --wires",
        ),
        (["evaluate", "three.qasm", "--params", "1,2"], "give what to measure"),
        (["evaluate", "three.qasm", "--observable", "ZZ + XQ"], "the word 'XQ' has letters"),
        (["evaluate", "three.qasm", "--observable", "ZZZ"], "'ZZZ' has 3 letters"),
        (["evaluate", "three.qasm", "--observable", "ZZ"], "2 parameters (theta, phi)"),
        (["evaluate", "two.qasm", "--observable", "ZZ", "--params", "1"], "--params gave 1"),
        (["evaluate", "two.qasm", "--observable", "ZZ", "--device", "air"], "did you mean 'aer'"),
        (["evaluate", "two.qasm", "--observable", "ZZ", "--wires", "1"], "wires"),
        (["evaluate", "two.qasm", "--observable", "ZZ", "--shots", "0"], "a positive number"),
        (["evaluate", "two.qasm", "--observable", "ZZ", "--order", "-1"], "expected 0, 1, 2"),
        (["evaluate", "two.qasm", "--observable", "Z", "--json", "no/o.json"], "cannot write"),
        (["minimize", "two.qasm", "--observable", "ZZ", "--plot", "o.xyz"], "cannot draw 'o.xyz'"),
        (["minimize", "programs.py:two", "--params", "1", "--params", "1,2"], "one tensor"),
        (["minimize", "two.qasm", "--observable", "II"], None),
        (["minimize", "two.qasm", "--observable", "ZI", "--checkpoint", "other.json"], "other run"),
        (["minimise"], "invalid choice"),
        ([], "required: COMMAND"),
    ],
)
def test_errors_are_messages(fail, run, folder, arguments, message):
    if message is None:  # not an error: nothing to do
        assert "converged after 0 steps" in run(*arguments)
        return
    if "other.json" in arguments:
        run(*arguments, "--steps", 1)
        arguments = [*arguments, "--damping", "2"]
        message = "of another run: damping is 0.0 there and 2.0 here"
    assert message in fail(*arguments)


def test_the_traceback_is_there_on_demand(folder):
    with pytest.raises(ValueError, match="no such file"):
        main(["evaluate", "nowhere.py:f", "--traceback"])


# As a user runs it


def command(*arguments, **environment):
    code = "import sys; from qshift.cli import main; sys.exit(main())"
    return {
        "args": [sys.executable, "-c", code, *map(str, arguments)],
        "env": os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        "text": True,
    }


def test_help_and_devices_start_without_the_heavy_libraries():
    code = (
        "import sys\nfrom qshift.cli import main\n"
        "main(['devices'])\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('tensorflow', 'pennylane', 'qiskit', 'matplotlib', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    options = command() | {"args": [sys.executable, "-c", code]}
    done = subprocess.run(**options, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_an_interrupted_minimize_says_how_to_go_on_and_does(folder, capsys):
    arguments = ("minimize", "programs.py:cosine", "--params", "0.4,0.3", "--optimizer", "adam",
                 "--steps", "8", "--json", "run.json")  # fmt: skip
    checkpoint = folder / "programs-py-cosine.checkpoint.json"
    process = subprocess.Popen(
        **command(*arguments, SLEEP="0.3"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def steps():
        return len(json.loads(checkpoint.read_text())["state"]["values"])

    while process.poll() is None and not (checkpoint.exists() and steps() >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err
    assert f"interrupted; the run so far is in {checkpoint.name}" in err
    assert 2 <= steps() < 8 and not (folder / "run.json").exists()

    assert main(list(arguments)) == 0
    assert "Going on from" in capsys.readouterr().err
    resumed = json.loads((folder / "run.json").read_text())
    assert not checkpoint.exists()
    assert main(list(arguments)) == 0
    whole = json.loads((folder / "run.json").read_text())
    assert resumed["history"] == whole["history"] and resumed["x"] == whole["x"]


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"qshift {qshift.__version__}\n"
