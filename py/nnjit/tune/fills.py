"""What fills the operands of a kernel that is laid out by itself: made-up elements, of which its spec's promises hold.

Takes a spec; gives a pattern for each operand that is read, which is repeated to its end. A spec may promise that some
of its work changes no result (`KernelSpec.useful`: attention under a causal mask); kernels leave that out, each as
much of it as its blocks allow. So a mask that is made up has to mask what the real one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from nnjit.codegen.dtypes import FLOATS, NUMPY
from nnjit.codegen.expr import Access, Expr, Index, reg
from nnjit.codegen.interp import Machine
from nnjit.codegen.loops import Nest
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.spec import Axis, KernelSpec, Stage

PERIOD = 8191
"""Elements of a fill pattern: a prime, so that no stride of a kernel meets the same value again."""
MOST = 1 << 22
"""Elements of a mask that is made up, and points that are looked at for it."""
MASKED = -9.9e3
"""A score of this or less has no weight beside one that is seen (`graph.passes.attention_masks`)."""


class Unkept(ScheduleError):
    """A spec promises what no made-up operand of ours keeps: its kernels are neither tried nor proven by themselves."""


class Repeated:
    """A buffer that repeats a pattern, as the lab's are filled: indexed like an array, never that large. What a stage
    has written for later ones lies over it."""

    def __init__(self, pattern: Any, size: int) -> None:
        self.pattern, self.size, self.dtype = pattern, size, pattern.dtype
        self.written: dict[int, Any] = {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at: Any) -> Any:
        places = np.asarray(at)
        found = self.pattern[places % len(self.pattern)]
        if self.written:
            flat = [self.written.get(int(i), v) for i, v in zip(places.flat, found.flat, strict=True)]
            found = np.array(flat, self.dtype).reshape(places.shape)
        return found


@lru_cache(4)
def patterns(spec: KernelSpec) -> Mapping[int, bytes]:
    """Of each operand that is read the elements that fill it, over and over. Unkept where no such elements keep what
    the spec promises."""
    places = gather_operands(spec)
    found = {i: fill_pattern(o.dtype, i, i in places) for i, o in enumerate(spec.operands) if o.role == "in"}
    return found | _masks(spec, found) if spec.useful else found


def buffers(spec: KernelSpec, filled: Mapping[int, bytes]) -> list[Any]:
    """A Repeated for each operand; zeros for what is not read."""
    found = []
    for i, o in enumerate(spec.operands):
        kind = NUMPY[o.dtype]
        found.append(Repeated(np.frombuffer(filled[i], kind) if i in filled else np.zeros(1, kind), o.size))
    return found


def gather_operands(spec: KernelSpec) -> set[int]:
    """Operands whose values are places in others: filled with 0 and 1, which lie inside everything."""
    held = [e.attr.index for e in spec.exprs() if e.op == "load"] + [s.index for s in spec.stages]
    atoms = {atom for index in held for atom, _ in index.terms if not isinstance(atom, str)}
    return {x.attr.operand for atom in atoms for x in walk(atom) if x.op == "load"}


def fill_pattern(dtype: str, seed: int, places: bool) -> bytes:
    """PERIOD elements of a type: reals around one in size and of either sign, small whole numbers, or 0 and 1."""
    rng = np.random.default_rng(seed)
    whole = np.dtype(NUMPY[dtype])
    if places:
        return bytes(rng.integers(0, 2, PERIOD).astype(whole).tobytes())
    if dtype in FLOATS:
        x = rng.uniform(0.25, 1.0, PERIOD) * rng.choice([-1.0, 1.0], PERIOD)
        if dtype == "bf16":
            x = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return bytes(x.astype(whole).tobytes())
    if dtype == "bool":
        return bytes(rng.integers(0, 2, PERIOD).astype(np.uint8).tobytes())
    if dtype in ("i8", "u8"):
        return bytes(rng.integers(0, 256, PERIOD).astype(np.uint8).tobytes())
    return bytes(rng.integers(0, 9, PERIOD).astype(whole).tobytes())


# ---- masks ----


def _masks(spec: KernelSpec, found: Mapping[int, bytes]) -> dict[int, bytes]:
    """Patterns of the operands that hide what the spec says is of no use: hidden there, anything elsewhere."""
    for s in spec.stages:
        for key in s.axes:
            for bound in (b for name, b in spec.useful if name == key.name):
                return _of_stage(spec, s, key, bound, found)
    raise Unkept(f"{spec.name} leaves out terms of a sum alone")


def _of_stage(
    spec: KernelSpec, s: Stage, key: Axis, bound: Expr, found: Mapping[int, bytes]
) -> dict[int, bytes]:
    """Of the stage whose results along `key` are of no use from `bound` on."""
    rows = [a for a in spec.axes if a.name in bound.axes()]
    points = prod(a.extent for a in (*rows, key))
    if points > MOST:
        raise Unkept(f"{spec.name} has a mask of {points} elements")
    grid = dict(zip([a.name for a in (*rows, key)], every_point((*rows, key)), strict=True))
    beyond = grid[key.name] >= np.broadcast_to(_valued(spec, found, grid, bound), points)
    if not beyond.any() or _hidden(spec, s, found, grid, beyond):
        return {}
    made: dict[int, bytes] = {}
    for access in _reads(s.result, key.name):
        if spec.operands[access.operand].role == "in":
            made[access.operand] = _hiding(spec, access, grid, beyond, found[access.operand])
    if not made or not _hidden(spec, s, {**found, **made}, grid, beyond):
        raise Unkept(f"what {spec.name} leaves out is not hidden by what it reads alone")
    return made


def _reads(e: Expr, name: str) -> Iterator[Access]:
    return (x.attr for x in walk(e) if x.op == "load" and name in x.attr.index.axes())


def _hiding(spec: KernelSpec, access: Access, grid: Mapping[str, Any], beyond: Any, pattern: bytes) -> bytes:
    """A plane of a mask: the smallest number, or false, where all points that read it lie beyond their bounds."""
    o = spec.operands[access.operand]
    planes = [c for a, c in access.index.terms if isinstance(a, str) and a not in grid]
    apart = set().union(*[a.axes() for a, _ in access.index.terms if not isinstance(a, str)]) - grid.keys()
    at = np.broadcast_to(_placed(spec, grid, access.index), beyond.shape)
    period = min(planes, default=o.size)
    apart |= {"rest"} if any(c % period for c in (*planes, o.size)) else set()
    if apart or period > MOST or at.max() >= period:
        raise Unkept(f"a mask of {spec.name} lies in no planes of rows and keys")
    made = np.resize(np.frombuffer(pattern, NUMPY[o.dtype]), period).copy()
    hidden = np.zeros(period, bool)
    hidden[at[beyond]] = True
    hidden[at[~beyond]] = False
    if o.dtype == "bool":
        made[:] = ~hidden  # a row that sees nothing at all would see all keys alike
    else:
        made[hidden] = _lowest(o.dtype)
    return bytes(made.tobytes())


def _lowest(dtype: str) -> Any:
    if dtype not in FLOATS:
        raise Unkept(f"a mask of {dtype}")
    return 0xFF7F if dtype == "bf16" else np.finfo(NUMPY[dtype]).min  # bf16: its bits


def _hidden(
    spec: KernelSpec, s: Stage, filled: Mapping[int, bytes], grid: Mapping[str, Any], beyond: Any
) -> bool:
    """Whether what the stage gives beyond the bounds has no weight."""
    places = np.flatnonzero(beyond)
    some = {name: x[places] for name, x in grid.items()}
    result = rewrite(s.result, {}, lambda e: reg("acc", e.dtype) if e.op == "acc" else None)
    return bool(np.all(_valued(spec, filled, some, result) <= MASKED))


def every_point(axes: Iterable[Axis]) -> Any:
    """Where each point of some axes lies, an array an axis; numpy's own integers have 32 bits in a browser."""
    extents = [a.extent for a in axes]
    return np.indices(extents, np.int64).reshape(len(extents), -1)


def _machine(spec: KernelSpec, filled: Mapping[int, bytes], grid: Mapping[str, Any]) -> Machine:
    """One that evaluates at every point of a grid at once; axes that are not its own are at 0."""
    machine = Machine(Nest(spec.name, spec.operands, 0), buffers(spec, filled))
    machine.lanes = len(next(iter(grid.values())))
    machine.vars = {**{a.name: 0 for a in (*spec.axes, *(a for s in spec.stages for a in s.axes))}, **grid}
    dtype = next((s.body.dtype for s in spec.stages if s.body is not None), "f32")
    machine.regs = {"acc": np.ones(1, NUMPY[dtype])}
    return machine


def _valued(spec: KernelSpec, filled: Mapping[int, bytes], grid: Mapping[str, Any], e: Expr) -> Any:
    with np.errstate(all="ignore"):
        return _machine(spec, filled, grid).value(e)


def _placed(spec: KernelSpec, grid: Mapping[str, Any], at: Index) -> Any:
    return _machine(spec, {}, grid).index(at)
