"""Targets in this process: Aer, with or without a device's noise, and fake backends on Aer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar

from qiskit import QuantumCircuit
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
from qiskit.providers import BackendV2
from qiskit.transpiler import generate_preset_pass_manager

from qshift.errors import OptionError, UnsupportedError
from qshift.executors.qiskit.components import run_in_parts
from qshift.executors.qiskit.job import LocalJob, Submission
from qshift.executors.qiskit.mitigation import Mitigation, elsewhere
from qshift.executors.qiskit.program_job import ProgramJob, samplers
from qshift.executors.qiskit.quantum_program import program
from qshift.executors.qiskit.standard_errors import MomentsJob, with_moments
from qshift.executors.qiskit.targets import TRANSPILER_SEED, Target
from qshift.executors.qiskit.usage import Usage
from qshift.forks import lineage
from qshift.inputs import did_you_mean
from qshift.tracker import Tracker

_WAY = "twirled, readout calibrated in each job"  # a name for how errors are mitigated
_WIDEST_DENSITY_MATRIX = 13  # qubits: 1 GiB
# Not all gates that Aer has: it does not bind the parameters of controlled rotations (qiskit-aer
# issue 2403), and Qiskit's transpiler fails where "unitary" is a basis gate beside iswap.
AER_GATES = "id x y z h s sdg t tdg sx rx ry rz p u cx cy cz swap rxx ryy rzz".split()


class LocalTarget(Target):
    """Aer, or a fake backend on Aer; see `backends.target`."""

    _used_in: ClassVar[tuple[int, ...] | None] = None  # the process in which Aer has run first

    def __init__(
        self, name: str, optimization_level: int | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, optimization_level, options)
        if not elsewhere(options):  # else a plan says what they cost on the backend
            self.mitigation = Mitigation.of(options)
            self.usage = Usage(options, self.mitigation)
        kind, _, self._fake = name.partition(":")
        self.is_aer = kind == "aer"
        if self._fake:
            from qshift.executors.qiskit import qiskit_internals as runtime

            names = runtime.fake_names()
            if self._fake not in names:
                hint = did_you_mean(self._fake, names)
                raise OptionError(
                    "backend",
                    f"qiskit_ibm_runtime.fake_provider has no {self._fake!r}{hint}; take the name "
                    "of a class in there, such as FakeManilaV2 or FakeSherbrooke",
                )

    @cached_property
    def _device(self) -> BackendV2:
        if not self._fake:
            from qiskit_aer import AerSimulator

            return AerSimulator()
        from qshift.executors.qiskit import qiskit_internals as runtime

        return runtime.fake_backend(self._fake)

    def _version(self) -> tuple:
        if not self._fake:
            return ("aer", AER_GATES)
        from qshift.executors.qiskit import qiskit_internals as runtime

        return ("fake", self._fake, runtime.VERSION)

    def _require_threads(self) -> None:
        """Raises UnsupportedError in the child of a fork that lacks Aer's threads."""
        if LocalTarget._used_in not in (None, lineage()):
            raise UnsupportedError(
                f"This process was forked after {self.name} had run, so it lacks the threads of "
                "Qiskit's simulators, and would wait for them for ever. Start processes with "
                'multiprocessing.get_context("spawn"), or use the device in the children only.'
            )

    def _transpile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        self._require_threads()
        if self._fake or not self.is_aer:
            return super()._transpile(circuit)
        Tracker.record(transpilations=1)
        settings = {**self._aer_settings(), "seed_transpiler": TRANSPILER_SEED}
        return generate_preset_pass_manager(self.level, **settings).run(circuit)

    def _aer_settings(self) -> dict[str, Any]:
        """Returns what the transpiler has to know of Aer."""
        return {"basis_gates": AER_GATES}

    @cached_property
    def _backend(self) -> BackendV2:
        """The backend that circuits run on."""
        noise = self._options.get("simulator", {}).get("noise_model")
        if not self._fake or not self.is_aer and noise is None:
            return self._device
        from qiskit_aer import AerSimulator

        own = {} if noise is None else {"noise_model": noise}
        return AerSimulator.from_backend(self._device, **own)

    @property
    def _is_noisy(self) -> bool:
        return bool(self._fake)

    @property
    def is_exact(self) -> bool:  # type: ignore[override]  # which says so itself
        """Whether the target gives exact values: Aer does, with noise as far as a density matrix of
        its qubits fits into memory."""
        return self.is_aer and (not self._fake or self.num_qubits <= _WIDEST_DENSITY_MATRIX)

    def _settings(self, level: int, options: Mapping[str, Any]) -> dict[str, Any]:
        settings = super()._settings(level, options)
        # Earlier releases took the same options, and they had no effect.
        return settings | {"mitigation": _WAY} if self.mitigation else settings

    def submit(self, submission: Submission) -> LocalJob:
        """Runs a job; see `Target.submit`. Tags have no effect, and nothing is sent.

        Raises:
            OptionError: If an option has no effect in this process.
        """
        if idle := self._idle_options():
            also = f" (nor have {', '.join(idle[1:])})" if idle[1:] else ""
            raise OptionError(
                idle[0],
                f"no effect on {self.name}, which runs in this process{also}. Here readout errors "
                "can be mitigated (resilience_level=1) and circuits twirled; all else is for IBM's "
                "backends. Leave it out to run here. Nothing was run.",
            )
        if not self.mitigation or submission.exact:
            return self._submit(submission)
        made = program(submission.pubs, self._device.target, self.mitigation, seed=submission.seed)
        items = replace(submission, primitive="sampler", pubs=samplers(made))
        return ProgramJob(self._submit(items), made)

    def _submit(self, submission: Submission) -> LocalJob:
        from qshift.executors.qiskit.blocks import BlocksJob, cut  # Late: it runs these targets.

        if self.workers or (submission.seed is not None and not submission.exact):
            blocks = cut(submission)
            if len(blocks) > 1:  # PUBs that one seed is given for would have the same samples
                return BlocksJob(self, self._made_of(), submission, blocks, self.workers)
        return self.simulate(submission)

    def _idle_options(self) -> list[str]:
        """Returns the options that have no effect here. The noise model of a simulator takes the
        place of that of a fake backend, whose plans know the delay between executions."""
        used = {"resilience_level", "resilience", "twirling", "dynamical_decoupling"}
        if self._fake and set(self._options.get("simulator", {})) <= {"noise_model"}:
            used.add("simulator")
        if not self.is_aer and set(self._options.get("execution", {})) <= {"rep_delay"}:
            used.add("execution")
        others = [name for name, value in self._options.items() if value and name not in used]
        return elsewhere(self._options) + sorted(others)

    def _made_of(self) -> tuple[Any, int | None, Mapping[str, Any]]:
        """Returns the arguments that make the same target in another process."""
        return self.name, self.level, self._options

    def simulate(self, submission: Submission) -> LocalJob:
        """Runs a job in this process, all of it at once."""
        self._require_threads()
        LocalTarget._used_in = lineage()
        if submission.exact:
            from qiskit_aer.primitives import EstimatorV2

            # With noise, Aer would otherwise run 1024 random trajectories. The noise is without
            # readout errors, as exact values involve no readout.
            method = {"method": "density_matrix"} if self._is_noisy else {}
            estimator = EstimatorV2.from_backend(self._backend, options={"run_options": method})
            return LocalJob(estimator.run(submission.pubs))
        of_estimator = submission.primitive == "estimator"
        kind = BackendEstimatorV2 if of_estimator else BackendSamplerV2
        seeded = {} if submission.seed is None else {"seed_simulator": submission.seed}
        primitive = kind(backend=self._backend, options=seeded)
        run = partial(run_in_parts, primitive.run, submission.primitive)
        if not (submission.errors and of_estimator):
            return LocalJob(run(submission.pubs))
        pubs, moments = with_moments(submission.pubs)
        return MomentsJob(run(pubs), moments)
