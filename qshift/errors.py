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

    # Where an error's class has this very method, TensorFlow raises an error of the same class with
    # a traceback of the code that a `tf.function` was made from, instead of a StagingError.
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
    """Raised for something that qshift cannot do exactly, and will not do approximately.

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
    """Raised for something that works in eager mode, but not while TensorFlow traces a function."""


class NoShiftRuleError(UnsupportedError):
    """Raised for a derivative by a gate parameter that no exact shift rule is known for.

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
    """Raised for an option that a device does not have, or a value that the option cannot have.

    Attributes:
        option: Its name, with dots between the levels of nested tables.
        reason: What is wrong, and the way out.
    """

    def __init__(self, option: str, reason: str) -> None:
        self.option, self.reason = option, reason
        super().__init__(f"{option}: {reason}")


class MissingExtraError(QShiftError, ImportError):
    """Raised where the packages of a feature are not installed; the message names their extra."""


class ServiceError(QShiftError):
    """Raised where a service did not do what it was asked for; the message says how to go on."""


class AccountError(ServiceError):
    """Raised where no account at a service is found, or the service refuses it."""


class JobError(ServiceError):
    """Raised for a job that failed, was cancelled, or no longer exists on its service.

    Attributes:
        job_id: The job.
        status: ``"failed"``, ``"cancelled"`` or ``"lost"``.
        reason: What the service says.
    """

    def __init__(self, job_id: str, status: str, reason: str, advice: str = "") -> None:
        self.job_id, self.status, self.reason = job_id, status, reason
        super().__init__(f"Job {job_id} {status}: {reason}. {advice}".rstrip())


class WorkerError(QShiftError):
    """Raised where workers cannot be used, or were lost; the message says how to go on."""


class LimitError(QShiftError):
    """Raised before something exceeds a limit that the user has set."""


class OpenQASMError(QShiftError, ValueError):
    """Raised for an OpenQASM circuit, or an observable, that cannot be read."""
