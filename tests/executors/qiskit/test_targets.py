"""Backends, and the transpiled circuits that they keep."""

from qshift.executors.qiskit.local_target import LocalTarget


class Forgetful(LocalTarget):
    most_circuits = 2


def test_what_was_not_used_for_longest_is_transpiled_again(monkeypatch):
    target, transpiled = Forgetful("aer", None, {}), []
    monkeypatch.setattr(target, "_from_disk_or_transpiled", lambda made: transpiled.append(made))
    for key in "abacab":
        target.transpiled(key, lambda key=key: key)
    assert "".join(transpiled) == "abcb"
