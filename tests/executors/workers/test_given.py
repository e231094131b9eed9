"""What the keyword `workers` takes, and errors that say what else."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qshift import extras
from qshift.errors import MissingExtraError, OptionError
from qshift.executors.workers.given import checked, require_packages


class Client:
    """Looks like a Dask client."""

    asynchronous = False

    def submit(self, *_): ...


def test_what_is_taken():
    pool, client = ThreadPoolExecutor(1), Client()
    for given in (0, 1, 16, "dask", "tcp://127.0.0.1:8786", "tls://host:1", pool, client):
        assert checked(given) is given
    assert type(checked(np.int64(3))) is int


@pytest.mark.parametrize(
    "given", [-1, 1.5, True, "", "dsk", "127.0.0.1:8786", "http://a:1", None, [2], itertools.count]
)
def test_what_is_not(given):
    with pytest.raises(OptionError, match="workers: expected a number of processes, .dask., the"):
        checked(given)


def test_an_asynchronous_client_is_refused():
    client = Client()
    client.asynchronous = True
    with pytest.raises(OptionError, match="asynchronous; give one that is not"):
        checked(client)


@pytest.mark.parametrize("given, extra", [("dask", "dask"), ("tcp://a:1", "dask"), (3, "workers")])
def test_a_missing_package_is_named_with_its_extra(given, extra, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, extra, ("no_such",))
    with pytest.raises(MissingExtraError, match=rf"workers=.*no-such.*qshift\[{extra}\]"):
        require_packages(given)
    require_packages(0)
    require_packages(Client())
