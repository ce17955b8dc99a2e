"""Early: what a plan for a GPU needs at load, told while its kernels are still written.

Takes kernel steps as they are lowered; tells, a few at a time, which constants of the model they read as they lie there
and which ones shaders make of them, so that these are on the device when the plan comes. The linker asks it which of
the plan's buffers those are: what was told of a step that is no more, or otherwise than the plan has it, is not used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.wgsl.emit import Binding, Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import stored_bytes, stored_type
from nnjit.lower.lowered import HostCall, Kernel
from nnjit.lower.tensors import Buffer
from nnjit.runtime.gpu_bindings import bound, operands_of
from nnjit.runtime.gpu_memory import padded
from nnjit.runtime.tensor_types import api_name

TELL_S = 0.01
"""Between two messages ..."""
TELL_BYTES = 4 << 20
"""... unless so much has come together."""

NUMBERS = count()
"""Of buffers and of compilations: never the same again, so that nothing is taken for what came from another one."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a constant lies on the device. dtype: of its elements as the model has them."""

    nbytes: int
    dtype: str
    stored: str
    packed: bool

    def filling(self) -> dict[str, str]:
        """What of it an engine that fills it has to know."""
        return {"type": api_name(self.dtype), "stored": self.stored}


def form_of(b: Buffer, dtype: str, packed: bool, half: bool) -> Form:
    """Of a buffer that is read and written as elements of `dtype`."""
    each = 1 if packed else stored_bytes(dtype, half)
    nbytes = padded(-(-b.nbytes // SIZES[dtype]) * each)
    return Form(nbytes, dtype, "bytes" if packed else stored_type(dtype, half), packed)


def loading(b: Buffer, to: Mapping[str, Any], form: Form, half: bool) -> Iterator[dict[str, Any]]:
    """The items of an init list that bring a constant of the model to a buffer. to: which, as items name it."""
    at = 0
    assert b.source is not None
    for part in b.source.parts or (b.source,):
        place = {**to, **form.filling(), **({"at": at} if at else {})}
        r = part.range
        if part.array is None and r is not None:
            yield {"kind": "range", **place, "source": r.file, "start": r.start, "length": r.length}
        elif part.nbytes:
            yield {"kind": "bytes", **place, "data": part.raw()}
        at += part.size * (1 if form.packed else stored_bytes(part.dtype, half))


@dataclass(slots=True)
class _Told:
    number: int
    form: Form
    writers: list[Kernel] = field(default_factory=list)


class Early:
    """Of one compilation. shader: the number that a shader was told by; tell: takes (making, JSON)."""

    def __init__(
        self, target: WgslTarget, shader: Callable[[Shader], int], tell: Callable[[int, str], None]
    ) -> None:
        self.target, self._shader, self._tell = target, shader, tell
        self._making = next(NUMBERS)
        self._told: dict[Buffer, _Told] = {}
        self._barred: set[Buffer] = set()
        self._buffers: list[tuple[int, int]] = []
        self._items: list[dict[str, Any]] = []
        self._bytes, self._next = 0, 0.0

    def step(self, s: Kernel | HostCall) -> None:
        """A step was lowered."""
        if isinstance(s, HostCall):
            self._barred.update(s.writes)
            return
        if not isinstance(s.code, Shader):
            return
        operands = operands_of(s)
        inputs = [
            (b, o) for (b, _), o in zip(s.places, operands, strict=True) if b.constant and o.role == "in"
        ]
        there = [self._loaded(b, o) for b, o in inputs]  # each, whatever became of those before
        if s.once:
            outputs = [(b, o) for (b, _), o in zip(s.places, operands, strict=True) if o.role != "in"]
            if (
                all(there)
                and len(inputs) + len(outputs) == len(operands)
                and all(self._made(b, o) for b, o in outputs)
            ):
                self._made_by(s)
            else:
                self._barred.update(b for b, _ in outputs)
        if self._items and (self._bytes >= TELL_BYTES or time.perf_counter() >= self._next):
            self.flush()

    def flush(self) -> None:
        """Tells what has come together."""
        if not self._items:
            return
        message = {"making": self._making, "buffers": self._buffers, "init": self._items}
        self._buffers, self._items, self._bytes = [], [], 0
        self._tell(self._making, json.dumps(message))
        self._next = time.perf_counter() + TELL_S

    def numbers(
        self, steps: Sequence[Kernel | HostCall], form: Callable[[Buffer], Form | None]
    ) -> dict[Buffer, int]:
        """Which constants were told as a plan has them, and by which numbers. steps: those that the plan does at load;
        form: how a buffer lies in it, None for one that it has not."""
        writers: dict[Buffer, list[Kernel | HostCall]] = {}
        for s in steps:
            for b in s.writes:
                writers.setdefault(b, []).append(s)
        known: dict[Buffer, bool] = {}

        def same(b: Buffer) -> bool:
            told = self._told.get(b)
            if told is None or b in known:
                return known.get(b, False)
            known[b] = False  # until it is known: what is made in its own place never is
            by = writers.get(b, [])
            ours = len(by) == len(told.writers) and all(x is y for x, y in zip(by, told.writers, strict=True))
            known[b] = ours and told.form == form(b) and all(same(r) for s in told.writers for r in s.reads)
            return known[b]

        return {b: told.number for b, told in self._told.items() if same(b)}

    def _loaded(self, b: Buffer, operand: Binding) -> bool:
        """Tells of a constant that is read, if it is one of a file and was not told; whether it is there."""
        if b in self._barred:
            return False
        known = self._told.get(b)
        form = form_of(b, operand.dtype, operand.packed, self.target.half)
        if known is not None:
            return known.form == form
        source = b.source
        if source is None or form.nbytes > self.target.max_buffer_bytes:
            return False
        if any(part.array is not None or part.range is None for part in source.parts or (source,)):
            return False  # those are small, and come with the plan
        told = self._new(b, form)
        self._items += loading(b, {"buffer": told.number}, form, self.target.half)
        self._bytes += source.nbytes
        return True

    def _made(self, b: Buffer, operand: Binding) -> bool:
        """Makes room for what a step writes, if it can be told."""
        form = form_of(b, operand.dtype, operand.packed, self.target.half)
        if b in self._barred or not b.constant or form.nbytes > self.target.max_buffer_bytes:
            return False
        return (self._told.get(b) or self._new(b, form)).form == form

    def _new(self, b: Buffer, form: Form) -> _Told:
        told = self._told[b] = _Told(next(NUMBERS), form)
        self._buffers.append((told.number, form.nbytes))
        return told

    def _made_by(self, s: Kernel) -> None:
        """Tells of a step at load whose operands all have been told."""
        numbers = {b: self._told[b].number for b, _ in s.places}
        sizes = {self._told[b].number: self._told[b].form.nbytes for b, _ in s.places}
        shader, bindings, _ = bound(s, numbers, sizes.__getitem__, self.target)
        places = [[b.buffer, b.offset, b.size] for b in bindings]
        self._items.append({"kind": "step", "shader": self._shader(shader), "bindings": places})
        for b in s.writes:
            self._told[b].writers.append(s)
