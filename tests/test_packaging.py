"""What is shipped, what it needs, and the two commands that install it."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import packages
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packages import PROJECT, REQUIREMENTS, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import qshift
from qshift import extras


def files_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def relative(directory, pattern):
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / directory).rglob(pattern)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")))
    return Path(path)


@pytest.fixture(scope="module")
def unpacked_sdist(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sdist")
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(directory))
    with tarfile.open(path) as archive:
        archive.extractall(directory, filter="data")
    return directory / f"qshift-{qshift.__version__}"


def test_wheel_has_the_package_the_profiles_and_nothing_else(wheel):
    shipped = {name for name in files_in(wheel) if ".dist-info/" not in name}
    profiles = relative("devices", "*.toml")
    assert "devices/simulator.toml" in profiles
    assert {f"qshift/{name}" for name in profiles} <= shipped
    assert "qshift/py.typed" in shipped
    assert {name for name in shipped if name.endswith(".py")} == relative("qshift", "*.py")
    assert all(name.startswith("qshift/") for name in shipped)


def test_wheel_says_what_it_is(wheel):
    assert wheel.name == f"qshift-{qshift.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        info = f"qshift-{qshift.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "qshift = qshift.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_sdist_builds_the_same_wheel(unpacked_sdist, wheel, tmp_path):
    (again,) = WheelBuilder(str(unpacked_sdist)).build(directory=str(tmp_path))
    assert files_in(again) == files_in(wheel)
    for name in ("constraints.txt", "Makefile", "tests/test_packaging.py", "examples/h2_newton.py"):
        assert (unpacked_sdist / name).is_file()
    assert not (unpacked_sdist / ".venv").exists()


CONSTRAINTS = ("constraints.txt", "constraints-newest.txt")


def pins(name):
    """Returns the versions of a file of constraints by canonical name."""
    lines = (ROOT / name).read_text().splitlines()
    bad = [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9a-z.]+", line)]
    assert not bad, f"{name}: expected name==version only, got {bad}"
    versions = dict(line.split("==") for line in lines)
    assert len(versions) == len(lines), f"{name}: a package is named twice"
    return versions


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_within_its_bounds(requirement, name):
    if (requirement.name, name) == ("pennylane-qiskit", "constraints-newest.txt"):
        assert requirement.name not in pins(name)
        return
    assert requirement.specifier.contains(pins(name)[canonicalize_name(requirement.name)])


def test_the_newest_versions_are_newer_in_what_pennylane_qiskit_holds_back():
    before, newest = map(pins, CONSTRAINTS)
    for name in ("qiskit", "qiskit-aer", "qiskit-ibm-runtime"):
        assert Version(newest[name]) > Version(before[name])
    others = (newest.keys() & before.keys()) - {"qiskit", "qiskit-aer", "qiskit-ibm-runtime"}
    assert {name: newest[name] for name in others} == {name: before[name] for name in others}


def test_constraints_pin_everything_that_gets_installed_on_linux():
    has_plugin = extras.is_installed("pennylane_qiskit")
    required = [each for each in REQUIREMENTS if has_plugin or each.name != "pennylane-qiskit"]
    installed, pinned = packages.needed(required), set(pins(CONSTRAINTS[not has_plugin]))
    assert not installed - pinned
    # What is pinned and not needed here is needed by nobody: there are no stale lines.
    assert not pinned - installed


def test_the_core_is_small_and_extras_have_the_rest():
    assert len(packages.CORE) <= 10
    *features, every, docs, test = packages.EXTRAS
    assert (every, docs, test) == ("all", "docs", "test") and features == list(extras.EXTRAS)
    together = [name for name in features if name != "pennylane-qiskit"]
    assert PROJECT["optional-dependencies"]["all"] == [f"qshift[{','.join(together)}]"]
    assert "qshift[all,docs]" in PROJECT["optional-dependencies"]["test"]


# Which modules may import what of an extra: below a directory, or one module.
PLACES = {
    "executors/qiskit/": "qiskit",
    "ledger/liveness.py": "qiskit",
    "executors/workers/pools.py": "workers",
    "executors/workers/dask_internals.py": "dask",
    "cli/openqasm.py": "qasm",
    "cli/openqasm_definitions.py": "qasm",
    "cli/openqasm_loops.py": "qasm",
    "cli/main.py": "plot",
    "optimize/result.py": "plot",
}
# Whoever hands in what they have made, or runs a notebook, has them.
FOREIGN = {"IPython", "jax", "torch"}
# Core packages need these as well.
BROUGHT_ALONG = {"autoray": "pennylane", "cachetools": "pennylane"}


def imported(path):
    """Yields the top-level modules of other packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        tops = {name.partition(".")[0] for name in names}
        yield from tops - sys.stdlib_module_names - FOREIGN - {"qshift"}


def test_every_import_is_a_requirement_of_the_core_or_of_the_extra_of_its_place():
    distributions = importlib.metadata.packages_distributions()
    core = {canonicalize_name(each.name) for each in packages.CORE} | set(BROUGHT_ALONG)
    used = {}  # extra -> modules
    for path in (ROOT / "qshift").rglob("*.py"):
        module = path.relative_to(ROOT / "qshift").as_posix()
        places = [extra for place, extra in PLACES.items() if module.startswith(place)]
        for name in imported(path):
            owners = {canonicalize_name(owner) for owner in distributions[name]}
            if owners & core:
                continue
            assert places, f"{module} imports {name}, which is not in the core"
            required = {canonicalize_name(each.name) for each in packages.EXTRAS[places[0]]}
            assert owners & required, f"{module} imports {name}, which {places} does not have"
            used.setdefault(places[0], set()).add(name)
    # Of pennylane-qiskit nothing is imported: PennyLane loads its devices.
    assert used | {"pennylane-qiskit": {"pennylane_qiskit"}} == {
        extra: set(modules) for extra, modules in extras.EXTRAS.items()
    }


@pytest.mark.parametrize("name", BROUGHT_ALONG)
def test_what_the_core_does_not_name_comes_with_it(name):
    lines = importlib.metadata.requires(BROUGHT_ALONG[name])
    assert name in {each.name for each in map(Requirement, lines) if each.marker is None}


@pytest.mark.parametrize("name", ["pyproject.toml", *CONSTRAINTS, "Makefile", ".ci/run"])
def test_no_address_is_written_down(name):
    assert not re.search(r"://|\bwww\.|\.org\b|--(extra-)?index-url", (ROOT / name).read_text())


def test_ci_is_the_readme_command():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
class TestMakefile:
    """Dry runs: what make would do in an environment of a given age."""

    def make(self, *arguments):
        # A make that runs this test hands its flags and variables down; these runs are their own.
        handed_down = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL"}
        handed_down |= {"CONSTRAINTS", "EXTRAS", "PYTEST_ARGS"}
        environment = {k: v for k, v in os.environ.items() if k not in handed_down}
        command = ["make", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    @pytest.fixture
    def environment(self, tmp_path):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").symlink_to(sys.executable)
        return tmp_path

    @pytest.mark.parametrize(
        "goal", ["demo", "demo-cluster", "test", "bench", "notebooks", "docs", "lint"]
    )
    def test_a_missing_or_old_python_is_named(self, goal, tmp_path):
        result = self.make(goal, f"VENV={tmp_path}/new", "PYTHON=false")
        assert result.returncode != 0
        assert "needs Python 3.11 or newer, which 'false' is not" in result.stderr
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        "goal, extra",
        [
            ("demo", "all"),
            ("demo-cluster", "all"),
            ("test", "test,pennylane-qiskit"),
            ("docs", "test,pennylane-qiskit"),
        ],
    )
    def test_a_new_environment_is_made_and_filled(self, goal, extra, tmp_path):
        planned = self.make("-n", goal, f"VENV={tmp_path}/new").stdout
        assert "-m venv" in planned
        assert f'-c constraints.txt --editable ".[{extra}]"' in planned

    def test_the_newest_releases_have_an_environment_of_their_own(self, tmp_path):
        planned = self.make("-n", "test-newest", f"VENV={tmp_path}/new").stdout
        assert '-c constraints-newest.txt --editable ".[test]"' in planned
        assert f"{tmp_path}/new-newest/bin/python -m pytest" in planned
        assert "tests/executors/qiskit tests/service" in planned

    @pytest.mark.parametrize("stamp, goal", [(".installed", "demo"), (".installed-test", "test")])
    def test_installs_again_only_when_the_requirements_changed(self, environment, stamp, goal):
        (environment / stamp).touch()
        assert "pip" not in self.make("-n", goal, f"VENV={environment}").stdout
        os.utime(environment / stamp, (0, 0))
        assert "pip install" in self.make("-n", goal, f"VENV={environment}").stdout
