"""Listeners hear of all threads while a block of theirs is open."""

import threading

import pytest

from qshift.listeners import Listener, listening, opened


class Ear(Listener):
    def __eq__(self, other):
        return isinstance(other, Ear)

    __hash__ = None


class Other(Listener):
    pass


def test_listeners_are_there_while_their_block_is_open():
    assert opened == []
    with Ear() as ear, Other() as other:
        assert listening(Ear) == [ear] and listening(Other)[0] is other
        assert listening(Listener)[0] is ear
    assert opened == []
    with pytest.raises(KeyError), Ear():
        raise KeyError
    assert opened == []


def test_two_blocks_of_one_listener_are_one():
    ear = Ear()
    with ear:
        with ear:
            assert len(listening(Ear)) == 1
        assert listening(Ear)[0] is ear
    assert listening(Ear) == []


def test_the_listener_itself_leaves_not_one_equal_to_it():
    first, second = Ear(), Ear()
    first.__enter__(), second.__enter__()
    second.__exit__(None, None, None)
    assert [each is first for each in opened] == [True]
    first.__exit__(None, None, None)


def test_all_threads_see_them():
    found = []
    with Ear() as ear:
        thread = threading.Thread(target=lambda: found.extend(listening(Ear)))
        thread.start()
        thread.join()
    assert found[0] is ear
