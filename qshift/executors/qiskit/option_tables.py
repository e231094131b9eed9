"""Tables of the runtime client's options: dataclasses below 0.50, pydantic models since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from qshift.errors import OptionError
from qshift.inputs import did_you_mean

# Options of the runtime that qshift's own keywords take the place of.
_ELSEWHERE = {
    "default_shots": "give shots= to the device or the qnode",
    "default_precision": "give precision= or shots= to qshift.device",
    "seed_estimator": "give seed= to the qnode",
    "simulator.seed_simulator": "give seed= to the qnode",
    "max_execution_time": "give max_time= to qshift.device",
    "environment.max_execution_time": "give max_time= to qshift.device",
}


def _names(table: Any) -> list[str]:
    if isinstance(table, BaseModel):
        return list(type(table).model_fields)
    return [each.name for each in fields(table) if not each.name.startswith("_")]


def _is_table(value: Any) -> bool:
    return isinstance(value, BaseModel) or is_dataclass(value) and not isinstance(value, type)


def known(options: Mapping[str, Any], table: Any) -> dict[str, Any]:
    """Returns those of the options that a table has, on all levels."""
    kept = {}
    for name in _names(table):
        if name in options:
            value, inner = options[name], getattr(table, name)
            kept[name] = known(value, inner) if _is_table(inner) else value
    return kept


def check(options: Mapping[str, Any], estimator: Callable, *others: Callable) -> None:
    """Checks options before anything is submitted.

    Args:
        options: The Estimator's options, in nested tables.
        estimator: The class of the Estimator's options.
        *others: Classes of options that get those of them that they have.

    Raises:
        OptionError: For an option that does not exist, or a value that is not allowed.
    """
    _check_names(options, estimator())
    for make in (estimator, *others):
        for name, value in known(options, make()).items():
            try:
                make(**{name: value})
            except ValidationError as error:
                raise _invalid({name: value}, error) from error


def _invalid(options: Any, error: ValidationError) -> OptionError:
    """Returns an error that says which value is not allowed, and which values are."""
    found = error.errors(include_url=False)
    # An option may have values of several kinds; complaints about the other kinds help nobody.
    fault = next((each for each in found if each["type"] != "is_instance_of"), found[0])
    path: list[Any] = []
    value = options
    for part in fault["loc"]:  # names of options, and of the classes that check them
        if isinstance(value, Mapping) and part in value:
            path, value = [*path, part], value[part]
    return OptionError(".".join(path), f"got {value!r}: {fault['msg']}")


def _check_names(options: Mapping[str, Any], table: Any, above: Any = ()) -> None:
    """Raises OptionError for the first name that is not a field of options."""
    names = _names(table)
    for name, value in options.items():
        path = ".".join((*above, name))
        if path in _ELSEWHERE:
            raise OptionError(path, _ELSEWHERE[path])
        if name not in names:
            hint = did_you_mean(name, names)
            place = f"{'.'.join(above)} of Qiskit's Estimator" if above else "Qiskit's Estimator"
            shown = ", ".join(name for name in names if ".".join((*above, name)) not in _ELSEWHERE)
            raise OptionError(path, f"no such option{hint}; {place} has {shown}")
        inner = getattr(table, name)
        if _is_table(inner):
            if not isinstance(value, Mapping):
                raise OptionError(path, f"expected a table of options, got {value!r}")
            _check_names(value, inner, (*above, name))
