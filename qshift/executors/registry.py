"""Which executor runs circuits on a device: looked up by the device's name.

A device of your own takes one class, which runs its circuits, and one line:

    >>> from qshift.executors.executor import Executor
    >>> from qshift.executors.registry import register
    >>> class MyExecutor(Executor):
    ...     def run(self, circuit, points, call):
    ...         return [self.device.values(tape) for tape in circuit.bind_each(points)]
    >>> register("my.device", MyExecutor)

From then on, `qshift.qnode` uses this class for each device whose `name` is ``"my.device"``. Of
other devices, default.qubit and lightning.qubit are replaced by the embedded simulator, and the
rest run through PennyLane's public interface.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from qshift.circuits.pennylane_internals import is_own_simulator
from qshift.executors.executor import Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.simulator.simulator import SimulatorExecutor

_Maker = TypeVar("_Maker", bound=Callable[[Any, Any], Executor])


def register(name: str, maker: _Maker | None = None) -> Callable:
    """Registers the executor that runs circuits on devices of a name.

    The last registration of a name holds: a cell of a notebook may be run again, and another
    executor may replace one of qshift's own. QNodes keep the executor that they were made with.

    Args:
        name: The device's `name`, such as ``"lightning.qubit"``.
        maker: A subclass of `Executor`, or a function that returns one; called with a device and a
            seed, which is None for fresh samples. Without it, this is a decorator.

    Returns:
        The maker, or the decorator of it.

    Raises:
        TypeError: If the name is not a string, or the maker cannot be called.

    Example:
        >>> from qshift.executors.executor import Executor
        >>> from qshift.executors.registry import register
        >>> @register("my.device")
        ... class MyExecutor(Executor): ...
    """
    if not isinstance(name, str):
        raise TypeError(
            f'register() was given {name!r} as the name of a device. Give both: @register("NAME") '
            'or register("NAME", MyExecutor).'
        )
    if maker is None:
        return lambda found: register(name, found)
    if not callable(maker):
        raise TypeError(
            f"register({name!r}, ...) was given {maker!r}. Give a subclass of "
            "qshift.executors.executor.Executor, or a function of a device and a seed."
        )
    _makers[name] = maker
    return maker


def executor(device: Any, seed: int | None = None, embedded: bool = True) -> Executor:
    """Returns the executor that runs circuits on a PennyLane device.

    Args:
        device: The device.
        seed: Seed of the samples; None for fresh ones.
        embedded: Whether the embedded simulator may take the place of the device, if the device is
            PennyLane's own simulator of the same states and nothing is registered for its name.

    Raises:
        TypeError: If the maker that was registered for the device does not return an `Executor`.
    """
    general = SimulatorExecutor if embedded and is_own_simulator(device) else PennyLaneExecutor
    maker = _makers.get(device.name, general)
    made = _made(maker, device, seed)
    workers = getattr(device, "qshift_workers", None)
    if workers is None or made.uses_workers:
        return made
    # Late: most programs have no workers.
    from qshift.executors.workers.shared_batches import WorkersExecutor

    return WorkersExecutor(made, partial(_made, maker), workers)


def _made(maker: Callable[[Any, Any], Executor], device: Any, seed: Any) -> Executor:
    made = maker(device, seed)
    if not isinstance(made, Executor):
        raise TypeError(
            f"What is registered for the device {device.name} made {made!r}. Let it return an "
            "instance of qshift.executors.executor.Executor."
        )
    return made


def _estimator(device: Any, seed: Any) -> Executor:
    from qshift.executors.qiskit.estimator import EstimatorExecutor  # Late: Qiskit takes a second.

    return EstimatorExecutor(device, seed)


# Name of a device -> the function or class that makes its executor. There is one table for the
# process, because importing a module with an executor registers it for all qnodes.
_makers: dict[str, Callable[[Any, Any], Executor]] = {
    "qshift.estimator": _estimator,
}
