"""A flag is set for one thread, within a block."""

import threading

import pytest

from qshift.thread_flags import ThreadFlag


def test_a_flag_is_set_within_a_block():
    flag = ThreadFlag()
    assert not flag.is_set
    with flag.set():
        with flag.set():
            assert flag.is_set
        assert flag.is_set
    with pytest.raises(KeyError), flag.set():
        raise KeyError
    assert not flag.is_set


def test_other_threads_and_flags_know_nothing_of_it():
    flag, other, seen = ThreadFlag(), ThreadFlag(), []
    with flag.set():
        thread = threading.Thread(target=lambda: seen.append(flag.is_set))
        thread.start()
        thread.join()
        assert seen == [False] and not other.is_set
