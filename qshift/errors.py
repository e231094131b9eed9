"""Errors that say what was given, what was expected, and the way out."""

from __future__ import annotations


class QShiftError(Exception):
    """Base class of qshift's own errors."""

    # By this TensorFlow sees that it can make another one of the same class, with a traceback of
    # the code that a `tf.function` was made from; it would raise a StagingError instead.
    __init__ = Exception.__init__


class UnsupportedError(QShiftError, ValueError):
    """Something that qshift cannot do exactly, and will not do approximately."""


class NoShiftRuleError(UnsupportedError):
    """A derivative by a gate parameter that no exact shift rule is known for."""


class OptionError(UnsupportedError):
    """An option that a device does not have, or not with this value.

    Attributes:
        option: Its name, with dots between the levels of nested tables.
        reason: What is wrong, and the way out.
    """

    def __init__(self, option: str, reason: str):
        self.option, self.reason = option, reason
        super().__init__(f"{option}: {reason}")


class JobError(QShiftError, RuntimeError):
    """A job that gave no results.

    Attributes:
        state: ``"failed"`` or ``"cancelled"``.
    """

    def __init__(self, state: str, reason: str):
        self.state = state
        super().__init__(reason)
