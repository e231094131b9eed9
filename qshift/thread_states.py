"""Python's states of TensorFlow's threads, kept from one callback to the next.

A thread that Python did not start has a state of Python's only while it runs Python code. To make
that anew for every op of a graph takes a tenth of the time of a small circuit's gradient.
"""

from __future__ import annotations

import ctypes
import itertools
import threading

_MOST = 64  # threads; where such a thread ends, its state stays: some ten kilobytes


class _Thread(threading.local):
    is_kept = False


_this_thread, _numbers = _Thread(), itertools.count()


def keep_thread_state() -> None:
    """Keeps the state of this thread, with its thread-local data, when the callback returns."""
    if not _this_thread.is_kept:
        _this_thread.is_kept = True
        if next(_numbers) < _MOST:
            # The state is counted, and goes when nobody needs it; here it is counted once more.
            ctypes.pythonapi.PyGILState_Ensure()
