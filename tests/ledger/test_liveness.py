"""Which process is which, in containers too, and time that no setting of a clock moves."""

import multiprocessing
import os
import subprocess
import sys
import time

import psutil
import pytest

from qshift.ledger import liveness
from qshift.ledger.liveness import elapsed, is_alive, moment, this_process

LINUX = sys.platform == "linux"


# JAX, which other tests import, warns of it.
FORKS = pytest.mark.filterwarnings("ignore:os.fork")


def isolated(code, *options):
    """Runs a program in a namespace of process ids of its own, as a container is; its output."""
    command = ["unshare", "--pid", "--fork", *options, sys.executable, "-c", code]
    if not LINUX or os.geteuid() or subprocess.run([*command[:-1], "pass"]).returncode:
        pytest.skip("namespaces take Linux, its unshare, and root")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")


def test_a_process_knows_itself_and_its_children():
    assert is_alive(this_process()) is True
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        name = pool.apply(this_process)
        assert name.split()[0] == this_process().split()[0] and name != this_process()
        assert is_alive(name) is True
    pool.join()
    assert is_alive(name) is False


@FORKS
def test_a_fork_is_another_process():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(this_process) != this_process()


def test_ids_come_back():
    place, pid, started = this_process().split(" ")
    assert is_alive(f"{place} {pid} {int(float(started)) + 1}") is False
    assert is_alive(f"{place} 99999999 1") is False
    assert is_alive(f"{place} {10**30} 1") is False


@pytest.mark.parametrize(
    "name",
    ["", "host 12 1.5", "a b c d", "nothing", "place pid start", "elsewhere {pid} 1"],
)
def test_of_what_cannot_be_looked_up_nothing_is_known(name):
    assert is_alive(name.format(pid=os.getpid())) is None


@FORKS
def test_a_zombie_is_not_alive():
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    child.start()
    process = psutil.Process(child.pid)
    place, shown = liveness._place(os.getpid())
    name = f"{place} {child.pid} {liveness._start(child.pid, shown)}"
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert is_alive(name) is False
    child.join()


@pytest.mark.parametrize("options", [(), ("--mount-proc",)])
def test_in_another_container_the_same_id_is_another_process(options):
    """Also where /proc shows the host's processes: the ids in there are not the container's."""
    here = this_process()
    place, pid, started = here.split(" ")
    code = (
        "from qshift.ledger.liveness import *\n"
        "print(this_process())\n"
        f"print(is_alive({here!r}), is_alive(this_process().replace(' 1 ', ' 77 ')))"
    )
    there, known, *_ = isolated(code, *options)
    assert there.split()[:2] != [place, pid] and there.split()[0] != place
    assert known == "None False"  # of the host nothing is known, of its own namespace it is
    assert is_alive(there) is None


def test_setting_a_clock_changes_nothing(monkeypatch):
    name, before = this_process(), moment()
    now = time.time
    for step in (-3600, 3600, 86400 * 365):
        monkeypatch.setattr(time, "time", lambda step=step: now() + step)
        monkeypatch.setattr(psutil, "boot_time", lambda step=step: now() + step)
        liveness._name.cache_clear()
        assert this_process() == name and is_alive(name) is True
        assert 0 <= elapsed(before) < 60


def test_time_of_another_boot_is_not_compared():
    kernel, uptime = moment().rsplit(" ", 1)
    assert elapsed(f"{kernel} {float(uptime) - 5}") == pytest.approx(5, abs=1)
    for other in (None, "", "x", f"another {uptime}", f"{kernel} soon", f"{kernel} {1e12}"):
        assert elapsed(other) is None


def test_where_there_is_no_proc(monkeypatch):
    """As on macOS and Windows."""
    for cached in (liveness._kernel, liveness._place, liveness._name):
        cached.cache_clear()
    monkeypatch.setattr(liveness.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError))
    try:
        name = this_process()
        assert is_alive(name) is True and " " not in name.split(" ")[0]
        assert is_alive(f"{name.rsplit(' ', 1)[0]} 1.5") is False
        assert is_alive(f"{name.split()[0]} 99999999 1.5") is False
        assert is_alive(f"elsewhere {name.split(' ', 1)[1]}") is None
        assert elapsed(moment()) is None
    finally:
        for cached in (liveness._kernel, liveness._place, liveness._name):
            cached.cache_clear()
