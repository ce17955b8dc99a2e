"""Words: four neighbours along a sum, of 8 bits each, in an i32: what a GPU multiplies in one instruction.

`word_kernel` is the KernelSpec that makes them, `worded` rewrites a sum of products to read them:

    sum over k:128 of i32($0[128m + k]) * i32($1[96k + n])   ->   sum over k:32 of dot($0[32m + k], $1[32n + k])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nnjit.codegen.expr import Access, Expr, Index, cast, const, guarded, load, op
from nnjit.codegen.schedule.dots import factor
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage

GROUP = 4


def _access(spec: KernelSpec, operand: int) -> Access:
    """The one read of an operand, by a sum of products of i8."""
    check(len(spec.stages) == 1, "words are of one stage")
    s = spec.stages[0]
    check(s.body is not None and s.body.op == "mul" and bool(s.reduce), "no sum of products")
    assert s.body is not None
    found = [f for f in map(factor, s.body.args) if f is not None and f.attr.operand == operand]
    check(len(found) == 1 and found[0].dtype == "i8", f"operand {operand} is not read once, as i8")
    access: Access = found[0].attr
    check(all(isinstance(a, str) for a, _ in access.index.terms), "a gathered operand is not packed")
    return access


@dataclass(frozen=True, slots=True)
class Layout:
    """Words by `axes`, the innermost first in memory; `at` is where the spec's axes read them, with the innermost
    reduced one counting words. flat: they lie as the bytes did."""

    axes: tuple[Axis, ...]
    at: Index
    size: int
    flat: bool


def layout(spec: KernelSpec, operand: int) -> Layout:
    """As the bytes lie, where each four that are read together begin at a multiple of four, so that windows may
    overlap; else by the axes that the factor follows."""
    access, s = _access(spec, operand), spec.stages[0]
    used, last = set(access.axes()), s.reduce[-1]
    check(last.name in used, f"a factor does not follow {last.name}")
    index = access.index
    others = [c for name, c in index.terms if name != last.name]
    if index.coeff(last.name) == 1 and not any(c % GROUP for c in (*others, index.const, last.extent)):
        at = Index(index.const // GROUP, {n: 1 if n == last.name else c // GROUP for n, c in index.terms})
        size = -(-spec.operands[operand].size // GROUP)
        return Layout((Axis("i", size),), at, size, True)
    outer = tuple(a for a in (*spec.axes, *s.reduce[:-1]) if a.name in used)
    axes = (*outer, Axis(last.name, -(-last.extent // GROUP)))
    at, stride = Index(), 1
    for a in reversed(axes):
        at, stride = at + Index(0, {a.name: stride}), stride * a.extent
    return Layout(axes, at, stride, False)


def word_kernel(spec: KernelSpec, operand: int) -> KernelSpec:
    """Operand 0: the bytes; operand 1: the words. Past the end of the sum they are filled with zeros."""
    made, index = layout(spec, operand), _access(spec, operand).index
    k = made.axes[-1].name
    extent = spec.operands[operand].size if made.flat else spec.stages[0].reduce[-1].extent
    word: Expr | None = None
    for n in range(GROUP):
        deep = Index(n, {k: GROUP})
        place = deep if made.flat else index.subst({k: deep})
        tail = extent % GROUP and n >= extent % GROUP
        one = guarded(0, place, "i8", ((deep, extent),), const(0, "i8")) if tail else load(0, place, "i8")
        byte = op("band", cast(one, "i32"), const(255, "i32"))
        byte = op("shl", byte, const(8 * n, "i32")) if n else byte
        word = byte if word is None else op("bor", word, byte)
    assert word is not None
    to = Index.of(k) if made.flat else made.at
    stage = Stage((), (), "", None, word, 1, to)
    source = replace(spec.operands[operand], role="in")
    return KernelSpec("pack_words", made.axes, (stage,), (source, Operand("i32", made.size, "out")))


def worded(spec: KernelSpec, operands: Sequence[int]) -> KernelSpec:
    """The spec with both factors, `operands`, read as words."""
    s = spec.stages[0]
    check(s.body is not None and s.body.op == "mul" and s.combine == "sum", "no sum of products")
    assert s.body is not None
    kept, sides = list(spec.operands), []
    for side in s.body.args:
        read = factor(side)
        check(read is not None and read.attr.operand in operands, "both factors are packed into words")
        assert read is not None
        number = read.attr.operand
        made = layout(spec, number)
        kept[number] = replace(kept[number], dtype="i32", size=made.size, packed=False)
        sides.append(load(number, made.at, "i8x4"))
    last = s.reduce[-1]
    reduce = (*s.reduce[:-1], Axis(last.name, -(-last.extent // GROUP)))
    stage = replace(s, reduce=reduce, body=Expr("dot", "i32", tuple(sides)))
    return replace(spec, stages=(stage,), operands=tuple(kept))
