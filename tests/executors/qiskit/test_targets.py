"""Backends, and the transpiled circuits that they keep."""

from qshift.executors.qiskit import targets


def test_what_was_not_used_for_longest_is_transpiled_again(monkeypatch):
    monkeypatch.setattr(targets, "_MOST_CIRCUITS", 2)
    target, transpiled = targets.target("aer", None, {}, least_qubits=1), []
    monkeypatch.setattr(target, "_from_disk_or_transpiled", lambda made: transpiled.append(made))
    for key in "abacab":
        target.transpiled(key, lambda key=key: key)
    assert "".join(transpiled) == "abcb"
