"""Runs the notebooks, and saves them as they run.

    python tests/notebooks.py                       # all of them; `make notebooks`
    python tests/notebooks.py notebooks/2_*.ipynb

What is saved is what a reader sees who opens a notebook without running it: outputs and pictures,
and nothing that says when, where or on which machine it ran.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

DIRECTORY = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(DIRECTORY.glob("*.ipynb"))

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_KINDS = ("text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml")
# TensorFlow's C++ log, before it has read what level it should have: that there is no GPU.
_TENSORFLOW_LOG = re.compile(r"^(WARNING: All log messages before|[IWE]\d{4} \d).*\n", re.MULTILINE)
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


class _Kernel(AsyncKernelManager):
    """The Python that runs this, whatever kernels are installed on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        launcher = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR"]
        return KernelSpec(argv=[*launcher, "-f", "{connection_file}"])


def read(path: Path) -> nbformat.NotebookNode:
    """Returns a notebook as it is saved."""
    return nbformat.read(path, as_version=4)


def run(path: Path) -> nbformat.NotebookNode:
    """Executes a notebook in a fresh kernel, from top to bottom, in a directory of its own.

    Returns:
        The notebook with the outputs of this run, as it would be saved.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = read(path)
    for cell in notebook.cells:
        cell.metadata = {}
    environment = {**os.environ, **_QUIET, "PYTHONPATH": str(DIRECTORY.parent)}
    with tempfile.TemporaryDirectory() as directory:
        client = NotebookClient(
            notebook, kernel_manager_class=_Kernel, timeout=600, coalesce_streams=True
        )
        client.execute(cwd=directory, env=environment)
    return _cleaned(notebook)


def shown(notebook: nbformat.NotebookNode) -> list[list[tuple[str, str]]]:
    """Returns what each code cell shows: (kind, text) of its outputs, without text for pictures."""
    return [
        [
            (kind, "" if kind.startswith("image/") else text)
            for output in cell.outputs
            for kind, text in _contents(output)
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _contents(output):
    if output.output_type == "stream":
        return [(output.name, output.text)]
    return sorted(output.data.items())


def _cleaned(notebook):
    """Keeps what a reader sees, in one form on all machines."""
    cells = []
    for number, cell in enumerate(notebook.cells, 1):
        kept = {"id": f"{number:02}", "metadata": {}}
        if cell.cell_type == "code":
            outputs = [cleaned for output in cell.outputs if (cleaned := _cleaned_output(output))]
            kept |= {"execution_count": cell.execution_count, "outputs": outputs}
        cells.append(nbformat.from_dict({**cell, **kept}))
    return nbformat.v4.new_notebook(cells=cells, metadata=_METADATA)


def _cleaned_output(output):
    if output.output_type == "stream":
        text = _TENSORFLOW_LOG.sub("", output.text)
        return nbformat.from_dict({**output, "text": text}) if text else None
    data = {kind: content for kind, content in output.data.items() if kind in _KINDS}
    if len(data) > 1:
        del data["text/plain"]  # nobody sees it
    if not any(data.values()):
        return None  # a progress bar, which has gone
    return nbformat.from_dict({**output, "data": data, "metadata": {}})


def main():
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else NOTEBOOKS:
        nbformat.write(run(path), path)
        print(path)


if __name__ == "__main__":
    main()
