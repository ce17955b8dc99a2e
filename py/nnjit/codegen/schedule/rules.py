"""default_schedule(spec, target): the first rule that knows the spec answers; the last one always does.

    RULES = [contraction, reduction, rows, elementwise]

Numbers come from the target: SIMD registers that do not spill, threads. `contraction` weighs register tiles
by a small cost model instead of a table, so that odd extents get tiles that fit them.
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import Access, Expr, walk
from nnjit.codegen.schedule.steps import (
    Order,
    Pack,
    Parallel,
    Partial,
    Schedule,
    Step,
    Tile,
    Unroll,
    Vectorize,
)
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wasm.target import Target

LANES = 4
PACK_ROWS = 12
"""Rows of a product from which packing an activation pays: it is read once to pack, `rows` times to multiply."""


def default_schedule(spec: KernelSpec, target: Target) -> Schedule:
    """A good schedule without measuring: the best guess of the space."""
    for rule in (contraction, reduction, rows):
        found = rule(spec, target)
        if found is not None:
            return found
    return elementwise(spec, target)


# ---- what a spec is made of ----


def reads(root: Expr | None) -> list[Access]:
    """Distinct accesses of an expression."""
    out: dict[Access, None] = {}
    for e in walk(root) if root is not None else ():
        if e.op == "load":
            out[e.attr] = None
    return list(out)


def narrow_types(spec: KernelSpec, s: Stage) -> bool:
    """Whether a stage computes in types that fit four to a vector."""
    roots = [r for r in (s.body, s.result) if r is not None]
    for root in roots:
        if root.dtype in WIDE:
            return False
        for e in _values(root):
            if e.dtype in WIDE and e.op != "load" and e.axes():
                return False
    return s.keep != "" or spec.operands[s.out].dtype not in WIDE


def _values(root: Expr) -> list[Expr]:
    """Nodes below `root` without those inside addresses."""
    out, stack, seen = [], [root], {root}
    while stack:
        e = stack.pop()
        out.append(e)
        for a in e.args:
            if a not in seen:
                seen.add(a)
                stack.append(a)
    return out


def spread(spec: KernelSpec, order: list[str], tiles: dict[str, int], target: Target) -> list[str]:
    """The outermost axes to flatten into the parallel loop: enough tiles for every thread to have several."""
    extents = {a.name: a.extent for a in spec.axes}
    chosen, count = [], 1
    for name in order:
        if count >= 16 * max(1, target.threads):
            break
        chosen.append(name)
        count *= -(-extents[name] // tiles.get(name, 1))
    return chosen


# ---- contraction: sum of products with a register tile ----


def contraction(spec: KernelSpec, target: Target) -> Schedule | None:
    """sum(a * b): vector axis along the output, MR x NR accumulators, the vector operand packed."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or not narrow_types(spec, s) or s.axes:
        return None
    sides = [reads(a) for a in s.body.args]
    if any(len(r) != 1 or r[0].guard for r in sides):
        return None
    a, b = sides[0][0], sides[1][0]
    in_a, in_b = set(a.axes()), set(b.axes())
    axis = _vector_axis(spec, s, in_a, in_b)
    if axis is None:
        return None
    if axis.name not in in_b:
        a, b, in_a, in_b = b, a, in_b, in_a
    rows_of = [x for x in spec.axes if x.name in in_a and x.name not in in_b]
    if axis.name in in_a:  # depthwise: both sides follow the vector axis; rows are what the weights ignore
        rows_of = [x for x in spec.axes if x.name != axis.name and x.name not in in_b]
    n_rows = prod(x.extent for x in rows_of)
    m = max(rows_of, key=lambda x: (min(x.extent, 8), x.extent), default=None)
    shared_loads = axis.name in in_a
    mr, nv = register_tile(m.extent if m else 1, axis.extent, target, shared_loads)
    steps: list[Step] = [Tile(axis.name, nv * LANES), Vectorize(axis.name, LANES)]
    tiles = {axis.name: nv * LANES}
    if m is not None and mr > 1:
        steps.append(Tile(m.name, mr))
        tiles[m.name] = mr
    steps += _unrolled(s, b)
    packable = b.operand >= 0 and not any(not isinstance(x, str) for x, _ in b.index.terms)
    constant = spec.operands[b.operand].const
    if packable and (constant or n_rows >= PACK_ROWS) and _worth_packing(s, b, axis):
        steps.append(Pack(b.operand, axis.name))
    batch = [x.name for x in spec.axes if x.name in in_a and x.name in in_b and x.name != axis.name]
    inner = [x.name for x in rows_of if x is not m] + ([m.name] if m else [])
    rest = [x.name for x in spec.axes if x.name not in (*batch, *inner, axis.name)]
    order = [*batch, *rest, axis.name, *inner]
    return (*steps, Order(tuple(order)), Parallel(tuple(spread(spec, order, tiles, target))))


def _worth_packing(s: Stage, b: Access, axis: Axis) -> bool:
    """Panels that would equal the source (one tile of it) are not copied."""
    return not (b.index.coeff(axis.name) == 1 and axis.extent <= LANES)


def _vector_axis(spec: KernelSpec, s: Stage, in_a: set[str], in_b: set[str]) -> Axis | None:
    """The shared axis to put in lanes: contiguous in the output first, then contiguous in either factor."""
    assert s.body is not None
    best, score = None, 0.0
    for x in spec.axes:
        if x.name not in in_a | in_b or x.extent < 2:
            continue
        points = min(x.extent, 64) / 64
        points += 2.0 if s.index.coeff(x.name) == 1 else 0.0
        if x.extent < LANES:
            points -= 2.0
        b_index = next(r.index for arg in s.body.args for r in reads(arg) if x.name in set(r.axes()))
        points += 1.0 if spec.operands[_operand(s, x.name)].const or b_index.coeff(x.name) == 1 else 0.0
        if (x.name in in_a) != (x.name in in_b):
            points += 0.25
        if points > score:
            best, score = x, points
    return best


def _operand(s: Stage, axis: str) -> int:
    assert s.body is not None
    ops = [r.operand for arg in s.body.args for r in reads(arg) if axis in set(r.axes())]
    return ops[-1]


def register_tile(
    rows_extent: int, columns: int, target: Target, shared_loads: bool = False
) -> tuple[int, int]:
    """(rows, vectors) of the accumulator tile with the least modelled time over the whole extent.

    A step of k costs the larger of: multiply-adds at 2 a cycle, loads at 2 a cycle, and 4 cycles of latency
    through each accumulator. The tile and its operands must fit the registers that do not spill."""
    best, cost = (1, 1), float("inf")
    widest = -(-columns // LANES)
    for nv in range(1, 9):
        if nv > widest and nv > 1:
            break
        for mr in range(1, 14):
            live = mr * nv + (2 if shared_loads else nv + 1)
            if mr > rows_extent or (mr > 1 and live > target.registers) or (mr == 1 and nv > 12):
                continue
            total = 0.0
            full_m, tail_m = divmod(rows_extent, mr)
            full_n, tail_n = divmod(widest, nv)
            for rm, cm in ((mr, full_m), (tail_m, 1 if tail_m else 0)):
                for rn, cn in ((nv, full_n), (tail_n, 1 if tail_n else 0)):
                    loads = rn + rm * (rn if shared_loads else 1)
                    total += cm * cn * (max(rm * rn / 2, loads / 2, 4.0) + 0.08 * loads + 0.3)
            if total < cost * 0.999:
                best, cost = (mr, nv), total
    return best


def _unrolled(s: Stage, b: Access) -> list[Step]:
    """Small windows whole, a long innermost reduction by two (measured best for 6x8 on x86)."""
    steps: list[Step] = []
    for r in s.reduce:
        if r is s.reduce[-1]:
            if r.extent <= 3:
                steps.append(Unroll(r.name, r.extent))
            else:
                steps.append(Unroll(r.name, 4 if r.extent % 4 == 0 and r.extent <= 16 else 2))
    return steps


# ---- reductions and multi-stage rows ----


def reduction(spec: KernelSpec, target: Target) -> Schedule | None:
    """One stage with a reduction that is no contraction: lanes along the reduced axis or along the output."""
    if len(spec.stages) != 1 or spec.stages[0].body is None:
        return None
    return rows(spec, target)


def rows(spec: KernelSpec, target: Target) -> Schedule | None:
    """Stages over shared axes (softmax, norms, reductions): lanes where the reads are contiguous."""
    if all(s.body is None for s in spec.stages):
        return None
    steps: list[Step] = []
    order = [a.name for a in spec.axes]
    tiles: dict[str, int] = {}
    narrow = all(narrow_types(spec, s) for s in spec.stages)
    shared = _contiguous(spec, [a for a in spec.axes if a.extent >= 2])
    inner = _inner_axes(spec)
    if narrow and inner and _rowwise(spec, inner):
        for name, (extent, reduced, spatial) in inner.items():
            steps.append(Vectorize(name, LANES))
            if reduced and extent > 2 * LANES:
                steps.append(Partial(name, 4 if extent >= 64 else 2))
            if spatial:
                steps.append(Tile(name, 16 if extent >= 16 else LANES))
    elif narrow and shared is not None and shared.extent >= LANES:
        wide = 4 * LANES if shared.extent >= 16 and len(spec.stages) == 1 else LANES
        steps += [Vectorize(shared.name, LANES), Tile(shared.name, wide)]
        tiles[shared.name] = wide
    for s in spec.stages:
        for r in s.reduce:
            if r.extent <= 4 and r.name not in inner and Unroll(r.name, r.extent) not in steps:
                steps.append(Unroll(r.name, r.extent))
    return (*steps, Parallel(tuple(spread(spec, order, tiles, target))))


def _inner_axes(spec: KernelSpec) -> dict[str, tuple[int, bool, bool]]:
    """For each stage its innermost axis (reduced or own): name -> (extent, reduced somewhere, spatial somewhere)."""
    out: dict[str, tuple[int, bool, bool]] = {}
    for s in spec.stages:
        group, reduced = (s.reduce, True) if s.reduce else (s.axes, False)
        if not group:
            continue
        a = _innermost(s, group)
        have = out.get(a.name, (a.extent, False, False))
        out[a.name] = (a.extent, have[1] or reduced, have[2] or not reduced)
    return out


def _innermost(s: Stage, group: tuple[Axis, ...]) -> Axis:
    root = s.body if s.reduce else s.result
    for a in group:
        if any(r.index.coeff(a.name) == 1 for r in reads(root)) and a.extent >= 2:
            return a
    return group[-1]


def _rowwise(spec: KernelSpec, inner: dict[str, tuple[int, bool, bool]]) -> bool:
    """Whether every stage reads and writes its inner axis with stride 1 (or not at all), and it is long enough."""
    for s in spec.stages:
        group = s.reduce or s.axes
        if not group:
            continue
        a = _innermost(s, group)
        root = s.body if s.reduce else s.result
        strides = {r.index.coeff(a.name) for r in reads(root) if not r.guard}
        guards = any(a.name in set(i.axes()) for r in reads(root) for i, _ in r.guard)
        gathers = any(
            a.name in x.axes() for r in reads(root) for x, _ in r.index.terms if not isinstance(x, str)
        )
        if guards or gathers or not strides <= {0, 1} or 1 not in strides or a.extent < LANES:
            return False
        if s.axes and not s.reduce and s.index.coeff(a.name) != 1:
            return False
    return bool(inner)


def _contiguous(spec: KernelSpec, axes: list[Axis]) -> Axis | None:
    """The shared axis most accesses step by one element along; the last store decides a tie."""
    best, score = None, 0
    last = spec.stages[-1]
    for a in axes:
        points = 0
        for s in spec.stages:
            for root in (s.body, s.result):
                for r in reads(root):
                    step = r.index.coeff(a.name)
                    points += 4 if step == 1 else 1 if step == 0 else -1
                    if any(a.name in set(i.axes()) for i, _ in r.guard):
                        points -= 6
                    if any(not isinstance(x, str) and a.name in x.axes() for x, _ in r.index.terms):
                        points -= 6
        points += 6 if last.index.coeff(a.name) == 1 and not last.keep else 0
        if points > score:
            best, score = a, points
    return best


# ---- elementwise ----


def elementwise(spec: KernelSpec, target: Target) -> Schedule:
    """No reduction: vectors along the contiguous axis, a few at a time."""
    order = [a.name for a in spec.axes]
    own = [a for s in spec.stages for a in s.axes]
    narrow = all(narrow_types(spec, s) for s in spec.stages)
    axis = _contiguous(spec, [a for a in spec.axes if a.extent >= LANES])
    if not narrow or axis is None or own:
        extents = {a.name: a.extent for a in spec.axes}
        return (Parallel(tuple(spread(spec, order, {}, target))),) if extents else ()
    size = sum(1 for s in spec.stages for _ in _values(s.result))
    vectors = 4 if size <= 24 else 2 if size <= 80 else 1
    tile = min(vectors * LANES, -(-axis.extent // LANES) * LANES)
    order = [n for n in order if n != axis.name] + [axis.name]
    # one long axis: the parallel loop runs over whole vectors' worth of tiles, chunked by the caller
    steps: list[Step] = [Tile(axis.name, tile), Vectorize(axis.name, LANES), Order(tuple(order))]
    return (*steps, Parallel(tuple(spread(spec, order, {axis.name: tile}, target))))
