"""A short share of the fuzzer, and whether it finds what is wrong."""

import os
from dataclasses import replace

import fresh
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

from fuzz import report, runner, session
from fuzz.case import Op, walk
from fuzz.draw import draw, valid, wires_of
from fuzz.draw_angles import Angles
from fuzz.draw_gates import Gates
from fuzz.modes import MODES
from fuzz.script import script
from fuzz.shrink import shrink, simpler
from qshift.circuits import spectra

ALONE = ("threads", "pipeline")  # threads that hang would stay
QUICK = [name for name in MODES if name not in ALONE]


def told(case, outcome):
    return f"{outcome.message}\n\n{script(case, outcome.kind)}"


@pytest.mark.one_in(6)
@pytest.mark.parametrize("seed", range(120))
def test_a_random_case_is_right(seed):
    case = draw(seed, *QUICK)
    outcome = runner.run(case)
    assert not outcome.failed, told(case, outcome)


def in_another_process(code, tmp_path):
    file = tmp_path / "case.py"
    file.write_text(code)
    return fresh.run_file(file, timeout=240)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("mode", ALONE)
def test_a_random_case_with_threads_is_right(mode, tmp_path):
    case = draw(1, mode)
    done = in_another_process(script(case, mode), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# --- what is wrong is found, and made small ---

_BROKEN = '__import__("fuzz.broken").broken.{}()'


def found(change, cases, what="WRONG", instead=None):
    """Returns the first failure of a kind among some cases, made small.

    Args:
        change: Puts something broken into a case.
        cases: How many.
        what: What its message says.
        instead: A device that has to be right where the broken one is not.
    """

    def attempt(case):
        outcome = runner.run(case)
        if (
            what not in outcome.message
            or instead
            and runner.run(replace(case, device=instead)).failed
        ):
            return runner.Outcome("right")
        return outcome

    for seed in range(cases):
        case = change(draw(seed, "tapes"))
        outcome = attempt(case)
        if outcome.failed:
            return shrink(case, outcome, 60, attempt)
    raise AssertionError(f"nothing was found in {cases} cases")


def eager(case):
    """Without what costs time."""
    levels = [[name, "gradient"] for name, _ in case.how["levels"][:1]]
    return replace(case, how={"levels": levels, "graph": "eager", "calls": 1}, options={})


@pytest.mark.parametrize("device", ["Dropping", "Swapping", "Rounding"])
def test_a_broken_device_is_found(device):
    def change(case):
        # A gate on many wires needs others before it, to be noticed at all.
        ops = tuple(op for op in case.ops if all(len(part.wires) <= 2 for part in walk([op])))
        return eager(replace(case, ops=ops, device=_BROKEN.format(device)))

    # The shrinker must not put another device in its place.
    case, outcome = found(change, 60, instead='qml.device("default.qubit")')
    assert device in case.device
    assert len(list(walk(case.ops))) <= 3, told(case, outcome)


@pytest.fixture
def spectra_anew():
    """What is known of gates is found out anew, and forgotten afterwards."""
    spectra._spectra.cache_clear()
    yield
    spectra._spectra.cache_clear()


def test_a_wrong_rule_is_found(monkeypatch, spectra_anew):
    """One frequency of controlled rotations is left out."""
    monkeypatch.setattr(qml.CRX, "parameter_frequencies", [(1.0,)])
    monkeypatch.setattr(qml.CRY, "parameter_frequencies", [(1.0,)])
    monkeypatch.setattr(qml.CRZ, "parameter_frequencies", [(1.0,)])

    def change(case):
        options = {**case.options, "diff_method": "shift"}
        return eager(replace(case, device='qml.device("default.qubit")', options=options))

    case, outcome = found(change, 120, "WRONG gradient")
    names = {op.name for op in walk(case.ops)}
    controlled = {"CRX", "CRY", "CRZ", "ctrl", "ParticleConservingU1"}  # which is made of them
    assert names & controlled and len(case.ops) <= 3, told(case, outcome)


# --- scripts, seeds, reports ---


def test_a_script_runs_by_itself(tmp_path):
    assert in_another_process(script(eager(draw(0, "tapes")), "a title"), tmp_path).returncode == 0


def test_a_script_says_whether_its_numbers_are_right(monkeypatch, capsys):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    code = script(eager(draw(0, "tapes")), "a title")
    start, end = code.index("EXPECTED = ["), code.index("]\n\n\ndef first_difference")
    wrong = code[:start] + "EXPECTED = [[7.0]] * 2\n" + code[end + 1 :]
    crash = code.replace("def run():", "def run():\n    raise ValueError('no')")
    for text, status, said in (
        (code, 0, "right"),
        (wrong, 1, ""),
        (crash, 2, "CRASH ValueError: no"),
    ):
        with pytest.raises(SystemExit) as left:
            exec(compile(text, "script", "exec"), {"__name__": "__main__"})
        assert left.value.code == status and said in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(30))
def test_a_seed_is_a_case(seed):
    assert draw(seed) == draw(seed)
    assert valid(draw(seed))
    assert MODES[draw(seed).mode].suits(draw(seed))


def test_controls_are_other_wires_than_what_is_controlled():
    """Also where a template does not fit, and another gate is drawn in its place."""
    features = {"batch", "templates", "wrappers"}
    kinds = ("ctrl", "Select", "ControlledSequence")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        gates = Gates(rng, Angles(rng, features, scalars=2), 3, features)
        assert wires_of([gates.template("AngleEmbedding", (1,))]) <= {1}
        for op in walk([gates.wrapper(kinds[seed % 3])]):
            assert not set(op.wires) & wires_of(op.inner), op


def test_a_case_whose_controls_are_controlled_is_none():
    case = eager(draw(0, "tapes"))
    inner = Op("RY", (("number", 0.3),), (1,))
    for controls, possible in (((0,), True), ((0, 1), False)):
        op = Op("ctrl", (), controls, (inner,), {"values": "1" * len(controls)})
        assert valid(replace(case, ops=(*case.ops, op))) == possible


def test_what_tensorflow_cannot_differentiate_twice_is_impossible():
    @tf.function
    def twice(x):
        f = tf.recompute_grad(tf.sin)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = f(x)
            slope = inner.gradient(y, x)
        return outer.gradient(slope, x)

    with pytest.raises(NotImplementedError) as found:
        twice(tf.constant(0.3))
    assert runner._raised(found.value, False).kind == "impossible"
    assert runner._raised(NotImplementedError("something else"), False).kind == "crash"


def test_simpler_cases_end():
    """Every step makes a case smaller, so that shrinking ends."""
    case = draw(5, "tapes")
    steps = 0
    while True:
        smaller = [c for c in simpler(case) if valid(c) and MODES[c.mode].suits(c)]
        if not smaller:
            break
        case, steps = smaller[0], steps + 1
        assert steps < 200
    assert len(case.ops) <= 2


def test_a_report_counts_and_groups(tmp_path, capsys):
    kinds = report.Report(tmp_path, same=2)
    for seed in range(4):
        kinds.add(session.Record(seed, "tapes", "wrong", "of a kind", "message", "script"))
    kinds.add(session.Record(9, "tapes", "refused", "refused: no rule"))
    kinds.add(session.Record(10, "tapes", "right", counts={"gates": ["RX"]}))
    assert kinds.failures == 4
    assert len(list(tmp_path.iterdir())) == 2  # the same again is counted only
    assert capsys.readouterr().out.count("of a kind") == 1
    summary = kinds.summary()
    assert "6 cases" in summary and "refused: no rule" in summary and "RX 1" in summary
