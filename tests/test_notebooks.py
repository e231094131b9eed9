"""The notebooks run from top to bottom, and what is saved in them is what runs.

Their style, for whoever writes one: a notebook tells one story, named ``<number>_<topic>.ipynb``
and opened by a title and a paragraph that says what it shows. Prose is plain and precise; cells are
short (a screen at most) and do one thing. Numbers are printed rounded, to no more digits than are
the same on all machines, from seeds where there are samples; no times, paths or addresses of
objects, and nothing on stderr. Pictures have labelled axes with units, at 90 dots per inch, and a
sentence before them that says what to see. Claims are counted or compared in the notebook itself.
Work in float64. Write a notebook in Jupyter, then save it with ``make notebooks``; one takes under
40 seconds on two cores.
"""

import re

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from notebooks import DIRECTORY, NOTEBOOKS, read, run, shown

LONGEST_CELL = 30  # lines


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_saved_outputs_are_what_runs(path):
    assert shown(run(path)) == shown(read(path))


def test_was_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_opens_with_its_title(path):
    number = path.stem.split("_")[0]
    assert re.match(rf"# {number}\. \w.*\n\n\w", read(path).cells[0].source)


def test_has_pictures_and_nothing_on_stderr(path):
    kinds = [kind for cell in shown(read(path)) for kind, _ in cell]
    assert "image/png" in kinds
    assert "stderr" not in kinds


def test_cells_are_short(path):
    assert all(cell.source.count("\n") < LONGEST_CELL for cell in code_cells(path))


def test_nothing_says_where_or_when_it_ran(path):
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text())  # any letters occur in pictures
    assert not re.search(r'"(?:/|~)\w+/|/tmp/|/home/|/root/|0x[0-9a-f]{6}|20\d\d-\d\d-\d\d', text)
    assert set(read(path).metadata) == {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in read(path).cells)


def test_is_small(path):
    assert path.stat().st_size < 400_000


def test_links_lead_to_notebooks(path):
    for cell in read(path).cells:
        for target in re.findall(r"\]\((?!https?:)([^)]*)\)", cell.source):
            assert (path.parent / target).is_file(), target


def test_table_lists_all_of_them():
    table = (DIRECTORY / "README.md").read_text()
    titles = [
        f"[{read(path).cells[0].source.splitlines()[0][2:]}]({path.name})" for path in NOTEBOOKS
    ]
    assert re.findall(r"^\| (\[.*?\]\(.*?\)) \|", table, re.MULTILINE) == titles


# How they are run and saved

NOISY = """\
import sys
from IPython.display import HTML, display
from matplotlib import pyplot
print("W0000 is not of TensorFlow's log")
print("W0000 00:00:1.2 a file.cc:1] but this is\\nthis is not", file=sys.stderr)
display(HTML(""))
lines = pyplot.plot([1, 2])
pyplot.show()
"""


def saved(path, *sources):
    cells = [nbformat.v4.new_code_cell(source, metadata={"trusted": True}) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"authors": []}), path)
    return path


def test_what_is_kept_of_a_run(tmp_path):
    notebook = run(saved(tmp_path / "noisy.ipynb", "%matplotlib inline", NOISY, "1 + 1"))
    nothing, noisy, value = shown(notebook)
    assert nothing == []
    assert sorted(noisy) == [
        ("image/png", ""),
        ("stderr", "this is not\n"),
        ("stdout", "W0000 is not of TensorFlow's log\n"),
    ]
    assert value == [("text/plain", "2")]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in notebook.cells)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]


def test_it_runs_in_a_directory_of_its_own_and_stops_at_an_error(tmp_path):
    path = saved(tmp_path / "failing.ipynb", "open('here', 'x')", "1 / 0", "raise SystemExit")
    for _ in range(2):
        with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
            run(path)
    assert list(tmp_path.iterdir()) == [path]
