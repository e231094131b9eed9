"""docs/where-things-are.md names every module of qshift once, with the first paragraph of its
docstring, and no other module."""

import ast
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "where-things-are.md").read_text()
MODULES = {
    path.relative_to(ROOT / "qshift").as_posix()
    for path in (ROOT / "qshift").rglob("*.py")
    if not path.name.startswith("__")
}


def test_every_module_has_a_line():
    lines = re.findall(r"^- `(.*?)`: (.+)$", PAGE, re.MULTILINE)
    twice = [name for name, n in collections.Counter(name for name, _ in lines).items() if n > 1]
    assert not twice
    assert {name for name, _ in lines} == MODULES
    assert dict(lines) == {name: summary(ROOT / "qshift" / name) for name in MODULES}


def summary(path):
    """Returns the first paragraph of a module's docstring in one line."""
    text = ast.get_docstring(ast.parse(path.read_text()))
    return " ".join(text.split("\n\n")[0].split())


def test_questions_lead_to_what_there_is():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) >= 10
    for row in rows:
        for name in re.findall(r"`([^`]+)`", row.split("|")[2]):
            # A path in the package or the repository, or the name of a file in a folder before it.
            there = (ROOT / "qshift" / name, ROOT / name)
            assert any(map(pathlib.Path.exists, there)) or list((ROOT / "qshift").rglob(name)), name
