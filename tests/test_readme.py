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


def test_wings_are_those_there_are():
    package = README.parent / "qshift"
    (table,) = re.findall(r"^\| wing \|.*?\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    named = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.strip().splitlines()[2:]]
    wings = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    assert sorted(sum(named, [])) == sorted(wings)
