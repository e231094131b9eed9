"""The README's snippets run as they stand."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_is_one_example():
    assert len(SNIPPETS) == 1


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_runs(snippet, capsys):
    names = {}
    exec(compile(snippet, str(README), "exec"), names)
    assert names["third"].shape == (2, 2, 2)
    assert "circuits" in capsys.readouterr().out


def test_modules_named_exist():
    package = README.parent / "qshift"
    rows = re.findall(r"^\| (`[^|]*`) \|", README.read_text(), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names == {path.stem for path in package.glob("[!_]*.py")} - {"errors", "progress"}
