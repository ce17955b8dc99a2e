"""The loop nest: what both emitters print and the interpreter runs.

Statements are few: loops, an if on a loop variable, register assignment and stores. Values are `Expr`s
over loop variables, registers and LANE; `lanes` says how many elements a statement computes at once.
A Nest is made by `schedule.apply`; `interp` is its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from nnjit.codegen.expr import Expr, Index
from nnjit.codegen.spec import Operand

if TYPE_CHECKING:
    from nnjit.graph.room.lengths import Length

UNLIMITED = (1 << 31) - (1 << 16)
"""What a register of `Nest.limits` holds where no request tells lengths: a tile more is still an i32."""
THREAD = "@thread"
"""The variable that holds a thread's number in its tile."""


@dataclass(slots=True)
class For:
    """`var` runs over 0..extent-1, or ends before at `limit`, an i32 of registers and outer variables that is asked
    once, ahead of the loop. One loop is 'parallel', the outermost: its iterations are the kernel's tiles, and
    whoever calls the kernel says which of them to do."""

    var: str
    extent: int
    body: list[Stmt]
    kind: str = "serial"
    limit: Expr | None = None


@dataclass(slots=True)
class Decode:
    """`var = source // div % mod`: an axis out of the flattened parallel loop (mod 0: no modulo). With `fold`, the
    axis' extent, places are taken from both ends in turn: 0, fold - 1, 1, fold - 2, ..."""

    var: str
    source: str
    div: int
    mod: int
    fold: int = 0


@dataclass(slots=True)
class If:
    """`then` where `var < below`, `orelse` elsewhere: full tiles against the tail tile."""

    var: str
    below: int
    then: list[Stmt]
    orelse: list[Stmt]


@dataclass(slots=True)
class Set:
    """Register `reg` takes `value` (`lanes` elements)."""

    reg: str
    value: Expr
    lanes: int


@dataclass(slots=True)
class Store:
    """Lanes 0..count-1 of `value` go to `operand[index]`; the index may depend on LANE."""

    operand: int
    index: Index
    value: Expr
    lanes: int
    count: int


@dataclass(slots=True)
class Where:
    """`then` where `cond` holds; a condition without lanes, of loop variables and registers."""

    cond: Expr
    then: list[Stmt]


@dataclass(slots=True)
class Barrier:
    """All threads of the tile come here before one goes on; what they stored in its shared arrays is seen by all.
    Never inside an If or a Where."""


@dataclass(slots=True)
class Swap:
    """Register `reg` takes what register `source` holds in the thread whose number differs in the one bit `bit`, which
    is of the same subgroup. All threads of the tile come here, as to a barrier; both registers have one lane."""

    reg: str
    source: str
    bit: int
    dtype: str


@dataclass(slots=True)
class Zeros:
    """Matrix register `reg` becomes rows x columns zeros. Matrices belong to a subgroup: `subgroup` threads with
    consecutive numbers, all of which do the same to them."""

    reg: str
    rows: int
    columns: int
    dtype: str


@dataclass(slots=True)
class Fetch:
    """Matrix register `reg` takes rows x columns elements of an array, from `index` on, rows `stride` apart, or columns
    where it is `transposed`; `side` of a product: "left" or "right". Elements of i8 lie four to a word of the array:
    `index` and `stride` count elements."""

    reg: str
    operand: int
    index: Index
    stride: int
    rows: int
    columns: int
    side: str
    dtype: str = "f16"
    transposed: bool = False


@dataclass(slots=True)
class Multiply:
    """acc += left * right, all matrix registers."""

    acc: str
    left: str
    right: str


@dataclass(slots=True)
class Put:
    """The elements of a matrix register go to an array, from `index` on, rows `stride` apart."""

    reg: str
    operand: int
    index: Index
    stride: int


MATRICES = (Zeros, Fetch, Multiply, Put)
Stmt: TypeAlias = "For | Decode | If | Set | Store | Where | Barrier | Swap | Zeros | Fetch | Multiply | Put"


@dataclass(slots=True)
class Nest:
    """A lowered kernel: `tiles` iterations of the parallel loop, `body` being that loop.

    Where `threads` is not 0 (GPUs), that many threads do each tile together: every one runs the body with its
    number in the variable THREAD. They share the arrays `shared`, whose contents are of no other tile: operands
    len(operands), len(operands) + 1, ... of the body.

    `limits`: registers that hold a length of the request that runs, or more than any axis has where there is none."""

    name: str
    operands: tuple[Operand, ...]
    tiles: int
    body: list[Stmt] = field(default_factory=list)
    threads: int = 0
    shared: tuple[Operand, ...] = ()
    limits: Mapping[str, Length] = field(default_factory=dict)

    def __str__(self) -> str:
        head = ", ".join(f"${i}:{o.dtype}[{o.size}]" for i, o in enumerate(self.operands))
        lines = [f"kernel {self.name}({head}) tiles={self.tiles}"]
        if self.threads:
            arrays = (f"${len(self.operands) + i}:{o.dtype}[{o.size}]" for i, o in enumerate(self.shared))
            lines[0] += f" threads={self.threads} shared=({', '.join(arrays)})"
        lines += [f"  %{name} = {length} of the request" for name, length in self.limits.items()]
        return "\n".join([*lines, *_lines(self.body, 1)])


def mapped(
    body: Sequence[Stmt],
    value: Callable[[Expr], Expr],
    stored: Callable[[int, Expr], Expr] | None = None,
    about: int = -1,
) -> list[Stmt]:
    """The same statements with every expression, those in indices too, passed through `value`; what is stored goes
    through `stored(operand, expression)` first, where a target keeps an element type in another form. about: the facts
    without one of which `value` leaves an expression as it is."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, For):
            limit = None if s.limit is None else value(s.limit)
            out.append(For(s.var, s.extent, mapped(s.body, value, stored, about), s.kind, limit))
        elif isinstance(s, If):
            then, orelse = (mapped(b, value, stored, about) for b in (s.then, s.orelse))
            out.append(If(s.var, s.below, then, orelse))
        elif isinstance(s, Set):
            new = value(s.value) if s.value.facts & about else s.value
            out.append(s if new is s.value else Set(s.reg, new, s.lanes))
        elif isinstance(s, Store):
            new = stored(s.operand, s.value) if stored else s.value
            new = value(new) if new.facts & about else new
            index = s.index.subst({}, value)
            same = new is s.value and index is s.index
            out.append(s if same else Store(s.operand, index, new, s.lanes, s.count))
        elif isinstance(s, Where):
            out.append(Where(value(s.cond), mapped(s.then, value, stored, about)))
        elif isinstance(s, (Fetch, Put)):
            out.append(replace(s, index=s.index.subst({}, value)))
        else:
            out.append(s)
    return out


def _lines(body: list[Stmt], depth: int) -> list[str]:
    pad, out = "  " * depth, []
    for s in body:
        if isinstance(s, For):
            until = "" if s.limit is None else f" until {s.limit}"
            out.append(f"{pad}{'parallel ' if s.kind == 'parallel' else ''}for {s.var} in {s.extent}{until}:")
            out += _lines(s.body, depth + 1)
        elif isinstance(s, Decode):
            ends = f", from both ends of {s.fold}" if s.fold else ""
            out.append(f"{pad}{s.var} = {s.source} // {s.div}" + (f" % {s.mod}" if s.mod else "") + ends)
        elif isinstance(s, If):
            out.append(f"{pad}if {s.var} < {s.below}:")
            out += _lines(s.then, depth + 1)
            if s.orelse:
                out.append(f"{pad}else:")
                out += _lines(s.orelse, depth + 1)
        elif isinstance(s, Set):
            out.append(f"{pad}%{s.reg}{_width(s.lanes)} = {s.value}")
        elif isinstance(s, Where):
            out.append(f"{pad}where {s.cond}:")
            out += _lines(s.then, depth + 1)
        elif isinstance(s, Barrier):
            out.append(f"{pad}barrier")
        elif isinstance(s, Swap):
            out.append(f"{pad}%{s.reg} = %{s.source} of thread ^ {s.bit}")
        elif isinstance(s, Zeros):
            out.append(f"{pad}%{s.reg} = {s.dtype} zeros {s.rows}x{s.columns}")
        elif isinstance(s, Fetch):
            out.append(
                f"{pad}%{s.reg} = {s.side} {s.rows}x{s.columns} {s.dtype} of ${s.operand}[{s.index}] by {s.stride}"
                + (" transposed" if s.transposed else "")
            )
        elif isinstance(s, Multiply):
            out.append(f"{pad}%{s.acc} += %{s.left} * %{s.right}")
        elif isinstance(s, Put):
            out.append(f"{pad}${s.operand}[{s.index}] by {s.stride} = %{s.reg}")
        else:
            kept = f" first {s.count}" if s.count != s.lanes else ""
            out.append(f"{pad}${s.operand}[{s.index}]{_width(s.lanes)}{kept} = {s.value}")
    return out


def _width(lanes: int) -> str:
    return f" x{lanes}" if lanes > 1 else ""
