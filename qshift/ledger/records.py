"""Jobs and points, as the ledger keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Draft:
    """A job that is to be sent.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``.
        circuit: What it runs, in words.
        pubs: (key, angles) of its points, PUB by PUB. Angles are float64[P] as bytes.
        shots: Those of all its points and bases together; 0 for exact results.
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
        id: Its number in the ledger.
        tag: By this a service finds the job before its id is known.
        job_id: The service's id; None before it was sent.
        state: ``"intended"``, ``"submitted"``; ``"done"``, ``"failed"``, ``"cancelled"`` or
            ``"lost"``.
        target: Name of the backend.
        access: The names of the account and instance that it is reached by, as JSON.
        remote: Whether it runs on a service, and outlives the process.
        primitive, circuit, seed, shots: As in a `Draft`.
        run: Name of the run.
        points: The number of points that it measures.
        created: Unix time at which it was recorded.
        finished: Unix time at which it ended; None before.
        seconds: How long the quantum processor took.
        message: Why there are no results.
        owner: The process that is sending or simulating it; None if it is at a service.
        touched: Unix time of its owner's last sign of life. Other processes see that it changes;
            the number itself tells nothing, as clocks can be set.
        posts: How many requests to create it may have reached the service.
        posted: When the last of these began, see `qshift.ledger.liveness.moment`.
        instance: A digest of the service's instance that has it.
        is_sound: Whether the checksum matches, so that all this is as it was written.
        pubs: The keys of its points, PUB by PUB. Failed and cancelled jobs have none.
        angles: The angles of its points, in the order of `keys`: float64[P] as bytes.
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
        """The keys of its points, in order."""
        return [key for pub in self.pubs for key in pub]

    @property
    def sizes(self) -> list[int]:
        """The number of points in each PUB."""
        return [len(pub) for pub in self.pubs]


class Point(NamedTuple):
    """A point as it is recorded.

    Attributes:
        key: Identifies what is measured.
        job: The number of the job that measures it.
        pub: The PUB of the job that it is in.
        place: The row of the PUB.
        angles: float64[P] as bytes.
        result: What was measured; None before that.
        is_sealed: Whether all but the result is as it was written.
        is_sound: Whether the result is as well.
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
    """What is known of some points, and who measures the others.

    Attributes:
        results: Key -> what was measured.
        mine: New jobs, which the caller has to send.
        doubtful: Jobs of processes that have ended, which the caller has to send unless a service
            has them already. That is possible if they have `posts`.
        sent: Jobs that are at a service.
        others: Keys of points that another process, or another thread, is sending or simulating.
        elsewhere: The jobs among these whose processes cannot be looked up from here.
    """

    results: dict[bytes, bytes] = field(default_factory=dict)
    mine: list[Record] = field(default_factory=list)
    doubtful: list[Record] = field(default_factory=list)
    sent: list[Record] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    elsewhere: list[Record] = field(default_factory=list)
