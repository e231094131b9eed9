"""Dask: clusters, clients and their executors as workers."""

import time
from concurrent.futures import BrokenExecutor

import numpy as np
import pennylane as qml
import pytest
from references import random_points, several

from qshift.errors import WorkerError
from qshift.executors import registry
from qshift.executors.executor import Call
from qshift.executors.workers import dispatch
from qshift.executors.workers.pools import Workers

distributed = pytest.importorskip("distributed")


@pytest.fixture(autouse=True)
def everything_goes_out(monkeypatch):
    monkeypatch.setattr(dispatch, "_WORTHWHILE", 0.0)
    monkeypatch.setattr(dispatch, "_WORTH_STARTING", 0.0)


def threads(count, **settings):
    """Returns a cluster in threads of this process."""
    return distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=False,
        # Otherwise Dask asks for this machine's address by way of another one.
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        **settings,
    )


@pytest.fixture(scope="module")
def client():
    with threads(2) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


def runs(workers):
    device = qml.device("lightning.qubit", wires=3)
    device.qshift_workers = workers
    executor, found = registry.executor(device, 5), []
    for shots in (None, 100):
        circuit = several(shots)
        found.append(executor(circuit, random_points(circuit, 100), Call(1)))
    return found


def test_clients_and_their_executors_serve(client):
    alone = runs(None)
    for given in (client, client.get_executor()):
        workers = Workers(given)
        for one, other in zip(runs(workers), alone, strict=True):
            np.testing.assert_array_equal(one, other)
        (lane,) = workers.start()
        assert lane.hands([]) == 2 and lane.client is client
        workers.close()
        assert client.submit(int, "3").result() == 3  # it is open still


def test_tasks_have_names(client):
    workers = Workers(client)
    names = []
    (lane,) = workers.start()
    submit = client.submit

    def noted(*arguments, key, **keywords):
        names.append(key)
        return submit(*arguments, key=key, **keywords)

    client.submit = noted
    try:
        runs(workers)
    finally:
        del client.submit
    assert names and all(name.startswith("qshift-values-lightning.qubit-") for name in names)
    assert len(set(names)) == len(names)


def test_an_address_without_a_scheduler_is_an_error():
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with pytest.raises(WorkerError, match="no scheduler answers there.*dask scheduler"):
            Workers("tcp://127.0.0.1:1").start()


def test_a_scheduler_that_was_lost_is_looked_for_again():
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with threads(1) as cluster:
            address = cluster.scheduler_address
            workers = Workers(address)
            (lane,) = workers.start()
        end = time.monotonic() + 60
        while not lane.is_over and time.monotonic() < end:
            time.sleep(0.05)
        # What is still with the lost one hears of it, without a wait.
        with pytest.raises(BrokenExecutor, match="is closed"):
            lane.submit(eval, "0", name="late")
        assert lane.hands([]) >= 1
        with pytest.raises(WorkerError, match="no scheduler answers there"):
            workers.start()
        with threads(1, scheduler_port=int(address.rpartition(":")[2])):
            try:
                for one, other in zip(runs(workers), runs(None), strict=True):
                    np.testing.assert_array_equal(one, other)
                assert workers.start() != (lane,)
            finally:
                workers.close()


def test_a_client_that_was_closed_is_an_error(client):
    with distributed.Client(client.scheduler.address, set_as_default=False) as other:
        pass
    with pytest.raises(WorkerError, match="Client.* is closed. Give a client that is not"):
        Workers(other).start()


@pytest.mark.one_in(4)
def test_a_cluster_of_this_machine():
    workers = Workers("dask")
    try:
        for one, other in zip(runs(workers), runs(None), strict=True):
            np.testing.assert_array_equal(one, other)
        (lane,) = workers.start()
        assert lane.client.scheduler.address.startswith("tcp://127.0.0.1:")
    finally:
        workers.close()
