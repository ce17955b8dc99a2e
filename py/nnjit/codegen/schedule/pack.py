"""Packing: an operand rearranged into panels that a tile reads from front to back.

`packed_spec` rewrites the reads of a spec; `pack_kernel` is the KernelSpec that makes the panels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nnjit.codegen.expr import Access, Expr, Index, const, guarded, load
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.steps import Pack, check
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage


@dataclass(frozen=True, slots=True)
class Panels:
    """Axes of a packed operand, outermost first, and the tile inside."""

    outer: tuple[Axis, ...]
    axis: Axis
    tile: int
    reduce: tuple[Axis, ...]
    index: Index
    """The index the unpacked operand is read at."""
    group: int = 1
    """Neighbours along the last reduced axis that lie side by side inside the tile."""

    @property
    def groups(self) -> tuple[Axis, ...]:
        """The reduced axes as the panels have them: of a grouped one, `k.g` is the number of the group."""
        if self.group == 1:
            return self.reduce
        last = self.reduce[-1]
        return (*self.reduce[:-1], Axis(last.name + ".g", -(-last.extent // self.group)))

    @property
    def size(self) -> int:
        n = -(-self.axis.extent // self.tile) * self.tile * self.group
        for a in (*self.outer, *self.groups):
            n *= a.extent
        return n

    def at(self, tile: Index, inside: Index) -> Index:
        """Where an element lies: tile number and place in the tile given, other axes by name; `k.h` is the
        place in the group."""
        out, stride = inside * self.group, self.tile * self.group
        if self.group > 1:
            out = out + Index(0, {self.reduce[-1].name + ".h": 1})
        for a in reversed(self.groups):
            out = out + Index(0, {a.name: stride})
            stride *= a.extent
        out = out + tile * stride
        stride *= -(-self.axis.extent // self.tile)
        for a in reversed(self.outer):
            out = out + Index(0, {a.name: stride})
            stride *= a.extent
        return out


def panels(spec: KernelSpec, pack: Pack, tile: int) -> Panels:
    """The panel layout of an operand that one stage reads at one affine index; ScheduleError otherwise."""
    reads: set[Access] = set()
    stage: Stage | None = None
    for s in spec.stages:
        for root in (s.body, s.result):
            for e in walk(root) if root is not None else ():
                if e.op == "load" and e.attr.operand == pack.operand:
                    reads.add(e.attr)
                    stage = s
                    tiled = any(a.name == pack.axis for a in (*spec.axes, *s.axes))
                    check(tiled, f"operand {pack.operand} is read where {pack.axis} has no tiles")
    check(len(reads) == 1 and stage is not None, f"operand {pack.operand} is not read at one index")
    access = reads.pop()
    check(not access.guard, "a guarded operand cannot be packed")
    assert stage is not None
    used = set(access.index.axes())
    check(all(isinstance(a, str) for a, _ in access.index.terms), "a gathered operand cannot be packed")
    spatial = [a for a in (*spec.axes, *stage.axes) if a.name in used]
    axis = next((a for a in spatial if a.name == pack.axis), None)
    check(axis is not None, f"operand {pack.operand} does not depend on {pack.axis}")
    assert axis is not None
    outer = tuple(a for a in spatial if a.name != pack.axis)
    reduce = tuple(a for a in stage.reduce if a.name in used)
    check(tile > 1, f"{pack.axis} has no tile to pack by")
    check(pack.group == 1 or bool(reduce), f"operand {pack.operand} has no reduced axis to group")
    return Panels(outer, axis, tile, reduce, access.index, pack.group)


def packed_spec(spec: KernelSpec, pack: Pack, tile: int) -> KernelSpec:
    """The same spec reading the operand from its panels: `axis.t` and `axis.i` are the tile and the place in it."""
    tile = clipped(spec, pack, tile)
    p = panels(spec, pack, tile)
    index = p.at(Index.of(pack.axis + ".t"), Index.of(pack.axis + ".i"))

    def leaf(e: Expr) -> Expr | None:
        if e.op == "load" and e.attr.operand == pack.operand:
            return load(pack.operand, index, e.dtype)
        return None

    stages = tuple(
        replace(
            s, body=None if s.body is None else rewrite(s.body, {}, leaf), result=rewrite(s.result, {}, leaf)
        )
        for s in spec.stages
    )
    operands = list(spec.operands)
    operands[pack.operand] = replace(operands[pack.operand], size=p.size, packed=False)
    return replace(spec, stages=stages, operands=tuple(operands))


def clipped(spec: KernelSpec, pack: Pack, tile: int) -> int:
    """The tile that `apply` really uses: no wider than the axis in whole vectors."""
    axis = next((a for s in spec.stages for a in (*spec.axes, *s.axes) if a.name == pack.axis), None)
    check(axis is not None, f"no axis {pack.axis}")
    assert axis is not None
    return fitting(tile, axis.extent)


def fitting(tile: int, extent: int) -> int:
    """A tile larger than its axis would only make tails: it shrinks to whole vectors of what is there."""
    return min(tile, -(-extent // 4) * 4)


def pack_kernel(spec: KernelSpec, pack: Pack, tile: int) -> KernelSpec:
    """The kernel that fills the panels: operand 0 the source, operand 1 the panels, zero past the axis."""
    tile = clipped(spec, pack, tile)
    p = panels(spec, pack, tile)
    dtype = spec.operands[pack.operand].dtype
    count = -(-p.axis.extent // tile)
    to, i = Axis(p.axis.name + "_t", count), Axis(p.axis.name + "_i", tile)
    place = Index(0, {to.name: tile, i.name: 1})
    guard = [] if p.axis.extent % tile == 0 else [(place, p.axis.extent)]
    at, reduce = p.at(Index.of(to.name), Index.of(i.name)), p.reduce
    inside: tuple[Axis, ...] = (i,)
    source = p.index.subst({p.axis.name: place})
    if p.group > 1:
        k = p.reduce[-1]
        number, member = Axis(k.name + "_g", -(-k.extent // p.group)), Axis(k.name + "_h", p.group)
        at = at.subst({k.name + ".g": Index.of(number.name), k.name + ".h": Index.of(member.name)})
        deep = Index(0, {number.name: p.group, member.name: 1})
        source = source.subst({k.name: deep})
        guard += [] if k.extent % p.group == 0 else [(deep, k.extent)]
        reduce, inside = (*p.reduce[:-1], number), (i, member)
    value = guarded(0, source, dtype, tuple(guard), const(0, dtype)) if guard else load(0, source, dtype)
    stage = Stage((), (), "", None, value, 1, at)
    return KernelSpec(
        f"pack_{dtype}_{tile}" + (f"x{p.group}" if p.group > 1 else ""),
        (*p.outer, to, *reduce, *inside),
        (stage,),
        (replace(spec.operands[pack.operand], role="in"), Operand(dtype, p.size, "out")),
    )
