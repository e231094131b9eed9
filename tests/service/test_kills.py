"""Programs that are killed while they talk to a service that has faults as well."""

import pytest

from service import Loopback
from service.kills import Killer


@pytest.fixture(scope="module")
def server():
    with Loopback("--delay", 0.1, "--seed", 1) as server:
        yield server


@pytest.mark.parametrize("aimed", [False, True])
def test_nothing_is_lost_or_paid_for_twice(aimed, server, thorough):
    """Killed at random moments, or in the POSTs of batches, whose answers are unclear then."""
    kills = 5 if thorough else 2
    killer = Killer(server, seed=1, steps=2 - aimed, underway=1.0 + 2 * aimed, aimed=aimed)
    try:
        report = killer.kill(kills)
    finally:
        killer.close()
    assert report.kills.total() == kills, report
    assert report.jobs >= 4 * report.programs, report
    assert (report.twice, report.lost, report.different) == (0, 0, 0), report
