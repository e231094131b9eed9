"""Jobs and points, as the ledger keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Draft:
    """A job that is to be sent.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``, or that of each PUB with commas between.
        circuit: A text that describes the circuits.
        pubs: (key, angles) of the job's points, PUB by PUB. Angles are float64[P] as bytes.
        shots: The shots of all points and bases together; 0 for exact results.
        seed: The seed of a simulator.
    """

    primitive: str
    circuit: str
    pubs: Sequence[Sequence[tuple[bytes, bytes]]]
    shots: int
    seed: int | None


@dataclass(frozen=True)
class Record:
    """A job as it is recorded.

    Attributes:
        id: The job's number in the ledger.
        tag: The tag by which the job is found on its service before its id is known.
        job_id: The service's id; None before the job was sent.
        state: ``"intended"``, ``"submitted"``; ``"done"``, ``"failed"``, ``"cancelled"`` or
            ``"lost"``.
        target: Name of the backend.
        access: The names of the account and instance by which the job is reached, as JSON.
        remote: Whether the job runs on a service, and outlives the process.
        primitive, circuit, seed, shots: As in a `Draft`.
        run: Name of the run.
        points: The number of points that the job measures.
        created: Unix time at which the job was recorded.
        finished: Unix time at which the job ended; None before.
        seconds: QPU seconds of the job.
        message: Why there are no results.
        owner: The process that is sending or simulating the job; None if it is at a service.
        touched: Unix time of the owner's last sign of life. Other processes only notice that it
            changes, and do not compare it with their clocks, which can be set.
        posts: How many requests to create the job may have reached the service.
        posted: When the last of these requests began, see `qshift.ledger.liveness.moment`.
        instance: A digest of the service's instance that has the job.
        is_sound: Whether the checksum matches, so that the row is as it was written.
        pubs: The keys of the job's points, PUB by PUB. Failed and cancelled jobs have none.
        angles: The angles of the job's points, in the order of `keys`: float64[P] as bytes.
    """

    id: int
    tag: str
    job_id: str | None
    state: str
    target: str
    access: str
    remote: bool
    primitive: str
    circuit: str
    run: str
    seed: int | None
    shots: int
    points: int
    created: float
    finished: float | None
    seconds: float | None
    message: str | None
    owner: str | None
    touched: float
    posts: int
    posted: str | None
    instance: str | None
    is_sound: bool
    pubs: tuple[tuple[bytes, ...], ...]
    angles: tuple[bytes, ...]

    @property
    def keys(self) -> list[bytes]:
        """The keys of the job's points, in order."""
        return [key for pub in self.pubs for key in pub]

    @property
    def sizes(self) -> list[int]:
        """The number of points in each PUB."""
        return [len(pub) for pub in self.pubs]


class Point(NamedTuple):
    """A point as it is recorded.

    Attributes:
        key: Identifies the measurement.
        job: The number of the job that measures the point.
        pub: The PUB of the job that has the point.
        place: The row of the PUB.
        angles: float64[P] as bytes.
        result: The result; None before the point was measured.
        is_sealed: Whether everything but the result is as it was written.
        is_sound: Whether the result is as it was written, too.
    """

    key: bytes
    job: int
    pub: int
    place: int
    angles: bytes
    result: bytes | None
    is_sealed: bool
    is_sound: bool


@dataclass
class Claims:
    """The results of some points, and the jobs that measure the others.

    Attributes:
        results: Key -> result.
        mine: New jobs, which the caller has to send.
        doubtful: Jobs of processes that have ended. The caller has to send those that are not on
            their service; jobs with `posts` may be there.
        sent: Jobs that are at a service.
        others: Keys of points that another process, or another thread, is sending or simulating.
        elsewhere: The jobs of `others` whose processes cannot be looked up from here.
    """

    results: dict[bytes, bytes] = field(default_factory=dict)
    mine: list[Record] = field(default_factory=list)
    doubtful: list[Record] = field(default_factory=list)
    sent: list[Record] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    elsewhere: list[Record] = field(default_factory=list)
