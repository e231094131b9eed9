"""README is short, its snippets run as they stand, and its links lead on."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 100


def test_the_snippets_run_one_after_the_other(capsys):
    derivatives, layer = SNIPPETS
    names = {}
    exec(compile(derivatives, str(README), "exec"), names)
    assert names["third"].shape == (2, 2, 2)
    assert "circuits" in capsys.readouterr().out
    exec(compile(layer, str(README), "exec"), names)
    assert names["model"](names["tf"].zeros((5, 3))).shape == (5, 1)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!\w+:)([^)#]+)", TEXT))
def test_links_lead_on(link):
    assert (README.parent / link).exists()


def test_wings_are_those_there_are():
    page = (README.parent / "docs" / "where-things-are.md").read_text()
    named = set(re.findall(r"^## ([a-z]+): ", page, re.MULTILINE))
    package = README.parent / "qshift"
    wings = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    assert named == wings
