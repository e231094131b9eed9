"""QPU seconds, by IBM's formula."""

import math

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_ibm_runtime import fake_provider

import qshift
from qshift.errors import LimitError
from qshift.executors.qiskit.usage import Timing, Usage

SHOTS = 1024


def energy(x):
    for wire in range(4):
        qml.RX(x[wire], wires=wire)
    for wire in range(3):
        qml.CNOT(wires=[wire, wire + 1])
    return qml.expval(qml.Z(0) @ qml.Z(3))


def of_ibm(backend, shots, circuits):
    """The example of IBM's page on usage, without the mitigation of errors."""
    circuit = QuantumCircuit(4)
    for wire in range(4):
        circuit.rx(0.1 + wire, wire)
    for wire in range(3):
        circuit.cx(wire, wire + 1)
    circuit.measure_all()
    ready = generate_preset_pass_manager(2, target=backend.target, seed_transpiler=0).run(circuit)
    timed = generate_preset_pass_manager(0, target=backend.target, scheduling_method="alap")
    seconds = timed.run(ready).estimate_duration(backend.target)
    seconds += backend.target["reset"][(0,)].duration + backend.default_rep_delay
    return 2 + shots * circuits * seconds


# The executions for each that is asked for, as the client's own Estimator counts them when it makes
# a program of nine circuits: one item more for the readout, and three noise factors.
@pytest.mark.parametrize(
    "name, level, factor",
    [("FakeTorino", 0, 1), ("FakeSherbrooke", 1, 10 / 9), ("FakeTorino", 2, 28 / 9)],
)
def test_plans_say_what_ibms_formula_says(name, level, factor):
    device = qshift.device(
        "fake-manila", backend=f"fake:{name}", shots=SHOTS, resilience_level=level
    )
    plan = qshift.qnode(device)(energy).plan(tf.zeros(4, tf.float64))
    assert plan.circuits == 9
    expected = of_ibm(getattr(fake_provider, name)(), SHOTS, 9 * factor) + 2 * (plan.jobs - 1)
    assert plan.seconds == pytest.approx(expected, rel=0.15)


def test_small_jobs_count_with_what_each_takes_itself():
    device = qshift.device(
        "fake-manila", backend="fake:FakeManilaV2", shots=10, max_qpu_seconds=12, resilience_level=0
    )
    qnode = qshift.qnode(device)(lambda x: (qml.RX(x, wires=0), qml.expval(qml.Z(0)))[1])
    with qshift.Tracker() as tracker, pytest.raises(LimitError, match="max_qpu_seconds=12"):
        for x in np.linspace(0, 1, 9):
            qnode(tf.constant(x))
    assert tracker.totals["jobs"] == 5


def test_a_circuit_without_gates_takes_time():
    device = qshift.device("fake-manila", shots=4000, resilience_level=0, max_qpu_seconds=2.9)
    with pytest.raises(LimitError, match=r"about 3\.\d+ QPU seconds"):
        qshift.qnode(device)(lambda: qml.expval(qml.Z(0)))()


def test_the_repetition_delay_is_the_one_that_is_chosen():
    x, seconds = tf.zeros(4, tf.float64), []
    for options in {}, {"execution": {"rep_delay": 1e-3}}:
        device = qshift.device(
            "fake-manila", backend="fake:FakeTorino", shots=SHOTS, resilience_level=0, **options
        )
        seconds.append(qshift.qnode(device)(energy).plan(x, order=0).seconds)
    assert seconds[1] - seconds[0] == pytest.approx(SHOTS * 0.75e-3)


EACH = Timing(250e-6, 50e-6, 3)


@pytest.mark.parametrize(
    "options, point, learning",
    [
        ({"resilience_level": 0}, 1000, 0),
        ({}, 1024, 32 * 64),  # 16 variants of 64 shots each
        ({"twirling": {"num_randomizations": 30}}, 1020, 32 * 34),
        ({"twirling": {"shots_per_randomization": 7}}, 1001, 32 * 7),
        (
            {"resilience": {"measure_mitigation": False}, "twirling": {"enable_measure": False}},
            1000,
            0,
        ),
        (
            {"resilience": {"measure_noise_learning": {"num_randomizations": 3}}},
            1024,
            3 * 64,
        ),
        (
            {"resilience_level": 0, "resilience": {"pec_mitigation": True}},
            100 * 1024,
            3 * 9 * 6 * 32 * 128,
        ),
        (
            {
                "resilience_level": 0,
                "resilience": {
                    "zne_mitigation": True,
                    "zne": {"amplifier": "pea"},
                    "layer_noise_learning": {"max_layers_to_learn": 2, "layer_pair_depths": [0, 1]},
                },
            },
            3 * 1024,
            2 * 9 * 2 * 32 * 128,
        ),
    ],
)
def test_executions(options, point, learning):
    usage = Usage(options)
    assert usage.point("estimator", EACH, 1000, 2) == pytest.approx(2 * point * 300e-6)
    assert usage.learning("estimator", EACH, 1000) == pytest.approx(learning * 300e-6)


def test_folded_gates_take_longer():
    seconds = Usage({"resilience_level": 2}).point("estimator", EACH, 64, 1)
    assert seconds == pytest.approx(64 * sum(250e-6 + 50e-6 * n for n in (1, 3, 5)))


def test_a_sampler_mitigates_nothing():
    assert Usage({"resilience_level": 2}).point("sampler", EACH, 1000, 1) == pytest.approx(0.3)
    twirled = Usage({"twirling": {"enable_gates": True}})
    assert twirled.point("sampler", EACH, 1000, 1) == pytest.approx(1024 * 300e-6)
    assert twirled.learning("sampler", EACH, 1000) == 0


def test_what_has_no_bound_passes_no_limit():
    options = {"resilience": {"pec_mitigation": True, "pec": {"max_overhead": None}}}
    assert Usage(options).point("estimator", EACH, 1, 1) == math.inf
    device = qshift.device(
        "fake-manila", backend="fake:FakeManilaV2", shots=10, max_qpu_seconds=1e9, **options
    )
    with pytest.raises(LimitError, match="about inf QPU seconds"):
        qshift.qnode(device)(energy)(tf.zeros(4, tf.float64))


def test_a_backend_that_says_no_times_has_those_of_ibms_quick_formula():
    device = qshift.device(
        "fake-manila", backend="fake:FakeEssexV2", shots=SHOTS, resilience_level=0
    )
    plan = qshift.qnode(device)(energy).plan(tf.zeros(4, tf.float64), order=0)
    assert plan.seconds == pytest.approx(2 + 0.00035 * SHOTS, rel=0.05)
