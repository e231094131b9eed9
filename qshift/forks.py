"""Forked processes: locks that another thread held, and random numbers that all would share.

The child of a fork has a copy of its parent's memory, and only the one thread that forked. In the
child, a lock that another thread held is never released, a module that another thread was importing
stays locked for ever, and a random generator draws the same numbers as in every other child.
"""

from __future__ import annotations

import _thread
import gc
import hashlib
import importlib
import itertools
import os
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np

_PATIENCE = 10.0  # seconds that a fork waits for what other threads import
_lineage: tuple[int, ...] = ()
_numbers = itertools.count(1)
_descendants = itertools.count()
_forking = threading.local()


class Lock(_thread.RLock):  # type: ignore[misc]  # typeshed has it final
    """A reentrant lock for `with` statements. After a fork it is free in the child, unless the
    thread that forked holds it."""

    __slots__ = ()

    def __init__(self) -> None:
        _heirs.add(self)

    def __reduce__(self) -> Any:
        """A copy of the object that holds this lock gets a new lock."""
        return Lock, ()

    def inherit(self) -> None:
        free(self)


def free(lock: Any) -> None:
    """Frees a reentrant lock in the child of a fork.

    A lock that the forking thread holds stays locked: the fork happened inside its `with` block.
    """
    if not lock._is_owned():
        lock._at_fork_reinit()


# The objects whose `inherit` has to run in the child of a fork. They are kept in a module, because
# `os.register_at_fork` holds the functions that it is given for ever, and would keep every lock.
_heirs: weakref.WeakSet = weakref.WeakSet()


def in_children(owner: Any) -> None:
    """Has owner.inherit() called in every child process that is forked while the owner lives.

    The owners are called in no particular order, so `inherit` must not wait for a `Lock`.
    """
    _heirs.add(owner)


def lineage() -> tuple[int, ...]:
    """Returns numbers that identify this process among all that were forked, directly or not, from
    one first process; that first process has ()."""
    return _lineage


def descendant(rng: np.random.Generator) -> np.random.Generator:
    """Returns a new generator for this process, to replace one that it inherited from its parent.

    Each call returns a different generator. Its seed is made from the inherited generator's state,
    which is read and not advanced, because drawing would need a lock that may never be released.
    """
    state = repr(rng.bit_generator.state).encode()
    entropy = hashlib.blake2b(state, digest_size=16).digest()
    return np.random.default_rng([*entropy, *_lineage, next(_descendants)])


def _before() -> None:
    _forking.number = next(_numbers)  # no other thread that forks at the same time has this number
    end = time.monotonic() + _PATIENCE
    while _is_importing() and time.monotonic() < end:
        time.sleep(0.001)


def _is_importing() -> bool:
    """Whether another thread is importing a module: in a child this import would never end."""
    locks = getattr(importlib._bootstrap, "_module_locks", {})
    owners = {getattr(known(), "owner", None) for known in list(locks.values())}
    return bool(owners - {None, threading.get_ident()})


def _in_child() -> None:
    global _lineage
    _lineage = (*_lineage, _forking.number)
    was_enabled = gc.isenabled()
    gc.disable()  # what is taken apart may need locks that are not free yet
    for heir in list(_heirs):
        try:
            heir.inherit()
        except Exception:  # one that fails must not keep the locks of all others
            sys.excepthook(*sys.exc_info())
    if was_enabled:
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
