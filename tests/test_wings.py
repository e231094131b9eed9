"""The house: imports run one way, no name is used twice, tests mirror the package, and what is
private in a framework is known to one module."""

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
DOORS = [path for path in MODULES if path.name.endswith("_internals.py")]
# Of lightning nothing is public but its devices, which `qml.device` makes.
FRAMEWORKS = (
    "tensorflow keras pennylane pennylane_lightning autograd qiskit qiskit_aer qiskit_ibm_runtime"
).split()
PRIVATE = (
    "tensorflow.python keras.src pennylane_lightning autograd.core autograd.tracer "
    "autograd.numpy.numpy_boxes"
).split()
PYTHONS = {pathlib.Path("forks.py")}  # it has private names of Python's own modules


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


def is_private(name: str) -> bool:
    parts = name.split(".")
    hidden = any(part.startswith("_") and not part.startswith("__") for part in parts)
    below = any(f"{name}.".startswith(f"{module}.") for module in PRIVATE)
    return parts[0] in FRAMEWORKS and (hidden or below)


def named(tree: ast.AST):
    """Yields all modules, and names in them, that a module imports or has as a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("module", sorted({*MODULES} - {*DOORS} - PYTHONS), ids=str)
def test_private_names_are_behind_the_doors(module):
    tree = ast.parse((PACKAGE / module).read_text())
    assert not [name for name in named(tree) if is_private(name)]
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    hidden = {name for name in attributes if name.startswith("_") and not name.startswith("__")}
    assert not hidden - OURS - {"_replace"}  # which is a named tuple's, and public


def own_names():
    """Yields what qshift's own modules, classes and objects have."""
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    yield node.attr


OURS = set(own_names())


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_doors_have_tests_of_their_own(door):
    assert (PACKAGE.parent / "tests" / door.with_name(f"test_{door.name}")).exists()
