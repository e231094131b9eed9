"""Errors that say what was given, what was expected, and the way out."""

from __future__ import annotations


class QShiftError(Exception):
    """Base class of qshift's own errors.

    Example:
        >>> try:
        ...     qshift.device("nowhere")
        ... except qshift.QShiftError as error:
        ...     print(type(error).__name__)
        ProfileError
    """

    # By this TensorFlow sees that it can make another one of the same class, with a traceback of
    # the code that a `tf.function` was made from; it would raise a StagingError instead.
    __init__ = Exception.__init__


class QShiftWarning(UserWarning):
    """Base class of qshift's own warnings.

    Example:
        >>> import warnings
        >>> warnings.filterwarnings("ignore", category=qshift.QShiftWarning)
    """


class SlowerWarning(QShiftWarning):
    """Something runs in a slower way than it could; results are the same.

    Each reason is given once in a process.

    Example:
        >>> import warnings
        >>> warnings.filterwarnings("error", category=qshift.SlowerWarning)  # to find out where
    """


class UnsupportedError(QShiftError, ValueError):
    """Something that qshift cannot do exactly, and will not do approximately.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"))
        ... def entropy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.purity(wires=0)
        >>> entropy(tf.constant(0.1))
        Traceback (most recent call last):
        qshift.errors.UnsupportedError: Purity (...) has no derivatives by shifted circuits, ...
    """


class UntraceableError(UnsupportedError):
    """Something that works eagerly, but not while TensorFlow traces a function."""


class NoShiftRuleError(UnsupportedError):
    """A derivative by a gate parameter that no exact shift rule is known for.

    Example:
        >>> class Squared(qml.operation.Operation):
        ...     num_wires = num_params = 1
        ...
        ...     @staticmethod
        ...     def compute_matrix(x):
        ...         return qml.RX.compute_matrix(x**2)
        >>> @qshift.qnode(qshift.device("default-qubit"))
        ... def squared(x):
        ...     Squared(x, wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> qshift.derivatives(squared, tf.constant(0.1), order=1)
        Traceback (most recent call last):
        qshift.errors.NoShiftRuleError: ...Squared...
    """


class OptionError(UnsupportedError):
    """An option that a device does not have, or not with this value.

    Attributes:
        option: Its name, with dots between the levels of nested tables.
        reason: What is wrong, and the way out.
    """

    def __init__(self, option: str, reason: str) -> None:
        self.option, self.reason = option, reason
        super().__init__(f"{option}: {reason}")


class MissingExtraError(QShiftError, ImportError):
    """A feature whose packages are not installed; the message names the extra that has them."""


class ServiceError(QShiftError):
    """A service that did not do what it was asked for; the message says how to go on."""


class AccountError(ServiceError):
    """No account at a service, or one that it refuses."""


class JobError(ServiceError):
    """A job that failed, was cancelled, or is not there any more on a service.

    Attributes:
        job_id: The job.
        status: ``"failed"``, ``"cancelled"`` or ``"lost"``.
        reason: What the service says.
    """

    def __init__(self, job_id: str, status: str, reason: str, advice: str = "") -> None:
        self.job_id, self.status, self.reason = job_id, status, reason
        super().__init__(f"Job {job_id} {status}: {reason}. {advice}".rstrip())


class LimitError(QShiftError):
    """More than a limit that the user has set."""


class OpenQASMError(QShiftError, ValueError):
    """A circuit or an observable that cannot be read."""
