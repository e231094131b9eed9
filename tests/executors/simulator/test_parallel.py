import os
import time

import pytest

from qshift import fallbacks
from qshift.errors import SlowerWarning
from qshift.executors.simulator.parallel import spread
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds


def square(x):
    return x**2, os.getpid()


def leave_a_mark(x, mark):
    mark.touch()
    return square(x)


def fail(x):
    raise RuntimeError("not here")


def die(x):
    os._exit(1)


IMPATIENT = Thresholds(patience=0.0, processes=2)


def squares(chunks, there, here=square, thresholds=DEFAULT):
    found = dict(spread(chunks, here, there, thresholds))
    assert {x: y for x, (y, _) in found.items()} == {x: x**2 for x in chunks}
    return {process for _, process in found.values()}


def test_short_batches_stay_here():
    assert squares(range(20), lambda x: (square, x)) == {os.getpid()}


def test_no_chunks():
    assert list(spread([], square, lambda x: (square, x))) == []


def test_long_batches_are_shared(tmp_path):
    mark = tmp_path / "mark"

    def slow_square(x):
        if not mark.exists():  # there must be something left to do when the other process is up
            time.sleep(0.05)
        return square(x)

    processes = squares(range(2000), lambda x: (leave_a_mark, x, mark), slow_square, IMPATIENT)
    assert len(processes) == 2 and os.getpid() in processes


def test_one_core_is_not_shared():
    alone = Thresholds(patience=0.0, processes=1)
    assert squares(range(20), lambda x: (square, x), thresholds=alone) == {os.getpid()}


@pytest.mark.parametrize("there", [lambda x: (fail, x), lambda x: (die, x), lambda x: 1 / 0])
def test_what_fails_elsewhere_is_computed_here(there):
    fallbacks._warn_once.cache_clear()
    with pytest.warns(SlowerWarning, match="runs in this process alone"):
        assert squares(range(20), there, thresholds=IMPATIENT) == {os.getpid()}


def test_what_fails_here_fails():
    with pytest.raises(RuntimeError, match="not here"):
        list(spread(range(20), fail, lambda x: (fail, x), IMPATIENT))
