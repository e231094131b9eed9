"""Sharing PUBs out among jobs: everything once, no limit exceeded, no job too many."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qshift.errors import UnsupportedError
from qshift.executors.qiskit.job_splitting import Limits, Load, pack

loads = st.lists(
    st.builds(
        Load,
        rows=st.integers(0, 20),
        values=st.integers(0, 5),
        executions=st.integers(0, 50),
        size=st.integers(0, 60),
        seconds=st.floats(0, 2),
    ),
    max_size=6,
)
limits = st.builds(
    Limits,
    values=st.integers(5, 30),
    executions=st.integers(50, 200),
    pubs=st.sampled_from([1, 2, math.inf]),
    payload=st.integers(115, 400),
    seconds=st.sampled_from([2.0, 7.5, math.inf]),
)


def used(job, loads):
    """What a job holds: values, executions, PUBs, bytes, seconds."""
    total = [0, 0, len(job), 0, 0.0]
    for i, first, last in job:
        load, rows = loads[i], last - first
        total[0] += rows * load.values
        total[1] += rows * load.executions
        total[3] += load.size + 11 * rows * load.values
        total[4] += rows * load.seconds
    return total


@given(loads, limits)
@settings(deadline=None)
def test_everything_is_shared_out_once_and_within_the_limits(loads, limits):
    jobs = pack(loads, limits)
    rows = [[] for _ in loads]
    for job in jobs:
        assert job
        for i, first, last in job:
            assert first < last
            rows[i] += range(first, last)
        most = (limits.values, limits.executions, limits.pubs, limits.payload, limits.seconds)
        for amount, limit in zip(used(job, loads), most, strict=True):
            assert amount <= limit * (1 + 1e-9)
    assert rows == [list(range(load.rows)) for load in loads]


@pytest.mark.parametrize(
    "load, limits, jobs",
    [
        (Load(10, 2, 0), Limits(6, 1), 4),
        (Load(10, 0, 100), Limits(1, 300), 4),
        (Load(10, 1, 0, 20), Limits(99, 1, payload=64), 3),  # 20 + 4 * 11
        (Load(10, 0, 0, 0, 0.1), Limits(1, 1, seconds=1.0), 1),
        (Load(10, 0, 0, 0, 0.1), Limits(1, 1, seconds=0.3), 4),
        (Load(10, 0, 0), Limits(1, 1), 1),
        (Load(0, 5, 5), Limits(9, 9), 0),
    ],
)
def test_one_pub_takes_the_fewest_jobs(load, limits, jobs):
    assert len(pack([load], limits)) == jobs


def test_pubs_of_a_job():
    loads = [Load(2, 1, 1)] * 5
    assert len(pack(loads, Limits(99, 99, pubs=2))) == 3
    assert len(pack(loads, Limits(99, 99))) == 1


@pytest.mark.parametrize(
    "load, message",
    [
        (Load(1, 7, 1), "takes 7 parameter values, but one job takes 6. .* max_parameter_values="),
        (Load(1, 1, 9), r"takes 9 executions \(.*\), but one job takes 8. .* max_executions="),
        (Load(1, 1, 1, 1100), "takes 1,111 bytes, but one job takes 1,000. .* max_payload="),
        (Load(1, 5, 1, 950), "takes 1,005 bytes"),
        (Load(1, 1, 1, 1, 3.25), "takes 3.25 QPU seconds, but one job takes 2. .* max_time="),
    ],
)
def test_what_no_job_can_hold_is_an_error(load, message):
    with pytest.raises(UnsupportedError, match=message):
        pack([load], Limits(6, 8, payload=1000, seconds=2.0))
