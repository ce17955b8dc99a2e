"""KernelSpec: what one kernel computes, as index expressions over named axes, with exact shapes.

A spec says nothing of loops. Its shared `axes` are independent of one another (any order, any
thread); at each point of them the stages run in order. Two equal specs are the same kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from nnjit.codegen.expr import Expr, Index
from nnjit.codegen.rewriting import walk

if TYPE_CHECKING:
    from nnjit.graph.room.lengths import Length

Reach: TypeAlias = "tuple[tuple[str, Length], ...]"
"""Beside a spec: axes (shared, or of the last stage alone) of which only so many places are looked at in the request
that runs. It is no part of what the kernel is, which may compute all of them."""

COMBINES = ("sum", "prod", "max", "min", "pmax", "pmin", "any", "all")
"""pmax and pmin (the names of the Wasm instructions) may lose a NaN; max and min never do."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop of the computation: `extent` iterations, counted from 0."""

    name: str
    extent: int


@dataclass(frozen=True, slots=True)
class Operand:
    """A buffer of the kernel: `size` elements of `dtype` from its pointer on; `const` if known at load.

    A "scratch" operand is memory of each point of the shared axes by itself: `size` elements that stages of the
    point write and later ones read, at indices that count from the point's own start. Nothing of it is left
    after. The schedule says how many points have theirs at a time; each thread has its own.

    `packed`: elements of 8 bits, read only, lie four to a word as they do in the model; a GPU otherwise gives each of
    them a word of its own, because it cannot store a byte."""

    dtype: str
    size: int
    role: str  # "in" | "out" | "scratch"
    const: bool = False
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One loop nest inside the shared axes.

    `body` is reduced over `reduce` by `combine`; `result` (which reads the reduction as `acc`) is stored
    to operand `out` at `index`, or kept in the local `keep` for later stages. Without `reduce`, `result`
    alone is evaluated. `axes` are this stage's own spatial axes, none if it keeps a local. With `terms`, each
    value of `body` is also stored: to that operand, at that index, which has all axes of `reduce`. If `running` is
    "after", what is stored there is the reduction up to this term instead, with "before" up to the one ahead of it:
    the terms are taken in the order of `reduce`, a single axis, then.

    sum over k of a[m,k]*b[k,n], then relu:
        Stage(axes=(), reduce=(Axis("k", 64),), combine="sum", body=a*b, result=max(acc, 0), out=2, index=...)
    """

    axes: tuple[Axis, ...]
    reduce: tuple[Axis, ...]
    combine: str
    body: Expr | None
    result: Expr
    out: int = -1
    index: Index = field(default_factory=Index)
    keep: str = ""
    terms: tuple[int, Index] | None = None
    running: str = ""


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """See the module. `useful`: a promise, as (axis of a stage, i32 expression of shared axes): where that axis is
    at or past the expression's value, what the stages compute there changes no output, so it may be left out.
    The value is at least 1. Whoever leaves out nothing computes the same."""

    name: str
    axes: tuple[Axis, ...]
    stages: tuple[Stage, ...]
    operands: tuple[Operand, ...]
    useful: tuple[tuple[str, Expr], ...] = ()
    _hash: int = field(default=0, init=False, repr=False, compare=False)
    """0 until it is asked for: a spec is looked up again and again, and has many parts."""

    @property
    def key(self) -> str:
        """A stable name of what is computed: the same on every machine and in every run."""
        return _key(self)

    def __hash__(self) -> int:
        found: int = self._hash
        if not found:
            found = hash((self.name, self.axes, self.stages, self.operands, self.useful)) or 1
            object.__setattr__(self, "_hash", found)
        return found

    def describe(self) -> str:
        """The spec as text, complete: equal texts are equal specs."""
        lines = [f"{self.name} over " + " ".join(f"{a.name}:{a.extent}" for a in self.axes)]
        for i, o in enumerate(self.operands):
            lines.append(
                f"  ${i} {o.role} {o.dtype}[{o.size}]{' const' if o.const else ''}{' packed' if o.packed else ''}"
            )
        for s in self.stages:
            over = " ".join(f"{a.name}:{a.extent}" for a in s.axes)
            if s.body is not None:
                red = " ".join(f"{a.name}:{a.extent}" for a in s.reduce)
                lines.append(f"  acc = {s.combine} over {red} of {s.body}")
            if s.terms is not None:
                lines.append(f"  ${s.terms[0]}[{s.terms[1]}] = %{s.running or 'term'}")
            target = f"%{s.keep}" if s.keep else f"${s.out}[{s.index}]"
            lines.append(f"  {target} = {s.result}" + (f" over {over}" if over else ""))
        for name, bound in self.useful:
            extent = next(a.extent for s in self.stages for a in (*s.axes, *s.reduce) if a.name == name)
            lines.append(f"  %useful = {bound} over {name}:{extent}")
        return "\n".join(lines)

    @property
    def facts(self) -> int:
        """Bits of `Expr.facts` of all expressions together."""
        bits = 0
        for s in self.stages:
            bits |= s.result.facts | (s.body.facts if s.body is not None else 0)
            for a, _ in (*s.index.terms, *(s.terms[1].terms if s.terms else ())):
                if not isinstance(a, str):
                    bits |= a.facts
        for _, bound in self.useful:
            bits |= bound.facts
        return bits

    def exprs(self) -> Iterator[Expr]:
        """Each expression node of each stage."""
        for s in self.stages:
            if s.body is not None:
                yield from walk(s.body)
            yield from walk(s.result)
            for a, _ in (*s.index.terms, *(s.terms[1].terms if s.terms else ())):
                if not isinstance(a, str):
                    yield from walk(a)
        for _, bound in self.useful:
            yield from walk(bound)

    @property
    def scratch(self) -> int:
        """The number of the scratch operand; -1 if there is none."""
        return next((i for i, o in enumerate(self.operands) if o.role == "scratch"), -1)

    @property
    def sizes(self) -> str:
        """Its extents, those of 1 left out, for people: "112×112×32 over 3×3×3" is 27 terms to an element."""
        widest = max((s.reduce for s in self.stages), key=_product, default=())
        own = next((s.axes for s in reversed(self.stages) if s.axes), ())
        texts = [
            "×".join(str(a.extent) for a in axes if a.extent > 1) for axes in ((*self.axes, *own), widest)
        ]
        return f"{texts[0] or '1'} over {texts[1]}" if texts[1] else texts[0] or "1"

    @property
    def points(self) -> int:
        """How many times the innermost bodies are evaluated in all: a rough cost."""
        total = 0
        shared = _product(self.axes)
        for s in self.stages:
            total += shared * _product(s.axes) * _product(s.reduce)
        return total


@lru_cache(4096)
def _key(spec: KernelSpec) -> str:
    return hashlib.sha256(spec.describe().encode()).hexdigest()[:16]


def _product(axes: tuple[Axis, ...]) -> int:
    n = 1
    for a in axes:
        n *= a.extent
    return n
