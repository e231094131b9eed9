"""What the ops of one execution run together."""

from types import SimpleNamespace

import pytest

from qshift.autodiff.one_batch import siblings


@pytest.mark.parametrize("nodes", [("values",), ("values", "first", "more")])
def test_an_op_of_which_nothing_is_known_runs_all_its_nodes_in_one_batch(nodes):
    """A copy that TensorFlow made, or one whose graph is gone."""
    call = SimpleNamespace(nodes=nodes, name="op", key=("ticket",), inputs=("ticket", "x"))
    together, run, are_all, are_known = siblings(None, call, lambda op: None)
    assert not are_all
    assert not are_known
    assert run == [True] * len(nodes)
    assert together == ([(node, True) for node in nodes] if len(nodes) > 1 else [])
