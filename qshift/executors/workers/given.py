"""What the keyword `workers` takes. Reading profiles needs it, without TensorFlow and PennyLane."""

from __future__ import annotations

from typing import Any

from qshift.errors import OptionError
from qshift.extras import require
from qshift.inputs import is_integer

EXPECTED = (
    'a number of processes, "dask", the address of a Dask scheduler such as '
    '"tcp://127.0.0.1:8786", a dask.distributed.Client, or an executor of concurrent.futures'
)
_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


def checked(given: Any) -> Any:
    """Returns what was given as ``workers``.

    Raises:
        OptionError: For something else.
    """
    if isinstance(given, str):
        if given == "dask" or given.startswith(_SCHEMES):
            return given
    elif is_integer(given):
        if given >= 0:
            return int(given)
    elif callable(getattr(given, "submit", None)):
        if not getattr(given, "asynchronous", False):
            return given
        raise OptionError("workers", "the Dask client is asynchronous; give one that is not")
    raise OptionError("workers", f"expected {EXPECTED}; got {given!r}")


def require_packages(given: Any) -> None:
    """Raises MissingExtraError if what was given as ``workers`` needs a package that is missing."""
    if isinstance(given, str):
        require("dask", f"workers={given!r}")
    elif is_integer(given) and given:
        require("workers", f"workers={given}")
