"""How a step's operands become bindings: which share one, where each begins in it, and bindings in parts.

Takes places in buffers, whatever a buffer is called by; gives groups of operands and the moves of a shader
(codegen/wgsl/cache.py). `ahead(...)` says before there is a plan which moves a step will have in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.cache import Moves, emitted
from nnjit.codegen.wgsl.emit import Binding, Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import stored_bytes
from nnjit.lower.lowered import Kernel, Placing
from nnjit.lower.tensors import Buffer
from nnjit.runtime.gpu_memory import padded
from nnjit.runtime.gpu_plan import GpuBinding
from nnjit.runtime.inplace import reuse


@dataclass(frozen=True, slots=True)
class Group:
    """Operands that share a binding, and the byte of their buffer where it begins."""

    members: tuple[int, ...]
    start: int


def operands_of(s: Kernel) -> Sequence[Binding]:
    """The binding of each operand in the shader that a step was emitted with."""
    if not isinstance(s.code, Shader):
        return ()
    return [s.code.bindings[at] for at, _ in s.bound] if s.bound else s.code.bindings


def grouped(
    spec: KernelSpec, places: Sequence[tuple[Hashable, int]], sizes: Sequence[int], written: Collection[Hashable],
    alignment: int,
) -> tuple[list[Group], Moves]:  # fmt: skip
    """places: buffer and element offset of each operand, whose elements take `sizes` bytes. Operands that share a
    buffer which the step writes share a binding; one that does not begin at an aligned place is read from the aligned
    place before it. No moves where each operand has a binding of its own that begins where it does."""
    members: dict[object, list[int]] = {}
    low = _lowest(spec)
    for i, (buffer, offset) in enumerate(places):
        members.setdefault((buffer,) if buffer in written else (buffer, offset, i), []).append(i)
    at: list[tuple[int, int]] = [(0, 0)] * len(places)
    groups = []
    for n, some in enumerate(members.values()):
        size = sizes[some[0]]
        first = min(places[i][1] + low.get(i, 0) for i in some) * size
        start = max(first, 0) // alignment * alignment
        for i in some:
            at[i] = n, (places[i][1] * size - start) // size
        groups.append(Group(tuple(some), start))
    return groups, (() if all(place == (i, 0) for i, place in enumerate(at)) else tuple(at))


def bound(
    s: Kernel, number: Mapping[Buffer, int], nbytes: Callable[[int], int], target: WgslTarget
) -> tuple[Shader, list[GpuBinding], Moves]:
    """The shader of a step, its bindings, and where operands lie in them (see `grouped`). number: of each buffer;
    nbytes: of the buffer of a number."""
    operands = operands_of(s)
    sizes = [1 if one.packed else stored_bytes(one.dtype, target.half) for one in operands]
    places = [(number[b], offset) for b, offset in s.places]
    written = {number[b] for b in s.writes}
    groups, moves = grouped(s.spec, places, sizes, written, target.offset_alignment)
    shader, _, _ = emitted(s.spec, s.schedule, target, moves)
    bindings = []
    for g, made in zip(groups, shader.bindings, strict=True):
        at = places[g.members[0]][0]
        size = padded(made.size * sizes[g.members[0]])
        bindings.append(GpuBinding(at, g.start, min(size, nbytes(at) - g.start)))
    return shader, in_parts(bindings, shader), moves


UNWRITTEN = Shader("", "", "", 0, (0, 0, 0), ())


def ahead(target: WgslTarget) -> Placing:
    """What `lower` asks before a kernel is emitted: the moves that it will have in a plan, where an output takes the
    buffer of an input that nothing reads after the step. A wrong answer costs a shader, because the linker has the last
    word."""

    def moves(spec: KernelSpec, places: list[tuple[Buffer, int]], unshared: set[Buffer]) -> Moves:
        s = Kernel(spec, (), places, [], False, UNWRITTEN, 0, 0.0)
        alias = reuse([s], unshared)
        types = {b: o.dtype for (b, _), o in zip(places, spec.operands, strict=True)}
        alias = {out: b for out, b in alias.items() if types[out] == types[b]}
        sizes = [1 if o.packed else stored_bytes(o.dtype, target.half) for o in spec.operands]
        shared = [(alias.get(b, b), offset) for b, offset in places]
        written = {alias.get(b, b) for b in s.writes}
        return grouped(spec, shared, sizes, written, target.offset_alignment)[1]

    return moves


def in_parts(bindings: list[GpuBinding], shader: Shader) -> list[GpuBinding]:
    """The bindings of a shader that binds some of them in parts."""
    if not shader.parts:
        return bindings
    first = [
        GpuBinding(b.buffer, b.offset, min(b.size, made.nbytes))
        for b, made in zip(bindings, shader.bindings, strict=True)
    ]
    more = []
    for part in shader.parts:
        whole = bindings[part.operand]
        size = min(part.nbytes, whole.size - part.start)
        more.append(GpuBinding(whole.buffer, whole.offset + part.start, size))
    return first + more


@lru_cache(maxsize=1024)
def _lowest(spec: KernelSpec) -> Mapping[int, int]:
    """How far before its place an operand is read: negative steps of a slice run backwards. The layers of a model have
    few specs, each of which is asked about when it is lowered and when it is linked."""
    found: dict[int, int] = {}
    extents = {a.name: a.extent for st in spec.stages for a in (*spec.axes, *st.axes, *st.reduce)}
    for e in spec.exprs():
        if e.op != "load" or e.attr.guard:
            continue
        at = e.attr.index.const
        for atom, c in e.attr.index.terms:
            if c < 0:
                at += (
                    c * (extents[atom] - 1) if isinstance(atom, str) else -spec.operands[e.attr.operand].size
                )
        found[e.attr.operand] = min(found.get(e.attr.operand, 0), at)
    return found
