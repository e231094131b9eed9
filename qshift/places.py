"""Where a user's files are."""

from __future__ import annotations

import os
from pathlib import Path


def home(variable: str, default: str) -> Path:
    """Returns one of the directories for a user's files.

    Args:
        variable: The environment variable that names it, such as ``"XDG_DATA_HOME"``.
        default: The directory if the variable is not set, relative to the home directory.

    Raises:
        RuntimeError: If the user has no home directory.
    """
    if given := os.environ.get(variable):
        return Path(given).expanduser()
    if os.environ.get("HOME") == "":  # Path.home() would be the root of all files
        raise RuntimeError("Could not determine home directory.")
    return Path("~").expanduser() / default
