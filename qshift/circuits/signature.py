"""What identifies most tapes, found in one step.

`fingerprint` looks at anything that users may put into a gate, and takes its time. Most tapes are
made of PennyLane's own gates alone, whose parameters are numbers and tensors: all that such a tape
is, but for the numbers in its tensors, are the classes, wires, settings and numbers found here.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

import numpy as np
import tensorflow as tf
from pennylane.measurements import MeasurementProcess
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from qshift.circuits.identity import is_custom

_NAMES = {Wires, str, int, bool, type(None)}  # what settings may be


def signature(tape: QuantumScript) -> Hashable | None:
    """Returns something that two tapes share only if they differ in the numbers of tensors alone.

    Returns:
        None for tapes that may hold anything else: gates and observables of users' own, arrays,
        functions, tensors in observables or of unknown rank.
    """
    found: list[Hashable] = [tape.shots]
    for nodes, measured in ((tape.operations, False), (tape.measurements, True)):
        found.append(len(nodes))
        # A node comes before what it is made of, so that the sequence tells the whole tree.
        ahead = list(nodes)
        while ahead:
            node = ahead.pop()
            kind = type(node)
            if _is_pennylanes(kind):
                parts, settings = node._flatten()
                names = settings
                while tuple in map(type, names):
                    names = [x for y in names for x in (y if type(y) is tuple else (y,))]
                kinds = tuple(map(type, names))
                if not _NAMES.issuperset(kinds):
                    return None
                found += [kind, settings, kinds, len(parts)]  # kinds, as 1 is equal to True
                ahead += parts
            elif _is_tensor(kind):
                if measured or node.shape.rank is None:
                    return None
                found += [tf.Tensor, node.dtype, tuple(node.shape)]
            elif kind is tuple or kind is list:
                found += [kind, len(node)]
                ahead += node
            elif kind is float:
                found.append(node.hex())  # as 0.0 is equal to -0.0, and nan to nothing
            elif node is None or kind is int or kind is str:
                found += [kind, node]
            elif issubclass(kind, np.number):
                found += [kind, node.tobytes()]
            else:
                return None
    return tuple(found)


@lru_cache(maxsize=1024)
def _is_pennylanes(kind: type) -> bool:
    return issubclass(kind, Operator | MeasurementProcess) and not is_custom(kind)


@lru_cache(maxsize=1024)
def _is_tensor(kind: type) -> bool:
    return issubclass(kind, tf.Tensor)
