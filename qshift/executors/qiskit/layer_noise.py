"""The noise of layers of gates, learnt on a service and kept in the ledger until it is stale.

Probabilistic error cancellation, and extrapolation with the amplifier "pea", need the noise of each
layer of gates on two qubits. The runtime's noise learner measures it in a job of its own, which is
recorded like any other. What it finds is used again as long as nothing that it depends on has
changed: the backend and the layer, the options of the learner, the name of the run, and the time at
which one of the layer's gates was calibrated last.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from qshift.executors.qiskit import digests
from qshift.executors.qiskit.job_splitting import Load
from qshift.executors.qiskit.pub_results import LEARNER
from qshift.executors.qiskit.recorded_batch import RecordedBatch

if TYPE_CHECKING:
    from qshift.executors.qiskit.budget import Budget
    from qshift.executors.qiskit.job_splitting import Limits
    from qshift.executors.qiskit.service import ServiceTarget
    from qshift.ledger.ledger import Ledger

_log = logging.getLogger("qshift")


@dataclass(frozen=True)
class LayerPub:
    """A layer of gates whose noise is learnt; see `qshift.executors.qiskit.batch.Pub`.

    Attributes:
        layer: The layer, as the client's learner takes it.
        gates: Its gates on two qubits, in words.
        shots: Executions by which its noise is learnt.
        seconds: QPU seconds that they take.
    """

    layer: Any
    gates: str
    shots: int
    seconds: float

    primitive = LEARNER
    errors = False
    is_ready = True

    @property
    def points(self) -> np.ndarray:
        """float64[1, 0]: a layer has no angles."""
        return np.zeros((1, 0))

    @property
    def load(self) -> Load:
        """How much the layer takes of a job's limits."""
        return Load(1, 0, self.shots, seconds=self.seconds)

    @property
    def about(self) -> str:
        """A text for people that says what is learnt."""
        return f"the noise of {self.gates}"

    def arguments(self, rows: Sequence[int]) -> tuple:
        """Returns the layer as the client's learner takes it."""
        return (self.layer,)

    def prepare(self) -> None:
        """Does nothing: layers are those of transpiled circuits."""

    def is_answered_by(self, measured: Any) -> bool:
        """Whether a result is the noise of a layer."""
        return isinstance(measured, bytes)


class Learner:
    """Learns the noise of layers of gates, or reads it from the ledger.

    Args:
        target: The target whose jobs need the noise.
        limits: The limits of one job.
        budget: What the device may send in all.
        ledger: The ledger.
        run: The name of the run.
    """

    def __init__(
        self, target: ServiceTarget, limits: Limits, budget: Budget, ledger: Ledger, run: str
    ) -> None:
        from qshift.executors.qiskit import qiskit_internals as runtime

        self._target, self._budget = target, budget
        self._limits = replace(limits, pubs=min(limits.pubs, runtime.MOST_LEARNT))
        self._ledger, self._run = ledger, run

    def noise(self, pubs: Sequence[tuple]) -> Any:
        """Returns the noise of all layers of some circuits, as the client's option takes it.

        Waits for the jobs that learn what the ledger does not have.

        Args:
            pubs: Estimator PUBs.

        Raises:
            LimitError, JobError, LedgerError: As `RecordedBatch.measure`.
        """
        from qshift.executors.qiskit import qiskit_internals as runtime

        layers = self._target.layers(pubs)
        if not layers:
            return runtime.noise([], [])
        shots = self._target.usage.layer_executions
        timings = [self._target.timing(circuit) for circuit, *_ in pubs]
        seconds = shots * max(each.seconds for each in timings if each)
        times = self._target.calibrated([gates for *_, gates in layers])
        wanted, names = [], []
        for (content, layer, gates), calibrated in zip(layers, times, strict=True):
            words, when = _in_words(gates), datetime.fromtimestamp(calibrated, UTC)
            _log.info("The noise of %s counts as that since %s", words, when.isoformat(" "))
            wanted.append(LayerPub(layer, words, shots, seconds))
            names.append([self._name(content, calibrated)])
        batch = RecordedBatch(
            self._target,
            self._limits,
            self._budget,
            wanted,
            names,
            ledger=self._ledger,
            run=self._run,
            seeded=False,
        )
        batch.measure()
        learnt = [result for (result,) in batch.results]
        return runtime.noise([layer for _, layer, _ in layers], learnt)

    def _name(self, content: bytes, calibrated: float) -> bytes:
        """Returns a digest of all that the noise of a layer depends on."""
        options = self._target.settings["options"]
        asked = {
            "backend": self._target.backend_name,
            "learning": options.get("resilience", {}).get("layer_noise_learning", {}),
            "twirling": options.get("twirling", {}).get("strategy"),
            "execution": options.get("execution", {}),
            "calibrated": calibrated,
        }
        return digests.digest(LEARNER.encode(), content, digests.of_options(asked))


def _in_words(gates: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    """Returns gates with their qubits as a text."""
    named = [f"{name} on {', '.join(map(str, qubits))}" for name, qubits in gates]
    more = f" and {len(named) - 3} more gates" if len(named) > 3 else ""
    return ("; ".join(named[:3]) or "idle qubits") + more
