"""What users ask for, and what is refused."""

import pickle

import pytest

import qshift
from qshift.rules.shots import Shots


def test_numbers():
    assert Shots(per_circuit=100).number == 100
    assert Shots(total=5000).number == 5000
    assert Shots(per_circuit=1).number == 1
    assert Shots(error=0.01).number == 10_000 and Shots(error=5).number == 1
    assert qshift.Shots is Shots
    assert pickle.loads(pickle.dumps(Shots(total=10, least=3))) == Shots(total=10, least=3)


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "either per_circuit"),
        ({"per_circuit": 10, "total": 10}, "either per_circuit"),
        ({"per_circuit": 0}, "per_circuit as a whole number of 1 or more, got 0"),
        ({"total": 2.5}, "total as a whole number of 1 or more, got 2.5"),
        ({"total": True}, "total as a whole number"),
        ({"per_circuit": 10, "least": 1}, "least as a whole number of 2 or more, got 1"),
        ({"per_circuit": 10, "least": 20}, "smaller least"),
        ({"total": 10, "equal": True}, "leave equal out"),
        ({"total": 10, "pilot": 0.6}, "pilot as a part of the shots, between 0 and 0.5, got 0.6"),
        ({"total": 10, "pilot": True}, "pilot as a part of the shots"),
        ({"error": 0.0}, "error as a standard error, a number above 0, got 0.0"),
        ({"error": -1.0}, "error as a standard error"),
        ({"error": float("nan")}, "error as a standard error"),
        ({"error": True}, "error as a standard error"),
        ({"error": 1e-200}, "error as a standard error"),
        ({"error": 0.1, "total": 10}, "or error, the standard error that is wanted"),
        ({"error": 0.1, "equal": True}, "leave equal out"),
        ({"error": 0.1, "pilot": 0}, "estimated from a pilot share"),
        ({"per_circuit": 10, "pilot": 0.1, "equal": True}, "Leave one of the two out"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Shots(**given)


def test_a_pilot_share_needs_ten_shots_of_a_circuit():
    asked = Shots(total=1000, pilot=0.1)
    assert asked.has_pilot(1000, 10) and not asked.has_pilot(1000, 11)
    assert not Shots(total=1000, pilot=0).has_pilot(1000, 2)
    assert not Shots(total=1000).has_pilot(1000, 2)


def test_a_single_circuit_has_no_pilot_share_unless_an_error_is_wanted():
    assert not Shots(total=1000, pilot=0.1).has_pilot(1000, 1)
    assert Shots(error=0.1).has_pilot(0, 1)
