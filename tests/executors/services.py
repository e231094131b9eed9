"""A service in this process, as targets see it, and processes that die."""

from contextlib import contextmanager

from qshift.errors import JobError
from qshift.executors.qiskit import digests, estimator, qiskit_internals
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.local_target import LocalTarget
from qshift.ledger import ledger as ledgers
from qshift.ledger.heartbeat import Heartbeat
from qshift.ledger.liveness import this_process

# How many jobs a batch has that measures expectation values and probabilities on a service.
MIXED = 2
if qiskit_internals.kinds:
    kinds = qiskit_internals.kinds([("estimator", 1), ("sampler", 1)], {})
    MIXED = len({kind for kind, _ in kinds})
NEVER = 1e6  # seconds between the signs of life of a process that is to be gone


class KilledError(BaseException):
    """Stands for the end of a process."""


class Service:
    """Keeps jobs when a process dies.

    Attributes:
        jobs: Id -> job.
        fate: What the next jobs come to: ``"done"``, ``"failed"``, ``"cancelled"``, ``"running"``.
        watch: Called with what is being done: ``"submit"``, ``"submitted"``, ``"status"``,
            ``"result"``.
    """

    def __init__(self):
        self.jobs = {}
        self.fate = "done"
        self.watch = lambda event: None


class RemoteJob:
    def __init__(self, service, local, tags):
        self.id, self.instance = f"job-{len(service.jobs)}", "here"
        self.tags, self.state, self.asked = tags, service.fate, 0
        self._local, self._service = local, service

    def status(self):
        self._service.watch("status")
        self.asked += 1
        return "queued" if self.asked == 1 else self.state

    def queue_position(self):
        return 3

    def result(self):
        self._service.watch("result")
        if self.state != "done":
            raise JobError(self.id, self.state, "the cryostat was warm")
        return self._local.result()

    def cancel(self):
        self.state = "cancelled"

    def usage(self):
        return 1.5


class RemoteTarget(LocalTarget):
    is_remote = True

    def __init__(self, service, level=None, options=None):
        super().__init__("aer", level, options or {})
        self.service = service

    def _idle_options(self):
        return []  # a service has a use for all of them

    def submit(self, submission):
        self.service.watch("submit")
        submission.sending()
        job = RemoteJob(self.service, super().submit(submission), submission.tags)
        self.service.jobs[job.id] = job
        self.service.watch("submitted")
        return job

    def job(self, job_id, instance=None, doubted=None, age=None):
        return self.service.jobs[job_id]

    def find(self, tag):
        return [job for job in self.service.jobs.values() if tag in job.tags]


def remote(service, **options):
    """Returns a device whose jobs are at a service."""
    device = EstimatorDevice(**options)
    level = options.get("optimization_level")
    device.target = RemoteTarget(service, level, device.target._options)
    return device


@contextmanager
def process(monkeypatch, name="1"):
    """What runs in here belongs to a process that is gone afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr(estimator, "_draws", digests.Draws())
        gone = f"{this_process().split()[0]} 99999999 {name}.0"
        patch.setattr(ledgers, "HEARTBEAT", Heartbeat(beat=NEVER, process=lambda: gone))
        leave = ledgers.Ledger.leave
        patch.setattr(ledgers.Ledger, "leave", lambda self, jobs: None)
        try:
            yield leave
        except KilledError:
            pass
