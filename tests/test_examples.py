"""The examples run as a user runs them: as scripts, from anywhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[1]

# Exact diagonalisation of H2 at +-0.6614 bohr in STO-3G, and the Hartree-Fock energy.
GROUND, HARTREE_FOCK = -1.1361891625, -1.1173489211


ENVIRONMENT = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(ROOT)}

# Runs scripts one after another, so that TensorFlow and PennyLane are imported once for all.
ONE_BY_ONE = """
import json, os, runpy, sys

for line in sys.stdin:
    *argv, directory = json.loads(line)
    os.chdir(directory)
    sys.argv, sys.path[0] = argv, os.path.dirname(argv[0])
    runpy.run_path(argv[0], run_name="__main__")
    print("the end of a script", flush=True)
"""


def alone(name, directory, *arguments):
    """Runs an example in a directory; returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / name, *arguments],
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Does the same, in a process that has run other examples before."""
    said = tmp_path_factory.mktemp("said") / "stderr"
    command = [sys.executable, "-W", "error", "-c", ONE_BY_ONE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        said.open("w") as stderr,
        subprocess.Popen(command, **pipes, stderr=stderr, env=ENVIRONMENT) as process,
    ):

        def run(name, directory, *arguments):
            assert process.poll() is None, "another example has failed before"
            path = ROOT / "examples" / name
            process.stdin.write(json.dumps([*map(str, [path, *arguments, directory])]) + "\n")
            process.stdin.flush()
            lines = []
            for line in process.stdout:
                if line == "the end of a script\n":
                    return "".join(lines)
                lines.append(line)
            pytest.fail(said.read_text())

        yield run


def h2_newton(run, directory, *arguments):
    """Runs the example in a directory; returns its tables' rows as lists of cells."""
    printed = run("h2_newton.py", directory, *arguments)
    lines = (line.strip("│").split("│") for line in printed.splitlines() if "│" in line)
    rows = [[cell.strip() for cell in line] for line in lines]
    second = [row[0] for row in rows].index("all") + 1
    return rows[:second], rows[second:]


@pytest.fixture(scope="module")
def exact_run(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("h2")
    return directory, *h2_newton(run, directory, "--out", "plots/h2.png")


def test_double_excitation_converges_in_three_steps_from_zero(exact_run):
    *steps, total = exact_run[1]
    assert [row[0] for row in steps] == ["0", "1", "2", "3"]
    assert [float(row[1]) for row in steps[:1] + steps[3:]] == [HARTREE_FOCK, GROUND]
    assert float(steps[3][3]) < 1e-10
    # Two frequencies: the gradient's four points and the value also give the second derivative.
    assert [row[4:] for row in steps] == [["1/1", "4/4", "0/16"]] * 3 + [["1/1", "4/4", "0/0"]]
    assert total[4:] == ["4/4", "16/16", "0/48"]


def test_three_excitations_converge_to_the_ground_state(exact_run):
    *steps, total = exact_run[2]
    assert float(steps[0][1]) > GROUND + 0.05
    assert float(steps[-1][1]) == GROUND
    assert float(steps[-1][3]) < 1e-10
    # 2Rp + 1 + (4R - 1) C(p, 2) circuits up to the Hessian, with R = 2 and p = 3.
    assert steps[0][4:] == ["1/1", "12/12", "21/144"]
    assert total[5:] == [f"{12 * len(steps)}/{12 * len(steps)}", f"{21 * 4}/{144 * 4}"]


def test_newton_converges_quadratically(exact_run):
    norms = [float(row[3]) for row in exact_run[2][:-1]]
    assert all(after < before**1.8 for before, after in zip(norms[1:-2], norms[2:-1], strict=True))


def test_plot_is_saved_where_asked(exact_run):
    image = imread(exact_run[0] / "plots" / "h2.png")[..., :3]
    assert image.shape[0] > 400 and image.shape[1] > 800
    for color in (0x0072B2, 0xD55E00):  # both curves are on it
        rgb = np.array([color >> 16, color >> 8 & 255, color & 255]) / 255
        assert np.sum(np.all(np.abs(image - rgb) < 0.01, axis=-1)) > 500
    assert [path.name for path in exact_run[0].iterdir()] == ["plots"]


def test_runs_with_shots(run, tmp_path):
    one, three = h2_newton(run, tmp_path, "--shots", "10000", "--out", "h2.png")
    assert (tmp_path / "h2.png").is_file()
    for *steps, _ in (one, three):
        energies = np.array([float(row[1]) for row in steps])
        assert len(np.unique(energies)) == len(energies) == 7  # no tolerance is reached with noise
        assert abs(energies[-1] - GROUND) < 0.05


def trained(run, name, directory, *arguments):
    """Runs an example on a differential equation: the first and last loss, and the error."""
    printed = run(name, directory, *arguments)
    number = r"([0-9.e+-]+)"
    first, last = re.search(rf"loss {number} -> {number} in", printed).groups()
    error = re.search(rf"maximum error {number};", printed)[1]
    return float(first), float(last), float(error)


# What short runs must reach: the largest error. Those that cut it short are far from it before.
EQUATIONS = {
    "logistic_equation.py": ("250", 1e-2),
    "damped_oscillation.py": ("100", 0.3),
    "harmonic_oscillator.py": ("250", 2e-2),
    "heat_equation.py": ("120", 0.1),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", EQUATIONS)
def test_equations_are_solved(name, run, tmp_path):
    steps, at_most = EQUATIONS[name]
    tmp_path = tmp_path / "here"
    tmp_path.mkdir()
    *_, before = trained(run, name, tmp_path, "--steps", "1", "--out", "before.png")
    first, last, error = trained(run, name, tmp_path, "--steps", steps, "--out", "plots/after.png")
    assert last < first / 50
    assert error < at_most < before
    image = imread(tmp_path / "plots" / "after.png")[..., :3]
    rgb = np.array([0x00, 0x72, 0xB2]) / 255  # solution and training curve
    assert image.shape[1] > 1500
    assert np.sum(np.all(np.abs(image - rgb) < 0.01, axis=-1)) > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.png", "plots"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("where", [["--shots", "1000"], ["--device", "fake-manila"]])
def test_equations_run_unchanged_elsewhere(where, run, tmp_path):
    arguments = ["--steps", "1", "--qubits", "1", *where]
    first, last, error = trained(run, "harmonic_oscillator.py", tmp_path, *arguments)
    assert np.isfinite([first, last, error]).all()
    assert (tmp_path / "out" / "harmonic_oscillator.png").is_file()


@pytest.mark.one_in(4)
def test_a_hessian_over_worker_processes(tmp_path):
    pytest.importorskip("distributed")
    printed = alone("lih_hessian.py", tmp_path, "--out", "plots/lih.png")
    assert re.search(r"2029 circuits in \d+ chunks on 2 workers", printed)
    # Close to the Hartree-Fock state, above the ground state at this bond length.
    energy = float(re.search(r"energy (\S+),", printed)[1])
    assert -7.8825 < energy < -7.80
    assert imread(tmp_path / "plots" / "lih.png").shape[1] > 800
