"""The house: imports run one way, no name is used twice, tests mirror the package."""

import ast
import collections
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "qshift"
# A module imports modules of its own wing and of those before it. What is in no wing is known to
# all. Adapters do not know each other, but for the command line.
WINGS = ("", "rules", "circuits", "ledger", "executors", "autodiff", "api")
ADAPTERS = ("keras", "pennylane", "optimize")
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def allowed(wing: str) -> set[str]:
    if wing == "cli":
        return {*WINGS, *ADAPTERS, "cli"}
    if wing in ADAPTERS:
        return {*WINGS, wing}
    return set(WINGS[: WINGS.index(wing) + 1])


def wing_of(module: str) -> str:
    """Returns the wing of what an import names, which may be something in a module."""
    head = module.split(".")[1] if "." in module else "__init__"
    return head if (PACKAGE / head).is_dir() else ""


def imported(path: pathlib.Path):
    """Yields what of qshift a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("qshift."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "qshift":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_run_one_way(module):
    if str(module) in ("__init__.py", "__main__.py"):  # the face and the command line
        return
    wing = module.parts[0] if len(module.parts) > 1 else ""
    wrong = [name for name in imported(PACKAGE / module) if wing_of(name) not in allowed(wing)]
    assert not wrong


def test_modules_have_names_of_their_own():
    names = collections.Counter(path.stem for path in MODULES if path.stem != "__init__")
    wings = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    twice = {name for name, count in names.items() if count > 1 or name in wings}
    # The executor on any device of PennyLane, beside the adapter; the main part of its wing.
    assert twice == {"pennylane", "ledger"}


def test_tests_mirror_the_package():
    root = pathlib.Path(__file__).parent
    wings = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    for path in (path for wing in wings for path in (root / wing).rglob("test_*.py")):
        module = path.relative_to(root).with_name(path.name.removeprefix("test_"))
        assert module in MODULES, f"{path} tests no module"
