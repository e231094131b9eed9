"""What qshift requires, as pyproject.toml and the installed packages say."""

import importlib.metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def of(lines: Iterable[str]) -> list[Requirement]:
    """Returns requirements, each once, and none on qshift's own extras."""
    found = [Requirement(line) for line in dict.fromkeys(lines)]
    return [requirement for requirement in found if requirement.name != "qshift"]


CORE = of(PROJECT["dependencies"])
EXTRAS = {name: of(lines) for name, lines in PROJECT["optional-dependencies"].items()}
REQUIREMENTS = of(
    line
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
)


def needed(requirements: Iterable[Requirement]) -> set[str]:
    """Returns the canonical names of all that gets installed with some requirements on Linux."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    found, waiting = {}, [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate(linux | {"extra": extra}):
            continue
        for extra in {"", *requirement.extras} - found.get(name, set()):
            found.setdefault(name, set()).add(extra)
            lines = importlib.metadata.requires(name) or []
            waiting += [(Requirement(line), extra) for line in lines]
    return set(found)
