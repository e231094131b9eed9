"""The house: imports run one way, no name is used twice, tests mirror the package, and what is
private in a framework is known to one module."""

import ast
import collections
import functools
import importlib
import inspect
import pathlib
import re

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
    inside, outside = set(), {name for name in strings(tree) if is_hidden(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_hidden(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (inside if own or is_call_of_super(node.value) else outside).add(node.attr)
    # An object has private names of its bases, but those of others only in the same module.
    # `_asdict` and `_replace` are named tuples', and public; `_abc_impl` is Python's.
    assert not inside - all_of_ours()
    others = {name for name in outside if "qshift" not in name}
    assert not others - ours()[module] - {"_asdict", "_replace", "_abc_impl"}


def is_hidden(name: str) -> bool:
    return (
        name.startswith("_") and not name.startswith("__") and name.isidentifier() and name != "_"
    )


def is_call_of_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super"


def strings(tree: ast.AST):
    """Yields the strings in a module that are no parts of others."""
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def own_names(module):
    """Yields what the classes and objects of a module have, and its own names."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr


@functools.cache
def ours():
    """Returns the own names of each module."""
    return {module: set(own_names(module)) for module in MODULES}


@functools.cache
def all_of_ours():
    return set().union(*ours().values())


@pytest.mark.parametrize("module", sorted({*MODULES} - {*DOORS} - PYTHONS), ids=str)
def test_subclasses_of_frameworks_leave_their_private_names_alone(module):
    text = (PACKAGE / module).read_text()
    if not re.search(r"^class \w+\(", text, re.M):
        return
    for _, kind in inspect.getmembers(importlib.import_module(name_of(module)), inspect.isclass):
        if kind.__module__ == name_of(module):
            theirs = [k for k in kind.__mro__ if k.__module__.split(".")[0] in FRAMEWORKS]
            known = {name for each in theirs for name in hidden_in(inspect.getsource(each))}
            assert not known & hidden_in(inspect.getsource(kind)), kind


def name_of(module: pathlib.Path) -> str:
    return ".".join(["qshift", *module.with_suffix("").parts]).removesuffix(".__init__")


def hidden_in(source: str) -> set[str]:
    """Returns the private names that a class's methods have, and that they give to objects."""
    return set(re.findall(r"(?:def |self\.)(_[a-z]\w*)", source))


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_doors_have_tests_of_their_own(door):
    assert (PACKAGE.parent / "tests" / door.with_name(f"test_{door.name}")).exists()
