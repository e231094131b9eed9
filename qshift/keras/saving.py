"""How a saved model names the qnodes of its layers, and finds them again when it is loaded.

The file of a model holds a name for each qnode, never code: the name that `register` gave, or that
of the quantum function. A qnode that cannot be found by a name can be copied and pickled with its
model (`copies`), but a model with such a qnode cannot be saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import pennylane as qml

from qshift.keras.copies import give, take


def register(
    qnode: qml.QNode | None = None, *, package: str = "Custom", name: str | None = None
) -> Callable | qml.QNode:
    """Decorates a qnode so that saved models find it again when they are loaded.

    The file of a model holds the qnode's name, never its code. The process that loads the model
    has to import the module that defines the qnode. The decorator also takes arguments:
    ``register(package=..., name=...)``.
    `keras.saving.register_keras_serializable` does the same, without the checks.

    Args:
        qnode: The qnode.
        package: The package of the name, as in Keras.
        name: The name; that of the quantum function if not given.

    Raises:
        TypeError: If `qnode` is not a qnode.
        ValueError: If another quantum function has this name already, or if no name is given for a
            lambda.

    Example:
        >>> @qshift.keras.register
        ... @qshift.qnode(qshift.device("simulator"))
        ... def circuit(inputs, weights):
        ...     qml.RX(inputs[0] + weights, wires=0)
        ...     return qml.expval(qml.Z(0))
    """
    if qnode is None:
        return lambda qnode: register(qnode, package=package, name=name)
    if not isinstance(qnode, qml.QNode):
        raise TypeError(
            f"register takes a qnode, got {type(qnode).__name__}. Put @qshift.keras.register above "
            "@qshift.qnode(device), not below it."
        )
    if name is None and qnode.__name__ == "<lambda>":
        raise ValueError("A lambda has no name to find it by. Give register(name=...).")
    registered = f"{package}>{name or qnode.__name__}"
    earlier = keras.saving.get_registered_object(registered)
    # Running a notebook's cell again defines the same function again.
    if earlier is not None and _home(earlier) != _home(qnode):
        raise ValueError(
            f"{_home(qnode)} cannot be registered as {registered!r}, which is {_home(earlier)} "
            "already. Give register(name=...) or register(package=...)."
        )
    return keras.saving.register_keras_serializable(package, name)(qnode)


def _home(qnode: qml.QNode) -> str:
    return f"{qnode.__module__}.{qnode.__qualname__}"


class _Reference:
    """An object that stands for a qnode in settings, which Keras copies deeply."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class _Name(_Reference, str):
    """The name of a qnode that is not registered.

    A file keeps the name only, so the qnode has to be given when the model is loaded. Settings that
    stay in memory, as for `keras.models.clone_model`, have the qnode as well.
    """

    qnode: qml.QNode


@dataclass
class _Nameless(_Reference):
    """A qnode that cannot be found by a name. Settings that stay in memory have the qnode, but they
    cannot be saved."""

    qnode: qml.QNode
    reason: str

    def get_config(self) -> Any:
        raise ValueError(
            f"A model with the qnode {_home(self.qnode)} cannot be saved: it would not be found "
            f"again when loading, as it {self.reason}. Decorate it with @qshift.keras.register "
            "(for a lambda, register(name=...)), or save the weights only, with model.save_weights."
        )


def reference(qnode: qml.QNode) -> str | _Nameless:
    """Returns the name or object that stands for a qnode in the settings of a layer."""
    name = keras.saving.get_registered_name(qnode)
    if keras.saving.get_registered_object(name) is qnode:
        return name
    handed = give(qnode)
    if handed is not None:
        return handed
    if name != qnode.__name__:
        return _Nameless(qnode, "was registered anew since")
    if "<lambda>" in qnode.__qualname__ or "<locals>" in qnode.__qualname__:
        return _Nameless(qnode, "is not registered")
    reference = _Name(name)
    reference.qnode = qnode
    return reference


def found(name: Any, layer: str | None) -> qml.QNode:
    """Returns the qnode that a layer's settings name.

    Args:
        name: What `reference` returned, or, in a file, its text.
        layer: The name of the layer, for messages.

    Raises:
        ValueError: If no qnode has this name.
    """
    qnode = getattr(name, "qnode", None) or take(name) or keras.saving.get_registered_object(name)
    if qnode is None:
        raise ValueError(
            f"The layer {layer!r} was saved with a qnode called {name!r}, which "
            "is not registered. Import the module that defines it, decorated with "
            "@qshift.keras.register, or load with "
            f"custom_objects={{{name!r}: the_qnode}}."
        )
    return qnode
