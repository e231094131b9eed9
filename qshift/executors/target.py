"""Where Qiskit circuits run: Aer, with or without a device's noise, or a fake backend."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

from qiskit import QuantumCircuit
from qiskit.providers import BackendV2

from qshift.errors import OptionError
from qshift.executors.job import Job, LocalJob
from qshift.tracker import Tracker

_MOST_CIRCUITS = 256
_WIDEST_DENSITY_MATRIX = 13  # qubits: 1 GiB
_HELP = 'expected "aer", "aer:FakeManilaV2" (Aer with its noise) or "fake:FakeManilaV2"'
# Transpilation draws random layouts. Always the same ones, so that what a seeded program samples
# does not depend on them.
_TRANSPILER_SEED = 0
# Not all that Aer has: it does not bind the parameters of controlled rotations (qiskit-aer issue
# 2403), and Qiskit's transpiler gives up where "unitary" is a basis gate beside iswap.
_AER_GATES = "id x y z h s sdg t tdg sx rx ry rz p u cx cy cz swap rxx ryy rzz".split()


class Target:
    """A backend, and the circuits that were transpiled for it.

    Args:
        name: ``"aer"``, ``"aer:CLASS"`` for Aer with the noise, gates and couplings of a class in
            `qiskit_ibm_runtime.fake_provider`, or ``"fake:CLASS"`` for that fake backend in the
            runtime's local testing mode.
        optimization_level: Of the transpiler, 0 to 3.
        options: Of the primitives, see `qshift.executors.runtime.check_options`.

    Attributes:
        name: As given.
        is_remote: Whether jobs live on a service and outlive this process.

    Raises:
        OptionError: If there is no such backend, or no such option of the primitives.
    """

    is_remote = False

    def __init__(self, name: str, optimization_level: int, options: Mapping[str, Any]):
        kind, _, fake = str(name).partition(":")
        if kind not in ("aer", "fake") or (kind == "fake" and not fake):
            raise OptionError("backend", f"there is no {name!r}; {_HELP}")
        if optimization_level not in (0, 1, 2, 3):
            raise OptionError(
                "optimization_level", f"expected 0, 1, 2 or 3, got {optimization_level!r}"
            )
        self.name = name
        self.is_aer = kind == "aer"
        self._fake = fake
        self._level = optimization_level
        self._options = dict(options)
        self._circuits: dict[Hashable, QuantumCircuit] = {}
        self._lock = threading.Lock()
        if fake:
            from qshift.executors import runtime

            if fake not in runtime.fake_names():
                near = difflib.get_close_matches(fake, runtime.fake_names(), n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise OptionError(
                    "backend",
                    f"qiskit_ibm_runtime.fake_provider has no {fake!r}{hint}; take the name of a "
                    "class in there, such as FakeManilaV2 or FakeSherbrooke",
                )
        if options:
            from qshift.executors import runtime

            runtime.check_options(options)

    @cached_property
    def _device(self) -> BackendV2:
        """What circuits are transpiled for."""
        if not self._fake:
            from qiskit_aer import AerSimulator

            return AerSimulator()
        from qshift.executors import runtime

        return runtime.fake_backend(self._fake)

    @cached_property
    def _backend(self) -> BackendV2:
        """What circuits run on."""
        if not (self.is_aer and self._fake):
            return self._device
        from qiskit_aer import AerSimulator

        return AerSimulator.from_backend(self._device)

    @property
    def num_qubits(self) -> int:
        """The number of qubits."""
        return self._device.num_qubits

    @property
    def is_exact(self) -> bool:
        """Whether it has exact values: Aer, with noise up to what a density matrix can hold."""
        return self.is_aer and (not self._fake or self.num_qubits <= _WIDEST_DENSITY_MATRIX)

    def transpiled(self, key: Hashable, make) -> QuantumCircuit:
        """Returns a circuit in the backend's own gates, transpiled when it is first asked for.

        Args:
            key: Identifies the circuit.
            make: Returns it.
        """
        from qiskit.transpiler import generate_preset_pass_manager

        with self._lock:
            if key not in self._circuits:
                circuit = make()
                into = {"backend": self._device} if self._fake else {"basis_gates": _AER_GATES}
                passes = generate_preset_pass_manager(
                    self._level, **into, seed_transpiler=_TRANSPILER_SEED
                )
                if len(self._circuits) >= _MOST_CIRCUITS:
                    self._circuits.clear()
                self._circuits[key] = passes.run(circuit)
                Tracker.record(transpilations=1)
            return self._circuits[key]

    @property
    def settings(self) -> dict[str, Any]:
        """What of it decides what is measured."""
        return {"backend": self.name, "optimization_level": self._level, "options": self._options}

    def estimate(
        self, pubs: Sequence, seed: int | None, exact: bool, tags: Sequence[str] = ()
    ) -> Job:
        """Submits a job of Estimator PUBs and returns it, without waiting.

        Args:
            pubs: Each with its precision.
            seed: Of a simulator's samples, positive; None for fresh ones.
            exact: Whether all precisions are zero.
            tags: By which `find` finds it, where jobs live on a service.
        """
        if exact:
            from qiskit_aer.primitives import EstimatorV2

            # With noise Aer would otherwise run 1024 random trajectories. Readout errors are not
            # in there: nothing is read out.
            method = {"method": "density_matrix"} if self._fake else {}
            estimator = EstimatorV2.from_backend(self._backend, options={"run_options": method})
            return LocalJob(estimator.run(pubs))
        from qshift.executors import runtime

        return LocalJob(runtime.estimate(self._backend, pubs, self._options, seed))

    def sample(self, pubs: Sequence, seed: int | None, tags: Sequence[str] = ()) -> Job:
        """Submits a job of Sampler PUBs, each with its shots, and returns it; as `estimate`."""
        from qshift.executors import runtime

        return LocalJob(runtime.sample(self._backend, pubs, self._options, seed))
