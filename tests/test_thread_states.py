"""Python's states of TensorFlow's threads, in a process whose threads have run nothing before."""

import fresh

PROGRAM = """
import itertools, threading
import numpy as np, tensorflow as tf
import pennylane as qml, qshift
from qshift import thread_states

local = threading.local()

@qshift.qnode(qshift.device("simulator", wires=1))
def circuit(x):
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))

def noted(x):
    if threading.get_ident() in seen:
        found.append(hasattr(local, "mark"))
    seen.add(threading.get_ident())
    local.mark = True
    return x

@tf.function
def run(x):
    value = tf.ensure_shape(tf.numpy_function(noted, [circuit(x)], tf.float64), [])
    return circuit(value)

for before in (64, 0):  # states that are kept already
    thread_states._numbers, seen, found = itertools.count(before), set(), []
    values = [run(tf.constant(0.01 * k, tf.float64)).numpy() for k in range(200)]
    assert threading.get_ident() not in seen
    np.testing.assert_allclose(values, np.cos(np.cos(0.01 * np.arange(200))), atol=1e-12)
    print(len(found) > 100, any(found), all(found[100:]))
"""


def test_states_are_kept():
    """Thread-local data is there again at the next callback; not beyond so many threads."""
    done = fresh.run(PROGRAM)
    assert done.stdout.splitlines() == ["True False False", "True True True"], done.stderr
    assert done.returncode == 0, done.stderr
