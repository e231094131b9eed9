"""Whether a process that has written its name somewhere is still there."""

from __future__ import annotations

import functools
import os
import socket

import psutil

_ABSENT = 900.0  # seconds after which processes of another computer count as gone


def this_process() -> str:
    """Returns what identifies this process: when it started, too, as process ids come back."""
    return _name(os.getpid())


@functools.cache
def _name(pid):
    return f"{socket.gethostname()} {pid} {psutil.Process(pid).create_time()}"


def is_alive(name: str, silence: float) -> bool:
    """Whether a process still runs, as far as can be known.

    Args:
        name: As `this_process` returned it there.
        silence: Seconds since it was last heard of, which is all that tells of another computer's.
    """
    host, pid, started = name.rsplit(" ", 2)
    if host != socket.gethostname():
        return silence < _ABSENT
    try:
        process = psutil.Process(int(pid))
        running = process.status() != psutil.STATUS_ZOMBIE
        return running and abs(process.create_time() - float(started)) < 1.0
    except psutil.Error:
        return False
