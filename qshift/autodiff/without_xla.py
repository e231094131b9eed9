"""Compiled functions with circuits are run without XLA, which cannot call Python code."""

from __future__ import annotations

import warnings

from qshift.errors import QShiftWarning
from qshift.tensorflow_internals import spare_python_ops_xla


def _tell(name: str) -> None:
    warnings.warn(
        f"{name} runs quantum circuits, which XLA cannot compile, so its jit_compile=True is left "
        "out. To have XLA compile the rest, put it into a tf.function of its own.",
        QShiftWarning,
        stacklevel=2,
    )


spare_python_ops_xla(_tell)
