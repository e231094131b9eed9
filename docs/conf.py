"""Sphinx's settings for the site that `make docs` builds; nothing in them needs a network."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "extensions"), str(HERE)]

import figures  # noqa: E402

import qshift  # noqa: E402

project = "qshift"
author = "the authors of qshift"
project_copyright = "the authors of qshift"
release = version = qshift.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_line",
    "mathml",
]
exclude_patterns = ["extensions"]
# Google's docstrings: single backticks are code, as in the source.
default_role = "literal"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
# The tests compare the notebooks' saved outputs with those of a run; the site has its own run.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds of one cell
nb_merge_streams = True
nb_output_stderr = "remove"  # what TensorFlow says when it is loaded

html_theme = "furo"
html_title = f"qshift {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _gather(_: object) -> None:
    """Puts what is kept elsewhere, or drawn, where Sphinx reads it."""
    for place, files in (("tutorials", "notebooks/*.ipynb"), ("examples", "examples/*.py")):
        (HERE / place).mkdir(exist_ok=True)
        for file in sorted(ROOT.glob(files)):
            there = HERE / place / file.name
            if not there.exists() or there.read_bytes() != file.read_bytes():
                shutil.copyfile(file, there)
    figures.draw(HERE / "drawn")


def setup(app):
    app.connect("builder-inited", _gather)
