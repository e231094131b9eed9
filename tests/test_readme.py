"""README is short, its snippets run as they stand, and its links lead on."""

import pathlib
import re

import numpy as np
import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 100


def test_the_snippets_run_one_after_the_other(capsys):
    layer, derivatives = SNIPPETS
    names = {}
    exec(compile(layer, str(README), "exec"), names)
    assert names["model"](np.zeros((5, 3))).shape == (5, 1)
    exec(compile(derivatives, str(README), "exec"), names)
    assert names["third"].shape == (2, 2, 2)
    assert "circuits" in capsys.readouterr().out


def test_a_layer_and_a_picture_come_first():
    first = TEXT[: TEXT.index("\n## ")]
    assert SNIPPETS[0] in first and "QuantumLayer" in SNIPPETS[0]
    (picture,) = re.findall(r"!\[.+\]\((.+)\)", first)
    assert "<svg" in (README.parent / picture).read_text()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!\w+:)([^)#]+)", TEXT))
def test_links_lead_on(link):
    assert (README.parent / link).exists()


def test_wings_are_those_there_are():
    page = (README.parent / "docs" / "where-things-are.md").read_text()
    named = set(re.findall(r"^## ([a-z]+): ", page, re.MULTILINE))
    package = README.parent / "qshift"
    wings = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    assert named == wings
