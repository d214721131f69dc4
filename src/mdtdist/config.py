"""Strict configuration: TOML files into frozen dataclasses, with overrides from the command line."""

import copy
import dataclasses
import difflib
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mdtdist.errors import InputError

T = TypeVar("T")


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: if the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as err:
        raise InputError(f"cannot read the config {path}: {err.strerror}; give the path of a TOML file") from err
    except tomllib.TOMLDecodeError as err:
        raise InputError(f"{path} is not valid TOML: {err}; mend the line it names") from err


def from_dict(cls: type[T], values: Any, *, where: str = "config") -> T:
    """Build a dataclass from nested mappings; unknown keys and wrong types are errors that name the nearest field.

    Raises:
        InputError: if ``values`` is no mapping, on an unknown key, a missing field or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is {values!r}; expected a table")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)
            raise InputError(f"unknown key '{key}' in {where}; did you mean '{near[0]}'?")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{where} lacks '{missing[0]}'; add it")
    built = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**built)
    except InputError:
        raise
    except ValueError as err:
        raise InputError(f"{where}: {err}") from err


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        # TOML has no null.
        is_none = value is None or (value == "none" and options[0] in (int, float))
        if len(options) > 1 and isinstance(value, Mapping) and all(map(dataclasses.is_dataclass, options)):
            return from_dict(_of_source(options, value, where), value, where=where)
        return None if is_none else _convert(options[0], value, where)
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where=where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where} is {value!r}; expected a list")
        element = get_args(kind)[0]
        return tuple(_convert(element, item, where) for item in value)
    if origin is dict or kind is dict or kind is Any:
        return value
    if origin is Literal:
        if value not in get_args(kind):
            expected = ", ".join(repr(option) for option in get_args(kind))
            raise InputError(f"{where} is {value!r}; expected one of {expected}")
        return value
    if kind is Path:
        if not isinstance(value, (str, Path)):
            raise InputError(f"{where} is {value!r}; expected a path")
        return Path(value).expanduser()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{where} is {value!r}; expected {kind.__name__}")
    return value


def _of_source(options: list[type], value: Mapping[str, Any], where: str) -> type:
    """Which of several dataclasses a table is for: the one whose field ``source`` has its default; else the first."""
    sources = {option.source: option for option in options}  # type: ignore[attr-defined]
    source = value.get("source", next(iter(sources)))
    if source not in sources:
        expected = ", ".join(map(repr, sources))
        raise InputError(f"{where}.source is {source!r}; expected one of {expected}")
    return sources[source]


def apply_overrides(values: dict[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """A copy of ``values`` with dotted keys replaced; each new value is read as TOML, else as a string.

    Raises:
        InputError: if a dotted key leads through something that is no table.
    """
    result = copy.deepcopy(values)
    for dotted, text in overrides.items():
        target = result
        *parents, last = dotted.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"cannot set '{dotted}': '{parent}' is {target!r}, not a table; name a field")
        try:
            target[last] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            target[last] = text
    return result
