"""QPU seconds that jobs take, by the formula that IBM publishes for what it charges.

    about 2 s for each job + (repetition delay + length of the circuit) for each execution

Error mitigation and twirling add executions, and a job that learns noise first takes those too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple

from qiskit import QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.providers import BackendV2

from qshift.executors.qiskit.mitigation import Mitigation, level_of

JOB = 2.0  # seconds; of each part of a job, but how a service cuts large jobs is not published
# IBM's figures for backends that say nothing: together its "quick formula" of 0.35 ms.
_DELAY, _LENGTH = 250e-6, 100e-6
_LEVEL = 1  # the Estimator's default resilience_level
_BASES = 9  # in which the noise of a layer of gates is learnt


class Timing(NamedTuple):
    """How long one execution of a circuit takes.

    Attributes:
        delay: Seconds between a measurement and the next circuit.
        length: Seconds of the reset, the gates and the measurement, along the longest path.
        layers: How many layers of gates on two qubits there are.
    """

    delay: float
    length: float
    layers: int

    @property
    def seconds(self) -> float:
        """Seconds of one execution."""
        return self.delay + self.length


def timing(circuit: QuantumCircuit, backend: BackendV2, options: Mapping[str, Any]) -> Timing:
    """Returns how long a backend takes for one execution of a transpiled circuit.

    Args:
        circuit: The circuit; if it measures nothing, a measurement of all its qubits is added.
        backend: The backend.
        options: The Estimator's options, in nested tables.
    """
    execution = options.get("execution", {})
    delay = execution.get("rep_delay") or getattr(backend, "default_rep_delay", None) or _DELAY
    measured = circuit.copy()
    if not measured.num_clbits:
        measured.measure_active()
    try:
        length = measured.estimate_duration(backend.target)
    except QiskitError:  # the backend does not say how long one of the gates takes
        length = _LENGTH
    if execution.get("init_qubits", True) and "reset" in backend.target.operation_names:
        about = (backend.target["reset"] or {}).get((0,))
        length += (about and about.duration) or 0.0
    return Timing(delay, length, circuit.depth(lambda gate: len(gate.qubits) == 2))


class Usage:
    """How much error mitigation and twirling add to the executions that are asked for.

    Args:
        options: The Estimator's options, in nested tables. What they leave open is as the service
            has it by default, or with `own` as it is here.
        own: What is mitigated by programs that are made here; None where IBM's own primitives run.
        learns_all: Whether the noise of all layers is learnt, and not of the most frequent ones.

    Attributes:
        mends_readout: Whether an Estimator mitigates errors of the readout.
        learns: Whether the noise of layers of gates has to be learnt first.
        against_fractional_gates: What is asked for that IBM's fractional gates cannot be run with,
            in words, or "".
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        own: Mitigation | None = None,
        learns_all: bool = False,
    ) -> None:
        self._own, self._learns_all = own, learns_all
        level = options.get("resilience_level", _LEVEL) if own is None else level_of(options)
        chosen, self._twirling = options.get("resilience", {}), options.get("twirling", {})
        self._pec = chosen.get("pec", {}) if chosen.get("pec_mitigation") else None
        self._zne = chosen.get("zne", {}) if chosen.get("zne_mitigation", level >= 2) else None
        if self._pec is not None:
            self._zne = None
        self._readout = chosen.get("measure_noise_learning", {})
        self.mends_readout = chosen.get("measure_mitigation", level >= 1)
        self._layers = chosen.get("layer_noise_learning", {})
        self.learns = self._pec is not None or self._is_pea
        if chosen.get("layer_noise_model") is not None:
            self.learns = False
        twirls_gates = self._twirling.get("enable_gates", level >= 2)
        self.against_fractional_gates = (
            "probabilistic error cancellation (pec_mitigation)"
            if self._pec is not None
            else 'the amplifier "pea"'
            if self._is_pea
            else "twirled gates (twirling.enable_gates, which resilience_level=2 sets)"
            if twirls_gates
            else ""
        )
        self._twirls = {
            "estimator": self.mends_readout
            or self._pec is not None
            or self._is_pea
            or self._twirling.get("enable_measure", level >= 1)
            or twirls_gates,
            "sampler": self._twirling.get("enable_measure") or self._twirling.get("enable_gates"),
        }

    @property
    def _is_pea(self) -> bool:
        return self._zne is not None and self._zne.get("amplifier") == "pea"

    def point(self, primitive: str, each: Timing, shots: int, bases: int) -> float:
        """Returns the seconds of a circuit at one point.

        Args:
            primitive: ``"estimator"`` or ``"sampler"``.
            each: How long one execution takes.
            shots: The shots in each basis.
            bases: In how many bases the primitive measures.
        """
        if self._own is not None:
            return bases * math.prod(self._own.variants(primitive, shots)) * each.seconds
        executions = self._rounded(shots) if self._twirls[primitive] else shots
        seconds = executions * each.seconds
        if primitive == "estimator" and self._pec is not None:
            # What is needed is known only when the noise is; this is the most.
            overhead = self._pec.get("max_overhead", 100.0)
            seconds *= math.inf if overhead is None else max(1.0, overhead)
        if primitive == "estimator" and self._zne is not None:
            factors = self._zne.get("noise_factors", (1, 1.5, 2) if self._is_pea else (1, 3, 5))
            folded = [1.0] * len(factors) if self._is_pea else factors
            seconds = executions * sum(each.delay + each.length * factor for factor in folded)
        return bases * seconds

    def learning(self, primitive: str, each: Timing, shots: int) -> float:
        """Returns the seconds for which a job learns noise before it runs a circuit."""
        if primitive != "estimator":
            return 0.0
        if self._own is not None:
            return self.calibration(primitive, shots) * each.seconds
        executions = 0
        if self.mends_readout:
            number = self._readout.get("num_randomizations", 32)
            size = self._readout.get("shots_per_randomization", "auto")
            executions += number * (self._per_randomization(shots) if size == "auto" else size)
        if self.learns:
            most = None if self._learns_all else self._layers.get("max_layers_to_learn", 4)
            layers = each.layers if most is None else min(most, each.layers)
            executions += layers * self.layer_executions
        return executions * each.seconds

    @property
    def layer_executions(self) -> int:
        """Executions by which the noise of one layer of gates is learnt."""
        depths = len(self._layers.get("layer_pair_depths", (0, 1, 2, 4, 16, 32)))
        number = self._layers.get("num_randomizations", 32)
        size = self._layers.get("shots_per_randomization", 128)
        return _BASES * depths * number * size

    def informed(self) -> Usage:
        """Returns the usage of jobs that are told the noise of layers, and need not learn it."""
        found = copy(self)
        found.learns = False
        return found

    def variants(self, primitive: str, shots: int) -> tuple[int, int]:
        """Returns how many variants of a circuit a program has, and the shots of each; a job of
        IBM's own primitives has one, whatever they make of it."""
        return (1, shots) if self._own is None else self._own.variants(primitive, shots)

    def calibration(self, primitive: str, shots: int) -> int:
        """Returns how many executions a program has besides, by which the readout is calibrated."""
        if self._own is None or primitive != "estimator":
            return 0
        return math.prod(self._own.calibrating(shots))

    def _rounded(self, shots: int) -> int:
        size = self._per_randomization(shots)
        return math.ceil(shots / size) * size

    def _per_randomization(self, shots: int) -> int:
        """Returns how many shots each random variant of a circuit gets."""
        number = self._twirling.get("num_randomizations", "auto")
        size = self._twirling.get("shots_per_randomization", "auto")
        if size != "auto":
            return int(size)
        if number != "auto":
            return max(1, math.ceil(shots / number))
        return 64 if self._pec is not None else max(64, math.ceil(shots / 32))
