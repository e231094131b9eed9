"""Forked processes: locks that another thread held, and random numbers that all would share.

The child of a fork has the memory of its parent as it was, and only the one thread that forked. A
lock that another thread held is never released there, a module that it was importing is locked for
ever, and a generator draws in every child what it draws in the others.
"""

from __future__ import annotations

import _thread
import hashlib
import importlib
import itertools
import os
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
    """A reentrant lock, for `with` statements, which no thread of a parent process holds."""

    __slots__ = ()

    def __init__(self) -> None:
        _heirs.add(self)

    def __reduce__(self) -> Any:
        """A copy of what it protects has a lock of its own."""
        return Lock, ()

    def inherit(self) -> None:
        # By this thread, which then has forked within. typeshed does not have these two.
        if not self._is_owned():  # type: ignore[attr-defined]
            self._at_fork_reinit()  # type: ignore[attr-defined]


# Who has to be told in the child of a fork. Python calls one function there, which must find them.
_heirs: weakref.WeakSet = weakref.WeakSet()


def in_children(owner: Any) -> None:
    """Has owner.inherit() called in every process that is forked from now on, while it lives.

    In no order: what is called must not wait for a `Lock`.
    """
    _heirs.add(owner)


def lineage() -> tuple[int, ...]:
    """Returns what no other process that came of the same one by forks has; () for that one."""
    return _lineage


def descendant(rng: np.random.Generator) -> np.random.Generator:
    """Returns this process's own generator, in place of one that it has from its parent.

    Another one each time. It follows from the state of the parent's, which is only looked at: to
    draw, its lock would have to be free.
    """
    state = repr(rng.bit_generator.state).encode()
    entropy = hashlib.blake2b(state, digest_size=16).digest()
    return np.random.default_rng([*entropy, *_lineage, next(_descendants)])


def _before() -> None:
    _forking.number = next(_numbers)  # which no other thread that forks meanwhile has
    end = time.monotonic() + _PATIENCE
    while _is_importing() and time.monotonic() < end:
        time.sleep(0.001)


def _is_importing() -> bool:
    """Whether another thread is importing a module, which would never be finished in a child."""
    locks = getattr(importlib._bootstrap, "_module_locks", {})
    owners = {getattr(known(), "owner", None) for known in list(locks.values())}
    return bool(owners - {None, threading.get_ident()})


def _in_child() -> None:
    global _lineage
    _lineage = (*_lineage, _forking.number)
    for heir in list(_heirs):
        heir.inherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
