"""Workers have the versions of this process, or nothing is sent to them."""

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest

import qshift
from qshift.errors import WorkerError
from qshift.executors.workers import versions


def test_own_versions():
    assert versions.own() == {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "qshift": qshift.__version__,
        "pennylane": importlib.metadata.version("pennylane"),
        "numpy": np.__version__,
    }
    versions.require_equal(dict(versions.own()), "A worker")


def test_the_probe_works_where_nothing_is_installed():
    command = [sys.executable, "-I", "-S", "-c", f"print(eval({versions.PROBE!r}))"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = eval(said)
    assert found == {"python": versions.own()["python"]}
    with pytest.raises(
        WorkerError, match="has no qshift, no pennylane, no numpy, but this process"
    ):
        versions.require_equal(found, "The worker node7")


@pytest.mark.parametrize("name", versions.NAMES)
def test_another_version_is_an_error_that_says_what_to_install(name):
    with pytest.raises(WorkerError) as caught:
        versions.require_equal(versions.own() | {name: "0.0.7"}, "The worker node7")
    told = str(caught.value)
    assert told.startswith(f"The worker node7 has {name} 0.0.7, but this process has {name}==")
    assert "nothing was sent" in told and f"Install {name}=={versions.own()[name]}" in told
