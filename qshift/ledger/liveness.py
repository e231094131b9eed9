"""Names of processes, whether the process of a name still runs, and a clock that nobody can set.

Processes in several containers may share a ledger. A process can be looked up by its id only in the
same boot of the same kernel, and in the same namespace of process ids. Elsewhere the id may belong
to another process, or to none, while the process still runs.
"""

from __future__ import annotations

import functools
import os
import socket
import time
import uuid
from pathlib import Path

from qshift.extras import require

_STARTED = 19  # the field of /proc/PID/stat, after the name, with the start in ticks since the boot
_NO_KERNEL = "-"


def this_process() -> str:
    """Returns a name for this process: the place in which its id is valid, the id, and its start.

    The start is part of the name because ids are used again. On Linux it is counted from the boot,
    because clocks can be set.
    """
    return _name(os.getpid())


@functools.cache
def _name(pid: int) -> str:
    place, shown = _place(pid)
    try:
        started = _start(pid if shown is None else "self", shown)
    except (OSError, ValueError):
        started = None
    if started is None:  # without it, a later process of the same id would have the same name
        return f"{uuid.uuid4().hex} {pid} 0"
    return f"{place} {pid} {started}"


def is_alive(name: str) -> bool | None:
    """Whether a process still runs.

    Args:
        name: The name that `this_process` returned in that process.

    Returns:
        None if that cannot be known here, as in another container, or after another boot.
    """
    try:
        place, number, started = name.split(" ")
        pid = int(number)
    except ValueError:  # the name is of an earlier version, or damaged
        return None
    if place != this_process().partition(" ")[0]:
        return None
    shown = _place(os.getpid())[1]
    try:
        if os.name != "nt":  # on Windows, signal 0 would end the process
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process is another user's
        pass
    if shown is False:  # /proc shows the ids of another namespace
        return None
    try:
        return _start(pid, shown) == started
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (OSError, ValueError):
        return None


@functools.cache
def _place(pid: int) -> tuple[str, bool | None]:
    """Returns the place in which this process's id is valid, and whether /proc shows such ids.

    Args:
        pid: The id of this process, as a fork may be in another namespace.

    Returns:
        (a name, None in place of True and False without Linux's /proc).
    """
    try:
        if _kernel() == _NO_KERNEL:
            raise OSError
        names = os.readlink("/proc/self/ns/pid")
        return f"{_kernel()},{names}", int(os.readlink("/proc/self")) == pid
    except (OSError, ValueError):
        return f"{socket.gethostname()},{uuid.getnode():x}".replace(" ", "_"), None


@functools.cache
def _kernel() -> str:
    """Returns a text that identifies this boot of this kernel, and the offset of its times; Linux
    only."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        uuid.UUID(boot)
    except (OSError, ValueError):
        return _NO_KERNEL
    try:
        return f"{boot},{os.readlink('/proc/self/ns/time')}"
    except OSError:  # a kernel without namespaces of times
        return boot


def _start(pid: int | str, shown: bool | None) -> str | None:
    """Returns when a process started; None if it has ended, but its parent has not noticed.

    On Linux these are ticks since the boot: seconds since 1970 would move when a clock is set.

    Args:
        pid: The process, or ``"self"``.
        shown: Whether /proc shows the process, as `_place` returns it.

    Raises:
        ProcessLookupError: There is no such process; without /proc only.
        OSError: The start cannot be found out.
    """
    if shown is None:
        return _start_elsewhere(os.getpid() if isinstance(pid, str) else pid)
    # The name, in parentheses, may have spaces and parentheses in it.
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else rest[_STARTED - 1]


def _start_elsewhere(pid: int) -> str | None:
    """Returns the same as `_start`, without Linux's /proc."""
    require("qiskit", "The ledger of jobs")
    import psutil  # Late: on Linux the ledger does without.

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(str(error)) from error
    except psutil.Error as error:
        raise OSError(str(error)) from error


def moment() -> str:
    """Returns the time on a clock that cannot be set, for `elapsed` in this or another process."""
    return f"{_kernel()} {_uptime()!r}"


def elapsed(since: str | None) -> float | None:
    """Returns the seconds since a moment; None if that cannot be known, as after another boot.

    Args:
        since: The moment, as `moment` returned it; None if it was not recorded.
    """
    try:
        kernel, _, then = (since or "").rpartition(" ")
        passed = _uptime() - float(then)
    except ValueError:
        return None
    return passed if kernel == _kernel() != _NO_KERNEL and passed >= 0 else None


def _uptime() -> float:
    if hasattr(time, "CLOCK_BOOTTIME"):  # this clock goes on while the computer sleeps
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
