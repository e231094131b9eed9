"""The keywords of a qnode: what is accepted, and what is refused with a reason."""

import numpy as np
import pennylane as qml
import pytest
from random_circuits import tape_derivatives

import qshift

DEVICE = qml.device("default.qubit")


def quantum_function(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    "keywords",
    [
        {"interface": "auto"},
        {"interface": "tf"},
        {"interface": "tensorflow"},
        {"interface": qml.math.Interface.TF},
        {"interface": qml.math.Interface.AUTO},
        {"diff_method": "best"},
        {"diff_method": "shift"},
        {"diff_method": "parameter-shift"},
        {"diff_method": "adjoint"},
        {"diff_method": qml.gradients.param_shift},
        {"diff_method": qshift.param_shift},
        {"diff_method": "backprop"},
        {"diff_method": "hadamard"},
        {"diff_method": qml.gradients.hadamard_grad},
        {"max_diff": 1},
        {"max_diff": 3},
        {"cache": True},
        {"cache": False},
        {"cache": "auto"},
        {"cachesize": 100},
        {"grad_on_execution": False},
        {"grad_on_execution": "best"},
        {"device_vjp": False},
        {"device_vjp": None},
        {"device_vjp": True},
        {"mcm_method": "deferred"},
        {"mcm_method": None},
        {"postselect_mode": None},
        {"gradient_kwargs": {}},
        {"gradient_kwargs": None},
        {"shots": None},
        {"objective": "shots"},
        {"objective": "circuits"},
        {"prefetch": 2},
        {"embedded": True},
        {"embedded": False},
    ],
    ids=str,
)
def test_accepted_keywords(keywords):
    node = qshift.qnode(DEVICE, **keywords)(quantum_function)
    value, gradient = tape_derivatives(node, np.array(0.4), 1)
    assert value == pytest.approx(np.cos(0.4))
    assert gradient == pytest.approx(-np.sin(0.4))


@pytest.mark.parametrize(
    "keywords, reason",
    [
        ({"interface": "jax"}, "interface='jax'.*TensorFlow.*qml.qnode"),
        ({"interface": "torch"}, "interface='torch'.*TensorFlow"),
        ({"interface": None}, "interface=None.*TensorFlow"),
        ({"interface": qml.math.Interface.AUTOGRAD}, "interface='autograd'.*TensorFlow"),
        ({"diff_method": "finite-diff"}, "not exact.*'best'.*'shift'.*'adjoint'"),
        ({"diff_method": "spsa"}, "random estimate.*exactly"),
        ({"diff_method": qml.gradients.spsa_grad}, "random estimate"),
        ({"diff_method": "device"}, "what 'adjoint' asks for"),
        ({"diff_method": "reversible"}, "replaced it by 'adjoint'"),
        ({"diff_method": "magic"}, "diff_method='magic': qshift differentiates exactly"),
        ({"diff_method": None}, "diff_method=None"),
        ({"diff_method": qml.gradients.finite_diff}, "diff_method=.*finite_diff.*not exact"),
        ({"cache": {}}, "cache=dict.*owns the table"),
        ({"device_vjp": "yes"}, "device_vjp='yes'.*None or False or True"),
        ({"postselect_mode": "hw-like"}, "postselect_mode='hw-like'.*no shift rule"),
        ({"mcm_method": "one-shot"}, "mcm_method='one-shot'.*deferred"),
        ({"mcm_method": "tree-traversal"}, "deferred"),
        ({"executor_backend": "mp_pool"}, "one batch"),
        ({"gradient_kwargs": {"shifts": [(0.1,)]}}, "gradient_kwargs.*qshift.shift_rule"),
        ({"objective": "time"}, "objective.*'circuits', 'shots'.*'time'"),
        ({"prefetch": -1}, "prefetch.*-1"),
        ({"prefetch": 1.5}, "prefetch.*1.5"),
        ({"shots": 0}, "[Ss]hots"),
        ({"embedded": "no"}, "embedded must be True,.* or False,.* got 'no'"),
        ({"embedded": None}, "embedded must be True,.* or False,.* got None"),
    ],
    ids=str,
)
def test_refused_keywords_say_why(keywords, reason):
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        qshift.qnode(DEVICE, **keywords)(quantum_function)


def test_the_interface_is_checked_later_too():
    node = qshift.qnode(DEVICE)(quantum_function)
    node.interface = qml.math.Interface.TF
    assert node.interface == "tf"
    with pytest.raises(qshift.UnsupportedError, match="interface='autograd'.*TensorFlow"):
        node.interface = "autograd"
    assert node.interface == "tf"


@pytest.mark.parametrize("seed", ["a", -1, 1.5, True, [3, -1]])
def test_seeds_are_non_negative_integers(seed):
    with pytest.raises(ValueError, match="seed must be None, a non-negative integer"):
        qshift.qnode(qml.device("default.qubit"), shots=10, seed=seed)(lambda: None)
