"""A random case for a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fuzz.case import Case, Op, expressions, walk
from fuzz.draw_angles import Angles
from fuzz.draw_gates import Gates
from fuzz.draw_measurements import Measurements
from fuzz.modes import MODES

# What a case may have, with how often if its mode can do with it.
FEATURES = {
    "batch": 0.15,  # arguments that are broadcast
    "captured": 0.2,  # variables that are no arguments
    "constants": 0.3,  # NumPy arrays as arguments
    "access": 0.35,  # iterating, unpacking, len, ...
    "extreme": 0.3,  # angles of 1e-9
    "large": 0.07,  # and of 1e6
    "huge": 0.02,  # and of 1e15
    "custom": 0.3,  # custom gradients
    "inner": 0.1,  # qnodes within qnodes
    "templates": 0.8,
    "wrappers": 0.8,  # control, adjoint, powers, ...
    "measured": 0.15,  # measurements in mid-circuit
    "scales": 0.3,  # generators times 1e-8 or 1e3
    "coefficients": 0.6,  # tensors as coefficients of observables
    "assign": 0.15,  # variables assigned to between two gates
    "float32": 0.12,
    "shared": 0.6,  # few arguments for many gates
    "arguments": 0.3,  # as a dict, a list, keywords
    "prepared": 0.08,  # state preparations of data
    "own": 0.08,  # gates of users' own
}
# Devices, and how often. {wires} is the labels and, for measurements in mid-circuit, further wires.
DEVICES = [
    ('qshift.device("simulator")', 0.3),
    ('qshift.device("simulator", wires={wires})', 0.12),
    ('qml.device("default.qubit")', 0.2),
    ('qml.device("default.qubit", wires={wires})', 0.08),
    ('qml.device("lightning.qubit", wires={wires})', 0.12),
    ('qml.device("default.mixed", wires={wires})', 0.06),
    ('qshift.device("aer")', 0.06),
    ('qml.device("qshift.estimator", wires={wires}, backend="aer")', 0.03),
    ('qshift.device("lightning", wires={wires})', 0.03),
]


def draw(seed: int, *only: str) -> Case:
    """Returns the case of a seed.

    Args:
        seed: The seed.
        *only: The names of modes, if there shall be no others.
    """
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        case = _attempt(rng, only)
        if case is not None:
            return case
    raise AssertionError(f"no case for seed {seed}")


def _attempt(rng, only) -> Case | None:
    modes = [MODES[name] for name in only or MODES]
    weights = np.array([mode.weight for mode in modes])
    mode = modes[rng.choice(len(modes), p=weights / weights.sum())]
    chance = {name: rng.random() < often for name, often in FEATURES.items()}
    features = {name for name in mode.features if chance[name]}
    if features & {"large", "huge"}:
        features |= {"extreme"}
        features -= {"float32"}
    if "huge" in features:
        features -= {"coefficients", "assign", "measured", "batch"}
    wires = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.4, 0.2, 0.15]))
    angles = Angles(rng, features, scalars=2 if "shared" in features else 4)
    gates = Gates(rng, angles, wires, features)
    ops, outcomes = _operations(rng, gates, features)
    measurements = Measurements(gates, outcomes)
    kinds = mode.kinds
    measured = [measurements.measurement(kinds) for _ in range(int(rng.choice([1, 1, 2])))]
    devices = mode.devices or DEVICES
    if outcomes:  # more wires, and a density matrix of them takes minutes
        devices = [entry for entry in devices if "default.mixed" not in entry[0]]
    device = _device(rng, devices)
    case = Case(
        tuple(angles.leaves),
        tuple(ops),
        tuple(measured),
        mode.name,
        device=device,
        options=_options(rng, device, [measurement.kind for measurement in measured]),
        labels=_labels(rng),
        dtype="float32" if "float32" in features else "float64",
        call=str(rng.choice(["dict", "list", "keywords"])) if "arguments" in features else "flat",
    )
    case = replace(case, device=case.device.format(wires=_device_wires(rng, case, outcomes)))
    how = mode.draw(rng, case) if valid(case) else None
    return None if how is None else replace(case, how=how)


def _operations(rng, gates: Gates, features):
    """Draws what the quantum function does; states that are no eigenstates first."""
    ops, outcomes = [], 0
    if "prepared" in features:
        some = gates.some_wires(int(rng.integers(1, min(2, gates.n) + 1)))
        data = tuple(np.round(rng.uniform(0.1, 1.0, 2 ** len(some)), 2).tolist())
        name = str(rng.choice(["StatePrep", "AmplitudeEmbedding"]))
        ops.append(Op(name, (("constant", data, str(rng.choice(["numpy", "tensor"]))),), some))
    for wire in range(gates.n):
        if rng.random() < 0.7:
            ops.append(Op("RY", (("number", round(float(rng.uniform(0.2, 2.9)), 2)),), (wire,)))
    for _ in range(int(rng.integers(1, 6))):
        if "measured" in features and rng.random() < 0.4 and outcomes < 2:
            reset = {"reset": True} if rng.random() < 0.3 else {}
            ops.append(Op("measure", (), gates.some_wires(1), options=reset))
            outcomes += 1
        if outcomes and rng.random() < 0.6:
            branches = (gates.parametric(), gates.parametric())[: int(rng.integers(1, 3))]
            ops.append(Op("cond", (), (), branches, {"if": _condition(rng, outcomes)}))
        else:
            ops.append(gates.op())
    if "assign" in features:
        ops = _assigned(rng, gates, ops)
    return ops, outcomes


def _condition(rng, outcomes):
    k = int(rng.integers(outcomes))
    choices = [("is", k, 1), ("is", k, 1), ("is", k, 0)]
    if outcomes > 1:
        choices += [("and", 0, 1), ("sum", 0, 1, 1)]
    return choices[rng.integers(len(choices))]


def _assigned(rng, gates: Gates, ops):
    """Captures an argument, assigns to it, and uses the value before."""
    leaves = [x for x in gates.angles.leaves if x.is_tensor and not x.batched]
    if not leaves:
        return ops
    leaf = leaves[rng.integers(len(leaves))]
    place = gates.angles.leaves.index(leaf)
    gates.angles.leaves[place] = replace(leaf, kind="captured", access="index")
    change = np.round(rng.uniform(-1, 1, leaf.array.shape), 2).tolist()
    old = ("old", leaf.name)
    first = ("index", old, (0,) * leaf.array.ndim) if leaf.array.ndim else old
    wire = gates.some_wires(1)
    position = int(rng.integers(1, len(ops) + 1))
    assign = Op("assign", options={"leaf": leaf.name, "change": change})
    return [*ops[:position], assign, *ops[position:], Op("RX", (first,), wire)]


def _device(rng, devices) -> str:
    names, weights = zip(*devices, strict=True)
    return str(rng.choice(names, p=np.array(weights) / sum(weights)))


def _labels(rng) -> tuple:
    kind = rng.random()
    if kind < 0.7:
        return (0, 1, 2, 3)
    if kind < 0.85:
        return tuple(int(k) for k in rng.permutation(4))
    return ("a", "b", 7, "q1")


def _device_wires(rng, case: Case, outcomes) -> str:
    wires = [case.labels[k] for k in rng.permutation(case.wires)]
    return repr(wires + [f"m{k}" for k in range(2 * outcomes)])


def _options(rng, device, kinds) -> dict:
    options = {}
    exact = device.startswith(
        ('qshift.device("simulator', 'qml.device("l', 'qml.device("default.q')
    )
    if exact and "probs" not in kinds and rng.random() < 0.15:
        options["diff_method"] = "adjoint"
    elif rng.random() < 0.4:
        options["diff_method"] = str(rng.choice(["shift", "parameter-shift", "best"]))
    if rng.random() < 0.2:
        options["objective"] = str(rng.choice(["circuits", "shots"]))
    if rng.random() < 0.15:
        options["prefetch"] = int(rng.integers(1, 3))
    if rng.random() < 0.05:
        options["grad_on_execution"] = True
    return options


def valid(case: Case) -> bool:
    """Whether a case makes sense; what shrinking makes of one may not."""
    used = list(expressions(case))
    names = {part[1] for part in used if part[0] in ("leaf", "old")}
    if any(leaf.batched and leaf.name not in names for leaf in case.leaves):
        return False
    if any(part[0] == "old" and part[1] not in case.assigned for part in used):
        return False
    if any(case.leaf(name).kind != "captured" for name in case.assigned):
        return False
    if any(set(op.wires) & wires_of(op.inner) for op in walk(case.ops)):  # controls by themselves
        return False
    outcomes = sum(op.name == "measure" for op in case.ops)
    return all(k < outcomes for k in _outcomes(case)) and bool(case.measurements)


def wires_of(ops) -> set[int]:
    """Returns all wires that gates, and what is in them, act on."""
    return {wire for op in walk(ops) for wire in op.wires}


def _outcomes(case: Case):
    """Yields the numbers of the outcomes that are used."""
    for op in walk(case.ops):
        if op.name == "cond":
            name, *rest = op.options["if"]
            yield from rest[:1] if name == "is" else rest[:2]
    for measurement in case.measurements:
        if measurement.observable is not None and measurement.observable[0] == "outcomes":
            yield from (k for _, k in measurement.observable[1])
