"""PennyLane's QNodes are converted once, and keep their conversion to themselves."""

import copy
import gc
import pickle
import subprocess
import sys
import weakref

import cloudpickle
import pennylane as qml
import pytest

import qshift
from qshift.api.conversion import as_own


def node_of():
    @qml.qnode(qml.device("default.qubit"))
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    return circuit


def test_a_qnode_is_converted_once():
    node = node_of()
    own = as_own(node)
    assert isinstance(own, qshift.QNode) and as_own(node) is own and as_own(own) is own


def test_a_qnode_that_has_changed_is_converted_again():
    node = node_of()
    exact = as_own(node)
    node.func = lambda x: qml.expval(qml.Z(0))
    assert as_own(node) is not exact and float(as_own(node)(0.3)) == 1.0
    with_shots = qml.set_shots(node, 10)
    assert as_own(with_shots).shots.total_shots == 10


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_converted_itself(copied):
    node = node_of()
    own = as_own(node)
    other = copied(node)
    assert as_own(other) is not own and as_own(other) is as_own(other)
    assert as_own(node) is own


def test_a_pickle_can_be_read_without_qshift(tmp_path):
    node = node_of()
    as_own(node)
    pickled = tmp_path / "node"
    pickled.write_bytes(cloudpickle.dumps(node))
    assert as_own(pickle.loads(pickled.read_bytes())) is not as_own(node)
    read = (
        "import pickle, sys; node = pickle.load(open(sys.argv[1], 'rb')); print(float(node(0.0)))"
    )
    code = f"import sys; sys.modules['qshift'] = None; {read}"
    done = subprocess.run([sys.executable, "-c", code, pickled], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "1.0", done.stderr


def test_a_conversion_dies_with_its_qnode():
    node = node_of()
    own = weakref.ref(as_own(node))
    del node
    gc.collect()
    assert own() is None
