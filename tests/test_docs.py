"""Snippets of the site's pages run, page by page, as a reader would run them from top to bottom.

A snippet whose first line is the name of a file, as in ``# circuits.py``, is saved under this
name. In a console, what begins with ``$ qshift`` is run, and what begins with ``$ python`` in a
process of its own, which has to print what is shown.
"""

import importlib
import inspect
import linecache
import re
import shlex
from pathlib import Path

import fresh
import pytest

import qshift
from qshift import errors
from qshift.api import profiles
from qshift.cli.main import main
from qshift.errors import QShiftError
from qshift.executors import registry
from qshift.executors.qiskit.device import EstimatorDevice

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md"))}
SNIPPET = re.compile(r"^```(python|toml|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What a console may show besides, which changes the environment.
OTHERS = ("pip install",)
OURS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
    for path in (ROOT / "qshift").rglob("*.py")
}


def snippets(page):
    """Yields (number of its first line, language, text) of each snippet."""
    text = page.read_text()
    for found in SNIPPET.finditer(text):
        yield text.count("\n", 0, found.start(2)), *found.groups()


WITH_SNIPPETS = [name for name, page in PAGES.items() if list(snippets(page))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory of its own, where nothing that a page registers lasts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    return tmp_path


def run(page, place):
    names = {"__name__": f"page_{page.stem.replace('-', '_')}"}
    for line, language, text in snippets(page):
        if saved := re.match(r"# (\w+\.\w+)\n", text):
            (place / saved[1]).write_text(text)
        if language == "python" and not (saved and f"$ python {saved[1]}" in page.read_text()):
            # With the lines of the page, for tracebacks, and the source, for `tf.function`.
            source = "\n" * line + text
            name = f"{page}:{line}"
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            exec(compile(source, name, "exec"), names)
        elif language == "console":
            for command, shown in re.findall(r"^\$ (.+)\n((?:(?!\$).*\n)*)", text, re.MULTILINE):
                if command.startswith("python "):
                    assert alone(command.split()[1:], place) == shown
                elif command.startswith("qshift "):
                    try:
                        status = main(shlex.split(command)[1:])
                    except SystemExit as end:  # of argparse, for --version and --help
                        status = end.code
                    assert status == 0, command
                else:
                    assert command.startswith(OTHERS), f"{command} is run by nobody"


def alone(arguments, place):
    """Returns what a script prints in a process of its own."""
    done = fresh.run_file(*arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", WITH_SNIPPETS)
def test_snippets_run(name, place, request):
    if name == "how-to/hardware.md":
        request.getfixturevalue("loopback")
    run(PAGES[name], place)


def test_most_pages_have_snippets():
    assert set(WITH_SNIPPETS) >= {n for n in PAGES if n.startswith("how-to/")} - {
        "how-to/index.md",
        "how-to/cluster.md",
    }


def test_every_key_of_a_profile_is_explained():
    text = PAGES["reference/profiles.md"].read_text()
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert set(profiles._CHECKS) <= set(listed)
    options = set(inspect.signature(EstimatorDevice).parameters)
    own = options - {"wires", "backend", "shots", "options"}
    assert own == set(listed) - set(profiles._CHECKS)


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_error_has_its_way_out():
    for module, source in OURS.items():
        if re.search(r"^class \w+\(.*Error", source, re.MULTILINE):
            importlib.import_module(module)
    found = {each.__name__ for each in subclasses(QShiftError) if each.__module__ in OURS}
    found |= {"EndsError", "UnknownSizeError"}
    text = PAGES["reference/errors.md"].read_text()
    assert set(re.findall(r"^\| `(\w+Error)` \|", text, re.MULTILINE)) == found
    for name in found - set(vars(errors)):
        assert re.search(rf"autoexception:: qshift\.[\w.]+\.{name}$", text, re.MULTILINE)


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text() for name, page in PAGES.items() if "reference/" in name)
    errors = {name for name in qshift.__all__ if name.endswith(("Error", "Warning"))}
    for name in set(qshift.__all__) - errors:
        assert re.search(rf"qshift\.{name}$", text, re.MULTILINE), name
    assert "automodule:: qshift.errors\n   :members:" in text


def test_every_environment_variable_is_explained():
    text = PAGES["reference/environment.md"].read_text()
    for source in OURS.values():
        for name in re.findall(r"\b(?:QSHIFT|XDG)_[A-Z_]+\b", source):
            assert f"`{name}`" in text, name
