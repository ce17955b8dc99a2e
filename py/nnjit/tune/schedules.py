"""Schedules as plain data: takes a Schedule, gives a list of {"step": name, field: value, ...}, and back.

Written over the dataclasses of codegen/schedule/steps.py: a new step or field needs no line here. Reading is
strict, because what it reads may come from anyone: no unknown or missing field, no other type, no large value.
"""

from __future__ import annotations

import dataclasses
import re
import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nnjit.codegen.schedule import steps
from nnjit.codegen.schedule.steps import Schedule
from nnjit.errors import RecordError

MAX_STEPS = 64
MAX_ITEMS = 32
INT_LIMIT = 1 << 31
"""Of a schedule, of a tuple in a step, and of every number: what none comes near that was made here."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,11}[./']{0,3}")
"""What a step may call an axis: also the loops that steps make of it (`m/` is the loop over blocks of `m`)."""


def to_json(schedule: Schedule) -> list[dict[str, Any]]:
    """[Tile("m", 6)] -> [{"step": "Tile", "axis": "m", "factor": 6}]; every field, tuples as lists."""
    return [
        {
            "step": type(step).__name__,
            **{f.name: _plain(getattr(step, f.name)) for f in dataclasses.fields(step)},
        }
        for step in schedule
    ]


def from_json(value: object) -> Schedule:
    """The schedule that `to_json` made this from; RecordError, with the place, for anything else.

    That the steps fit a spec is not known here: `apply` says so, by ScheduleError.
    """
    if type(value) is not list or len(value) > MAX_STEPS:
        raise RecordError(f"a schedule is a list of at most {MAX_STEPS} steps", path="schedule")
    return tuple(_step(item, f"schedule[{i}]") for i, item in enumerate(value))


def axes_of(schedule: Schedule) -> set[str]:
    """The spec's axes that a schedule names, without the marks of loops made from them."""
    names = set()
    for step in schedule:
        for name, value in _values(step):
            if name in ("axis", "axes"):
                names |= {value} if isinstance(value, str) else set(value)
    return {name.rstrip("./'") for name in names}


def _values(step: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(step, f.name)) for f in dataclasses.fields(step)]


@cache
def known_steps() -> dict[str, type[Any]]:
    """The step classes by name, as the Step union lists them."""
    return {kind.__name__: kind for kind in get_args(steps.Step)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _step(value: object, path: str) -> Any:
    if type(value) is not dict:
        raise RecordError(f"{path} is not an object", path=path)
    name = value.get("step")
    kind = known_steps().get(name) if type(name) is str else None
    if kind is None:
        raise RecordError(f"{path}: no such step; one of {', '.join(known_steps())}", path=path)
    return _object(kind, {k: v for k, v in value.items() if k != "step"}, path)


def _object(kind: type[Any], value: dict[str, object], path: str) -> Any:
    fields = {f.name for f in dataclasses.fields(kind)}
    if set(value) != fields:
        odd = sorted(map(str, set(value) ^ fields))[:3]
        raise RecordError(f"{path}: {kind.__name__} has fields {sorted(fields)}; see {odd}", path=path)
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], item, f"{path}.{name}") for name, item in value.items()})


def _read(hint: Any, value: object, path: str) -> Any:
    """`value` as the annotation says it is: no conversion, except that a list becomes a tuple."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is bool and type(value) is bool:
        return value
    if hint is int and type(value) is int and -INT_LIMIT <= value < INT_LIMIT:
        return value
    if hint is str and type(value) is str and (value == "" or NAME.fullmatch(value)):
        return value
    if hint in (None, type(None)) and value is None:
        return None
    if origin is Literal and type(value) in (str, int) and value in args:
        return value
    if origin is tuple and type(value) is list and len(value) <= MAX_ITEMS:
        if len(args) == 2 and args[1] is ...:
            return tuple(_read(args[0], item, f"{path}[{i}]") for i, item in enumerate(value))
        if len(args) == len(value):
            pairs = zip(args, value, strict=True)
            return tuple(_read(a, item, f"{path}[{i}]") for i, (a, item) in enumerate(pairs))
    if origin in (Union, types.UnionType):
        for choice in args:
            try:
                return _read(choice, value, path)
            except RecordError:
                continue
    if dataclasses.is_dataclass(hint) and type(value) is dict:
        return _object(hint, value, path)  # type: ignore[arg-type]
    shown = repr(value)[:40]
    raise RecordError(f"{path} may not be {shown}", path=path, got=shown)
