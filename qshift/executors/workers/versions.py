"""Whether workers have the packages that results depend on, in the same versions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from qshift.errors import WorkerError

NAMES = ("python", "qshift", "pennylane", "numpy")

# Evaluated on a worker by Python's own `eval`, as it must work where qshift is not installed. A
# package that a worker does not have is missing from the result. A chunk of points asks as well.
PROBE = (
    "(lambda util, module, sys: {'python': '%d.%d' % sys.version_info[:2]} | {"
    "name: module(name).__version__ for name in ('qshift', 'pennylane', 'numpy') "
    "if util.find_spec(name)})"
    "(__import__('importlib.util').util, __import__('importlib').import_module, __import__('sys'))"
)


@functools.cache
def own() -> Mapping[str, str]:
    """Returns the versions of this process."""
    return eval(PROBE)


def require_equal(found: Mapping[str, Any], where: str) -> None:
    """Raises WorkerError unless a worker has the versions that this process has.

    Args:
        found: The worker's versions.
        where: What the error calls the worker.
    """
    wrong = [name for name in NAMES if found.get(name) != own()[name]]
    if not wrong:
        return
    has = [f"{name} {found[name]}" if name in found else f"no {name}" for name in wrong]
    needs = [f"{name}=={own()[name]}" for name in wrong]
    raise WorkerError(
        f"{where} has {', '.join(has)}, but this process has {', '.join(needs)}. Results would not "
        f"be the same, so nothing was sent. Install {' '.join(needs)} there, or start the workers "
        "in the environment of this process."
    )
