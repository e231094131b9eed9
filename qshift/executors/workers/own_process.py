"""How a process of qshift's own begins to work, and when it ends.

Loading this module is light, so that it can load the others without what their libraries print.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
import warnings

from qshift.errors import QShiftWarning
from qshift.quiet import quiet

_LOOK = 1.0  # seconds after which a process looks again whether it still works for somebody


def begin(parent: int) -> None:
    """Prepares a process of qshift's own.

    Args:
        parent: The process that it works for. Ctrl-C is for that one, and if it was killed, this
            process ends too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with quiet():  # TensorFlow has told the other process the same
        importlib.import_module("qshift.executors.workers.on_worker")
    warnings.simplefilter("ignore", QShiftWarning)  # which the other process gives as well


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
