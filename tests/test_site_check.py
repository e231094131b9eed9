"""docs/check.py finds links to nowhere and parts that a page would load from elsewhere."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("site_check", ROOT / "docs" / "check.py")
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)

PAGE = "<html><title>A page</title><h1 id='a'>A</h1>{}</html>"
OTHER = "<html><title>Another</title><h1 id='b'>B</h1></html>"


@pytest.fixture
def site(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.html").write_text(OTHER)
    (tmp_path / "picture.svg").write_text("<svg/>")

    def problems(body):
        (tmp_path / "index.html").write_text(PAGE.format(body))
        return check.problems(tmp_path)

    return problems


@pytest.mark.parametrize(
    "body",
    [
        "<a href='sub/other.html'>x</a> <a href='sub/other.html#b'>x</a> <a href='#a'>x</a>",
        "<img src='picture.svg'> <img src='data:image/png;base64,AA=='>",
        "<a href='https://example.org/away'>a link to elsewhere is no part of the page</a>",
    ],
)
def test_a_site_that_is_right(site, body):
    assert site(body) == []


@pytest.mark.parametrize(
    "body, said",
    [
        ("<a href='gone.html'>x</a>", "links to gone.html, which does not exist"),
        ("<a href='../index.html'>x</a>", "which does not exist"),
        ("<a href='sub/other.html#c'>x</a>", "and there is no such place"),
        ("<a href='#b'>x</a>", "and there is no such place"),
        ("<img src='gone.png'>", "loads gone.png, which does not exist"),
        ("<script src='https://example.org/x.js'></script>", "from elsewhere"),
        ("<link rel='stylesheet' href='//example.org/x.css'>", "from elsewhere"),
        ("<h1>A second one</h1>", "has 2 main headings"),
    ],
)
def test_what_is_wrong_is_said(site, body, said):
    (problem,) = site(body)
    assert problem.startswith("index.html") and said in problem


def test_a_site_without_pages(tmp_path):
    (problem,) = check.problems(tmp_path)
    assert "no pages" in problem
