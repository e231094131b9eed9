"""What all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # results to the last digit, and no notice
# Before each request IBM's client reads the source of all modules on the stack, for its statistics
# of use: nine tenths of the time that tests of the service took.
os.environ.setdefault("USAGE_DATA_OPT_OUT", "True")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes share the cores. Threads of BLAS and OpenMP, which wait for each other in
    # loops, would take them from the others: some tests took five times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import collections
import gc
import itertools
import json
import pathlib
import sys
import zlib

import numpy as np
import pennylane as qml
import pytest
import threadpoolctl
from service import Loopback, sockets
from serving import Server

import qshift

if "PYTEST_XDIST_WORKER" in os.environ:
    threadpoolctl.threadpool_limits(1)  # pytest imports NumPy before, for its filters of warnings


def pytest_addoption(parser):
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run all tests; otherwise, of those marked one_in(n), one in n",
    )


# Files that take longest, which begin first, so that no process is left alone with one. Those that
# mostly wait are among those that compute.
LONGEST = (
    "test_notebooks.py",
    "test_kills.py",
    "test_node.py",
    "test_unconfirmed_jobs.py",
    "test_examples.py",
    "test_service.py",
    "test_shared_batches.py",
    "test_dispatch.py",
    "test_saving.py",
    "test_random_circuits.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives a process whole files, so that what the tests of a file share is made once and not once
    in each process: its fixtures, the programs they start, and all that is remembered."""
    if config.getoption("dist") != "load":  # which is what `-n` alone asks for
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the longest first, not those with the most tests
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """Puts the longest tests first, and leaves out most of those that are one in n."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))
    if config.getoption("--thorough"):
        return
    chosen, groups = set(), collections.defaultdict(list)
    for item in items:
        if marker := item.get_closest_marker("one_in"):
            groups[item.nodeid.split("[")[0], marker.args[0]].append(item)
        else:
            chosen.add(item)
    for (_, n), group in groups.items():
        chosen.update(_one_in(n, group))
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def _one_in(n, group):
    """Returns one in n of some tests, by their names; of three, one in two are one.

    Of a parameter that has no more values than there are tests chosen, each value is among them.
    """
    lots = {item: zlib.crc32(item.nodeid.encode()) for item in group}
    group = sorted(group, key=lambda item: (lots[item] % n, lots[item]))
    count = max(1, len(group) // n)
    kinds = {item: _values(item) for item in group}
    values = collections.Counter(name for name, _ in set().union(*kinds.values()))
    missing = {each for each in set().union(*kinds.values()) if values[each[0]] <= count}
    chosen = []
    while missing:  # those first that have most of what is missing
        chosen.append(max(group, key=lambda item: len(kinds[item] & missing)))
        missing -= kinds[chosen[-1]]
    return [*chosen, *(item for item in group if item not in chosen)][: max(count, len(chosen))]


def _values(item):
    """Returns the parameters of a test, each with one of its values."""
    if not hasattr(item, "callspec"):
        return set()
    return {(name, id(value)) for name, value in item.callspec.params.items()}


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collects no garbage while modules are imported: they stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish():
    """Spares the garbage collector what was imported: millions of objects that every full
    collection would look at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def thorough(request) -> bool:
    """Whether tests that loop do all they can."""
    return request.config.getoption("--thorough")


sockets.stay_here()


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    """Keeps what tests store, and the accounts they find, apart from the user's."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in [name for name in os.environ if name.startswith("QISKIT_IBM_")]:
        monkeypatch.delenv(name)
    if accounts := sys.modules.get("qiskit_ibm_runtime.accounts.management"):
        file = str(tmp_path / "qiskit-ibm.json")
        monkeypatch.setattr(accounts, "_DEFAULT_ACCOUNT_CONFIG_JSON_FILE", file)


@pytest.fixture(autouse=True)
def _own_chance(request, monkeypatch):
    """Draws the samples that have no seed from one that follows from the test's name.

    What holds for nearly all samples holds in all runs then, or in none. Forks have others.
    """
    name, count, process = zlib.crc32(request.node.nodeid.encode()), itertools.count(), os.getpid()
    generator = np.random.default_rng

    def seeded(seed=None):
        if seed is None:
            seed = [name, next(count), *([] if os.getpid() == process else [os.getpid()])]
        return generator(seed)

    monkeypatch.setattr(np.random, "default_rng", seeded)
    np.random.seed(name)  # of PennyLane's devices


@pytest.fixture(scope="session")
def _loopback():
    with Loopback() as server:
        yield server


@pytest.fixture
def loopback(_loopback, monkeypatch):
    """IBM's runtime service on this machine; a `QiskitRuntimeService()` connects to it."""
    _loopback.reset()
    for name, value in _loopback.environment().items():
        monkeypatch.setenv(name, value)
    # For each client that it makes, IBM's library reads this file again, of a hundred authorities:
    # half of the time that tests of the service computed. None of them has signed what is here.
    monkeypatch.setattr("requests.certs.where", lambda: _loopback.certificate)
    yield _loopback
    _loopback.faults()


@pytest.fixture(scope="module")
def served():
    """What serves SavedModels without Python code of ours."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def ground_truth():
    """Exact values from papers."""
    return json.loads((pathlib.Path(__file__).parent / "ground_truth.json").read_text())


@pytest.fixture
def tracker():
    """Counts everything the test executes."""
    with qshift.Tracker() as tracker:
        yield tracker


@pytest.fixture
def cosine_product(ground_truth):
    """The five-qubit circuit of Mari, Bromley, Killoran (2021) and its parameters."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(theta):
        for wire in range(5):
            qml.RX(theta[wire], wires=wire)
        for control, target in [(0, 1), (2, 1), (3, 1), (4, 3)]:
            qml.CNOT(wires=[control, target])
        return qml.expval(qml.Z(1))

    return circuit, ground_truth["cosine_product"]
