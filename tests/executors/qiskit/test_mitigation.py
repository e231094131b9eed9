"""What options ask for, in the words of IBM's primitives."""

import re

import pytest

from qshift.errors import OptionError
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.mitigation import (
    NONE,
    Mitigation,
    elsewhere,
    level_of,
    require_effects,
)

BOTH = frozenset({"estimator", "sampler"})
ONE = frozenset({"estimator"})


@pytest.mark.parametrize(
    "options, readout, gates, measurements",
    [
        ({}, False, (), ()),
        ({"resilience_level": 0}, False, (), ()),
        ({"environment": {"log_level": "INFO"}}, False, (), ()),
        ({"resilience_level": 1}, True, (), ONE),
        ({"resilience_level": 2, "resilience": {"zne_mitigation": False}}, True, ONE, ONE),
        ({"resilience": {"measure_mitigation": True}}, True, (), ONE),
        ({"resilience": {"measure_mitigation": False}}, False, (), ONE),
        ({"resilience_level": 0, "resilience": {"measure_mitigation": True}}, True, (), ONE),
        ({"twirling": {"enable_gates": True}}, True, BOTH, ONE),  # IBM's default level is 1
        ({"resilience_level": 0, "twirling": {"enable_gates": True}}, False, BOTH, ()),
        ({"resilience_level": 0, "twirling": {"enable_measure": True}}, False, (), BOTH),
        ({"resilience_level": 1, "twirling": {"enable_measure": True}}, True, (), BOTH),
    ],
)
def test_what_options_ask_for(options, readout, gates, measurements):
    found = Mitigation.of(options)
    assert found.readout is readout
    assert found.gates == set(gates) and found.measurements == set(measurements)
    assert bool(found) is bool(gates or measurements)
    assert not elsewhere(options)


@pytest.mark.parametrize(
    "options, key, reason",
    [
        (
            {"resilience_level": 1, "twirling": {"enable_measure": False}},
            "twirling.enable_measure",
            "have to be twirled where readout errors are mitigated",
        ),
        (
            {"twirling": {"num_randomizations": 3, "shots_per_randomization": 5}},
            "twirling.shots_per_randomization",
            "shots= says how many",
        ),
    ],
)
def test_options_that_exclude_each_other(options, key, reason):
    with pytest.raises(OptionError, match=re.escape(reason)) as caught:
        Mitigation.of(options)
    assert caught.value.option == key


@pytest.mark.parametrize(
    "options, names",
    [
        ({"resilience_level": 2}, ["resilience_level"]),
        ({"resilience": {"zne_mitigation": True}}, ["resilience.zne_mitigation"]),
        ({"resilience": {"pec_mitigation": True}}, ["resilience.pec_mitigation"]),
        ({"resilience": {"zne": {"noise_factors": [1, 3]}}}, ["resilience.zne"]),
        ({"dynamical_decoupling": {"enable": True}}, ["dynamical_decoupling"]),
        ({"dynamical_decoupling": {"sequence_type": "XY4"}}, ["dynamical_decoupling"]),
        ({"dynamical_decoupling": {"enable": False}}, []),
        ({"twirling": {"group": "local_c1"}}, ["twirling.group"]),
        ({"twirling": {"strategy": "all"}}, ["twirling.strategy"]),
        ({"twirling": {"strategy": "active", "group": "pauli"}}, []),
    ],
)
def test_what_only_ibm_does_is_named(options, names):
    assert elsewhere(options) == names


def test_without_a_level_ibms_default_holds_where_a_table_is_given():
    assert level_of({}) == level_of({"resilience": {}}) == 0
    assert level_of({"twirling": {"enable_gates": True}}) == 1
    assert level_of({"twirling": {"enable_gates": True}, "resilience_level": 0}) == 0


@pytest.mark.parametrize(
    "twirling, shots, number, size",
    [
        ({}, 1, 2, 1),
        ({}, 300, 10, 30),
        ({}, 1000, 16, 63),
        ({}, 100_000, 16, 6250),
        ({"enable_gates": True}, 1000, 32, 32),
        ({"enable_gates": True}, 100_000, 32, 3125),
        ({"num_randomizations": 5}, 1000, 5, 200),
        ({"num_randomizations": 5}, 3, 3, 1),
        ({"shots_per_randomization": 300}, 1000, 4, 300),
    ],
)
def test_variants_have_the_shots_together(twirling, shots, number, size):
    found = Mitigation.of({"resilience_level": 1, "twirling": twirling})
    assert found.variants("estimator", shots) == (number, size)
    own = (number, size) if twirling.get("enable_gates") else (1, shots)
    assert found.variants("sampler", shots) == own
    calibration = found.calibrating(shots)
    assert calibration[0] == number and calibration[1] % size == 0  # as a program repeats rows
    assert calibration[0] * calibration[1] >= max(shots, 1024 / 1.5)


def test_the_calibration_may_be_chosen():
    learning = {"num_randomizations": 7, "shots_per_randomization": 11}
    options = {"resilience": {"measure_mitigation": True, "measure_noise_learning": learning}}
    assert Mitigation.of(options).calibrating(170) == (7, 29)  # as a program has rows of 29
    assert Mitigation.of({"twirling": {"enable_gates": True}, "resilience_level": 0}).calibrating(
        5000
    ) == (0, 0)
    assert NONE.calibrating(100) == (0, 0) and NONE.variants("estimator", 100) == (1, 100)


LEARNING = {"layer_noise_learning": {"num_randomizations": 8}}


@pytest.mark.parametrize(
    "level, key, value, reason, needed",
    [
        (
            1,
            "resilience.zne",
            {"noise_factors": [1, 3]},
            "nothing is extrapolated",
            "zne_mitigation",
        ),
        (2, "resilience.zne", {"amplifier": "pea"}, "nothing is extrapolated", None),
        (1, "resilience.pec", {"max_overhead": 10.0}, "no noise is cancelled", "pec_mitigation"),
        (
            2,
            "resilience.layer_noise_learning",
            {"num_randomizations": 8},
            "noise of layers is needed",
            None,
        ),
        (
            0,
            "resilience.layer_noise_learning",
            {"shots_per_randomization": 8},
            "noise of layers is needed",
            "pec_mitigation",
        ),
        (
            0,
            "resilience.measure_noise_learning",
            {"num_randomizations": 3},
            "no readout errors are mitigated",
            "measure_mitigation",
        ),
        (1, "twirling.strategy", "active", "no gates are twirled", "enable_gates"),
        (0, "twirling.num_randomizations", 3, "nothing to twirl", "enable_measure"),
        (0, "twirling.shots_per_randomization", 3, "nothing to twirl", "enable_gates"),
        (1, "dynamical_decoupling.sequence_type", "XY4", "not enabled", "enable"),
    ],
)
def test_options_without_an_effect(level, key, value, reason, needed):
    """On all backends, with all clients, as soon as the device is made."""
    table, name = key.split(".")
    options = {"resilience_level": level, table: {name: value}}
    if level == 2 and name == "zne":
        options[table]["pec_mitigation"] = True
    with pytest.raises(OptionError, match=f"no effect, as .*{reason}") as caught:
        require_effects(options)
    assert caught.value.option == key
    for backend in ("aer", "fake:FakeManilaV2", "ibm:ibm_manila"):
        with pytest.raises(OptionError, match=rf"{reason}|not set to True"):  # a client's own check
            EstimatorDevice(backend=backend, **options)
    if needed:
        require_effects({"resilience_level": level, table: {name: value, needed: True}})
        with pytest.raises(OptionError, match=reason):
            require_effects({"resilience_level": level, table: {name: value, needed: False}})


def test_options_with_an_effect():
    amplified = {"zne_mitigation": True, "zne": {"amplifier": "pea"}, **LEARNING}
    for options in (
        {"resilience_level": 2, "resilience": {"zne": {"noise_factors": [1, 3]}}},
        {"resilience": amplified, "twirling": {"strategy": "all"}},
        {"resilience": {"measure_noise_learning": {"num_randomizations": 3}}},
        {"resilience": {"zne": {}}, "twirling": {"num_randomizations": "auto"}},
        {"resilience_level": 0, "twirling": {"num_randomizations": "auto", "strategy": None}},
        {"dynamical_decoupling": {"enable": False}},
    ):
        require_effects(options)
