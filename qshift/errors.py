"""Errors that say what was given, what was expected, and the way out."""

from __future__ import annotations


class QShiftError(Exception):
    """Base class of qshift's own errors."""


class UnsupportedError(QShiftError, ValueError):
    """Something that qshift cannot do exactly, and will not do approximately."""


class NoShiftRuleError(UnsupportedError):
    """A derivative by a gate parameter that no exact shift rule is known for."""
