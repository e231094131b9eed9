"""TensorFlow's threads, which a forked process lacks."""

from __future__ import annotations

import os

from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import is_initialized, tell_before_calls

LARGEST_FORKED = 1000  # numbers; TensorFlow hands larger tensors to threads
_forked = False


def _after_fork() -> None:
    global _forked
    if is_initialized() and not _forked:
        _forked = True
        tell_before_calls(lambda: require_threads(LARGEST_FORKED + 1))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def require_threads(size: int) -> None:
    """Raises UnsupportedError where TensorFlow would wait for ever: in a process that was forked
    after TensorFlow was first used, and so has none of TensorFlow's threads.

    Args:
        size: How many numbers TensorFlow's op works on.
    """
    if _forked and size > LARGEST_FORKED:
        raise UnsupportedError(
            "This process was forked after TensorFlow had been used, so it lacks TensorFlow's "
            "threads: compiled functions and large tensors would wait for them for ever. Start "
            'processes with multiprocessing.get_context("spawn"), or use TensorFlow in the '
            "children only; small eager calls work."
        )
