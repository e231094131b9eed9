"""The command line: what can be asked for, and how it starts, fails and stops."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qshift
from qshift.cli import jobs
from qshift.cli.main import main

ROOT = Path(__file__).parents[2]
PROGRAM = """
import pennylane as qml

def cosine(x):
    qml.RX(x[0], 0)
    qml.RX(x[1], 0)
    return qml.expval(qml.Z(0))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "programs.py").write_text(PROGRAM)
    return tmp_path


def python(code, *arguments):
    """What starts Python as a user does, for `subprocess`."""
    return {
        "args": [sys.executable, "-c", code, *arguments],
        "env": os.environ | {"PYTHONPATH": str(ROOT)},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


COSINE = ["programs.py:cosine", "--params", "-1,2"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: COMMAND"),
        (["minimise"], "invalid choice"),
        (["evaluate"], "required: FILE[:FUNCTION]"),
        (["evaluate", "nowhere.py:f"], "nowhere.py: no such file"),
        (["evaluate", "programs.py:kosine"], "did you mean 'cosine'"),
        (["evaluate", "programs.py:cosine"], "no value for x. Give --params"),
        (["evaluate", *COSINE, "--observable", "-Z"], "--observable is for OpenQASM files"),
        (["evaluate", *COSINE, "--device", "air"], "did you mean 'aer'"),
        (["evaluate", *COSINE, "--shots", "0"], "a positive number"),
        (["evaluate", *COSINE, "--seed", "-1"], "expected 0, 1, 2"),
        (["evaluate", *COSINE, "--workers", "many"], "--workers: expected a number of processes"),
        (["plan", *COSINE, "--order", "two"], "expected 0, 1, 2"),
        (["evaluate", *COSINE, "--json", "no/o.json"], "cannot write 'no/o.json'"),
        (["minimize", *COSINE, "--plot", "o.xyz"], "cannot draw 'o.xyz'"),
        (["minimize", *COSINE, "--optimizer", "bfgs"], "invalid choice: 'bfgs'"),
        (["evaluate", *COSINE, "--shots", "1.5"], "such as 1000 or 1e3, got '1.5'"),
        (["evaluate", *COSINE, "--shots", "many"], "such as 1000 or 1e3, got 'many'"),
        (["evaluate", "programs.py:cosine", "--params", "0.4"], "with a comma: --params 0.4,"),
        (["jobs", "--ledger", "gone.sqlite"], "there is no ledger gone.sqlite; without --ledger"),
        (["jobs", "--ledger", ""], "expected a file"),
        (["jobs", "--ledger", "."], "it is a directory"),
        (["jobs", "--offline", "bake"], "invalid choice: 'bake'"),
        (["jobs", "cancel", "--yes", "one"], "expected 0, 1, 2"),
        (["evaluate", "--order", "1"], "required: FILE"),
    ],
)
def test_errors_are_messages(capsys, arguments, message):
    try:
        status = main(arguments)
    except SystemExit as error:  # of argparse
        status = error.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and message in err and "Traceback" not in err


def test_what_is_no_option_may_stand_anywhere(monkeypatch):
    found = []
    monkeypatch.setattr(jobs, "jobs", lambda options: found.append(options) or 0)
    for line in ("prune 1 2 --yes", "prune --yes 1 2", "--yes prune 1 2", "prune 1 --yes 2"):
        assert main(["jobs", *line.split()]) == 0
    assert {(each.action, tuple(each.jobs), each.yes) for each in found} == {
        ("prune", (1, 2), True)
    }
    assert main(["jobs", "--offline"]) == 0
    assert (found[-1].action, found[-1].jobs, found[-1].yes) == ("list", [], False)


def test_the_traceback_is_there_on_demand():
    with pytest.raises(ValueError, match="no such file"):
        main(["evaluate", "nowhere.py:f", "--traceback"])


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"qshift {qshift.__version__}\n"


def test_help_and_devices_start_without_the_heavy_libraries():
    code = (
        "import sys\nfrom qshift.cli.main import main\n"
        "main(['devices'])\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('tensorflow', 'pennylane', 'qiskit', 'matplotlib', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(**python(code), check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_an_interrupted_minimize_says_how_to_go_on_and_does(folder, capsys):
    checkpoint = folder / "programs-py-cosine.checkpoint.json"
    command = ["minimize", *COSINE, "--optimizer", "adam", "--tolerance", "0"]

    def history():
        return json.loads(checkpoint.read_text())["state"]["history"]

    code = (
        # A test run in the background of a shell may ignore Ctrl-C, and its children with it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from qshift.cli.main import main; sys.exit(main())"
    )
    process = subprocess.Popen(**python(code, *command, "--steps", "1000000"))
    while process.poll() is None and not (checkpoint.exists() and len(history()) >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == "" and f"interrupted. The run so far is in {checkpoint.name}" in err
    assert "Traceback" not in err and err.count("\n") == 1

    done = len(history())
    command += ["--steps", str(done + 1), "--json", "-"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    resumed = json.loads(out)
    assert len(resumed["history"]) == done + 2 and f"Going on from {checkpoint.name}" in err
    assert not checkpoint.exists()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == resumed


def test_the_package_is_the_command():
    command = [sys.executable, "-m", "qshift", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"qshift {qshift.__version__}\n"


@pytest.mark.parametrize("given, shots", [("1e3", 1000), ("1,000", 1000), ("250", 250)])
def test_numbers_of_shots_as_people_write_them(capsys, given, shots):
    assert main(["plan", *COSINE, "--shots", given, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["shots"] == shots


def test_a_reader_that_has_read_enough_is_no_error():
    """As of `qshift devices --json - | head -1`."""
    code = "import sys; from qshift.cli.main import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(**python(code, "devices", "--json", "-")) as process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait() == 141 and said == ""


def test_listing_devices_and_jobs_loads_no_framework():
    code = """
import sys
from qshift.cli.main import main
main(["devices"]), main(["jobs", "--offline"])
loaded = {"tensorflow", "pennylane", "qiskit", "keras", "llvmlite"} & set(sys.modules)
assert not loaded, loaded
"""
    with subprocess.Popen(**python(code)) as process:
        assert (process.communicate()[1], process.returncode) == ("", 0)
