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
        circuit: What it runs, for people.
        pubs: (key, angles) of its points, PUB by PUB. Angles are float64[P] as bytes.
        shots: Of all its points and bases; 0 for exact results.
        seed: Of a simulator.
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
        tag: By which a service finds it.
        job_id: Where it runs; None before it was sent.
        state: ``"intended"``, ``"submitted"``; ``"done"``, ``"failed"``, ``"cancelled"`` or
            ``"lost"``.
        target: Name of the backend.
        access: By which account and instance of the service it is reached: their names, as JSON.
        remote: Whether it outlives the process.
        primitive, circuit, seed, shots: As in a `Draft`.
        run: Name of the run.
        points: How many it measures.
        created: Unix time, for people.
        finished: Unix time, for people.
        seconds: That the quantum processor took.
        message: Why there are no results.
        owner: The process that is sending it, or running it; None if it is at a service.
        touched: Unix time at which its owner has last said that it is still at it. Others see by
            its changes that the owner lives; what it is says nothing, as clocks are set.
        posts: How many requests to create it may have reached the service.
        posted: When the last of them began, see `qshift.ledger.liveness.moment`.
        instance: A digest of the instance of the service that has it.
        is_sound: Whether all this is as it was written.
        pubs: Keys of the points, PUB by PUB; those of failed and cancelled jobs are free again.
        angles: Of the points, in the order of `keys`: float64[P] as bytes.
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
    """How things stand with the points that somebody wants.

    Attributes:
        results: Key -> what was measured.
        mine: Jobs to be sent by whoever made these claims.
        doubtful: The same, of processes that are gone. If there were `posts`, a service may have
            them already.
        sent: Jobs that are at a service.
        others: Keys that another process, or another thread, is about to send, or is simulating.
        elsewhere: Jobs of these that are sent by processes which cannot be looked up.
    """

    results: dict[bytes, bytes] = field(default_factory=dict)
    mine: list[Record] = field(default_factory=list)
    doubtful: list[Record] = field(default_factory=list)
    sent: list[Record] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    elsewhere: list[Record] = field(default_factory=list)
