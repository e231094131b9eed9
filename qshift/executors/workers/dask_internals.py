"""Dask's clusters and clients: the names beneath its public interface that qshift uses."""

from __future__ import annotations

import os
from typing import Any

from distributed import Client, SubprocessCluster

from qshift.errors import WorkerError


def connected(given: str) -> tuple[Client, list[Any]]:
    """Returns a client, and what has to be closed when it is no longer used.

    Args:
        given: ``"dask"`` for a cluster of processes of this machine, one for each core, that only
            this machine can reach; otherwise the address of a scheduler.

    Raises:
        WorkerError: If the scheduler cannot be reached.
    """
    if given == "dask":
        # Processes that are started as commands do without a guard of the main module.
        cluster = SubprocessCluster(
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            n_workers=os.cpu_count(),
            threads_per_worker=1,
        )
        client = Client(cluster, set_as_default=False)
        return client, [client, cluster]
    try:
        client = Client(given, set_as_default=False)
    except OSError as error:
        raise WorkerError(
            f"workers={given!r}: no scheduler answers there ({error}). Start one with `dask "
            "scheduler`, or give the address that it prints."
        ) from error
    return client, [client]


def client_of(executor: Any) -> Client:
    """Returns the client of what `Client.get_executor` has returned."""
    return executor._client
