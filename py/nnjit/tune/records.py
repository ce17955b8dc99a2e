"""The tuning record: one schedule of one kernel, timed on one class of device. Text in, checked Record out, and back.

A record is a decision, never code. Both sides read it with `decode`, which refuses whatever `encode` would not have
written: other fields, types, names, sizes, numbers. docs/records.md says what is in it and what is not.

    r = Record("wasm", device.name, spec_text(spec), schedule, "timed", Timing.of(mine), Timing.of(default))
    decode(encode(r)) == r
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nnjit.codegen.schedule.steps import Schedule
from nnjit.errors import RecordError
from nnjit.tune import schedules
from nnjit.tune.device_class import is_device
from nnjit.tune.spectext import axes_of_text, check_text, public_text

FORMAT = 1
"""Of the record's fields. A reader refuses every other."""
COMPILER = 3
"""Raised when a step or a spec's text comes to mean something else; records of another number are not used."""
TARGETS = ("wasm", "webgpu")
VERDICTS = ("timed", "wrong", "trap", "timeout", "refused", "lost")
"""timed: right and measured. wrong: other numbers than the default. trap: it stopped with an error. timeout: not
done in its time. refused: not legal for the spec or the device. lost: the GPU device was gone after it."""
MAX_BYTES = 24 * 1024
"""Of one encoded record."""
MAX_US = 1e9
MAX_SAMPLES = 1_000_000
"""What a timing may say at most."""
FIELDS = ("compiler", "default", "device", "format", "key", "schedule", "spec", "target", "time", "verdict")
TIMING_FIELDS = ("median", "samples", "spread")


class Described(Protocol):
    """A KernelSpec, as far as a record needs one."""

    def describe(self) -> str: ...


def spec_text(spec: Described) -> str:
    """What a record says of a KernelSpec: `describe()` without its name and without the values of constants."""
    return public_text(spec.describe())


def spec_key(text: str) -> str:
    """The name of a spec's text: 32 hexadecimal digits of its sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of one call: median and interquartile range of `samples` readings, to three digits."""

    median: float
    spread: float
    samples: int

    @staticmethod
    def of(samples: Sequence[float]) -> Timing:
        """From single readings in microseconds; at least one."""
        s = sorted(samples)
        return Timing(rounded(_quantile(s, 0.5)), rounded(_quantile(s, 0.75) - _quantile(s, 0.25)), len(s))


@dataclass(frozen=True, slots=True)
class Record:
    """One candidate's outcome. RecordError when made of anything that `decode` would refuse.

    target: of TARGETS. device: a name by tune/device_class.py. spec: by `spec_text`. time and default: the
    candidate's and the default schedule's timing from the same run; both there if the verdict is "timed",
    neither otherwise.
    """

    target: str
    device: str
    spec: str
    schedule: Schedule
    verdict: str
    time: Timing | None = None
    default: Timing | None = None
    compiler: int = COMPILER

    def __post_init__(self) -> None:
        _check(self)

    @property
    def key(self) -> str:
        return spec_key(self.spec)

    @property
    def ratio(self) -> float:
        """Time over the default's time: below 1 is faster; infinite for a candidate that failed."""
        if self.time is None or self.default is None:
            return math.inf
        return self.time.median / self.default.median

    def to_json(self) -> dict[str, Any]:
        """The fields of docs/records.md, as JSON takes them."""
        return {
            "format": FORMAT,
            "compiler": self.compiler,
            "target": self.target,
            "device": self.device,
            "spec": self.spec,
            "key": self.key,
            "schedule": schedules.to_json(self.schedule),
            "verdict": self.verdict,
            "time": _timing_json(self.time),
            "default": _timing_json(self.default),
        }


def encode(record: Record) -> str:
    """The record as one line of JSON; equal records give equal lines."""
    return canonical_json(record.to_json())


def decode(text: str | bytes) -> Record:
    """The record in a line of JSON. RecordError, with the path of the field, for all else."""
    if len(text) > MAX_BYTES:
        raise RecordError(f"a record has at most {MAX_BYTES} bytes, not {len(text)}")
    return from_json(parse_json(text))


def from_json(value: object) -> Record:
    """The record in parsed JSON; RecordError for all else."""
    fields = _fields(value, FIELDS, "record")
    _require(_is(fields["format"], int) and fields["format"] == FORMAT, "format", fields["format"])
    for name in ("target", "device", "spec", "key", "verdict"):
        _require(_is(fields[name], str), name, fields[name])
    record = Record(
        fields["target"],
        fields["device"],
        fields["spec"],
        schedules.from_json(fields["schedule"]),
        fields["verdict"],
        _timing(fields["time"], "time"),
        _timing(fields["default"], "default"),
        fields["compiler"],
    )
    _require(record.key == fields["key"], "key", fields["key"])
    return record


def decode_lines(text: str, limit: int = 10_000) -> tuple[list[Record], list[RecordError]]:
    """Records of JSON lines, the first `limit` of them; lines that hold none come back as their errors."""
    good: list[Record] = []
    bad: list[RecordError] = []
    for line in text.splitlines()[:limit]:
        if line.strip() and not line.startswith("#"):
            try:
                good.append(decode(line))
            except RecordError as error:
                bad.append(error)
    return good, bad


def encode_lines(records: Iterable[Record]) -> str:
    return "".join(encode(r) + "\n" for r in records)


def canonical_json(value: object) -> str:
    """One spelling for each value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_json(text: str | bytes) -> object:
    """JSON without its loose ends: no repeated key, no NaN or Infinity. RecordError otherwise."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key is there twice")
        return made

    def constant(name: str) -> object:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RecordError(f"not JSON: {str(error)[:100]}") from None


def rounded(x: float) -> float:
    """Three significant digits: enough to compare, too few to tell one machine from the next."""
    return float(f"{x:.3g}")


def _quantile(ordered: Sequence[float], q: float) -> float:
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _check(r: Record) -> None:
    _require(_is(r.compiler, int) and 0 < r.compiler < 10_000, "compiler", r.compiler)
    _require(r.target in TARGETS, "target", r.target)
    _require(is_device(r.device, r.target), "device", r.device)
    check_text(r.spec)
    _require(r.verdict in VERDICTS, "verdict", r.verdict)
    timed = r.verdict == "timed"
    for path, timing in (("time", r.time), ("default", r.default)):
        _require((timing is not None) == timed, path, timing)
        if timing is not None:
            _check_timing(timing, path)
    unknown = schedules.axes_of(r.schedule) - axes_of_text(r.spec)
    _require(not unknown, "schedule", sorted(unknown))


def _check_timing(t: Timing, path: str) -> None:
    for name, low in (("median", 1e-4), ("spread", 0.0)):
        x = getattr(t, name)
        fits = isinstance(x, float) and low <= x <= MAX_US and rounded(x) == x
        _require(fits, f"{path}.{name}", x)
    _require(_is(t.samples, int) and 0 < t.samples <= MAX_SAMPLES, f"{path}.samples", t.samples)


def _timing(value: object, path: str) -> Timing | None:
    if value is None:
        return None
    fields = _fields(value, TIMING_FIELDS, path)
    for name in ("median", "spread"):
        x = fields[name]
        _require((_is(x, float) or _is(x, int)) and abs(x) <= MAX_US, f"{path}.{name}", x)
    return Timing(float(fields["median"]), float(fields["spread"]), fields["samples"])


def _timing_json(t: Timing | None) -> dict[str, Any] | None:
    return None if t is None else {"median": t.median, "spread": t.spread, "samples": t.samples}


def _fields(value: object, names: Sequence[str], path: str) -> dict[str, Any]:
    if type(value) is not dict or set(value) != set(names):
        raise RecordError(f"{path} is an object of {', '.join(names)}", path=path)
    return value


def _is(value: object, kind: type) -> bool:
    """Of exactly this type: True is an int only to isinstance."""
    return type(value) is kind


def _require(holds: bool, path: str, got: object) -> None:
    if not holds:
        shown = re.sub(r"[^ -~]", "?", repr(got))[:60]
        raise RecordError(f"{path} may not be {shown}", path=path, got=shown)
