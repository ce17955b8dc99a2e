"""What a loop nest means: a slow numpy interpreter, the oracle of every emitter's tests.

`run(nest, buffers)` executes all tiles (or a range of them) on flat numpy arrays. A vector statement is
evaluated with LANE = 0..lanes-1. Reads past a buffer's end yield zeros, as the emitters' over-reads yield
values that no stored lane depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nnjit.codegen.bfloat import bf16_bits, bf16_value
from nnjit.codegen.dtypes import FLOATS, INTS, NUMPY
from nnjit.codegen.expr import LANE, Expr, Index
from nnjit.codegen.groups import GROUPS, dot, grouped
from nnjit.codegen.loops import (
    MATRICES,
    THREAD,
    UNLIMITED,
    Barrier,
    Decode,
    Fetch,
    For,
    If,
    Multiply,
    Nest,
    Put,
    Set,
    Stmt,
    Swap,
    Where,
    Zeros,
)

Array = Any


def run(
    nest: Nest, buffers: Sequence[Array], begin: int = 0, end: int | None = None, lengths: Sequence[int] = ()
) -> None:
    """Executes tiles begin..end-1; output buffers are written in place (flat, C order, dtypes of the operands).
    lengths: of the request; none: no limits."""
    for b, o in zip(buffers, nest.operands, strict=True):
        if b.dtype != NUMPY[o.dtype]:
            raise TypeError(f"{nest.name}: a buffer of {b.dtype} for an operand of {o.dtype}")
    flat = [b.reshape(-1) for b in buffers]
    last = nest.tiles if end is None else end
    with np.errstate(all="ignore"):
        if nest.threads:
            for tile in range(begin, last):
                _together(nest, flat, tile)
        else:
            machine = Machine(nest, flat)
            for name, length in nest.limits.items():
                machine.regs[name] = np.array([length.at(lengths) if lengths else UNLIMITED], np.int32)
            machine.run(nest.body, begin, last)


def _together(nest: Nest, buffers: list[Array], tile: int) -> None:
    """One tile by its threads, each up to the next barrier in turn. Shared arrays begin as NaN or the smallest value,
    so that what was never stored shows."""
    fresh = [
        np.full(o.size, np.nan if o.dtype in FLOATS else np.iinfo(NUMPY[o.dtype]).min, _compute(o.dtype))
        for o in nest.shared
    ]
    everyone = [Machine(nest, buffers + fresh) for _ in range(nest.threads)]
    for number, machine in enumerate(everyone):
        machine.vars[THREAD], machine.team = number, everyone
    runs = [machine.block(nest.body, tile, tile + 1) for machine in everyone]
    while runs:
        going = [run for run in runs if next(run, False)]
        if going and len(going) != len(runs):
            raise RuntimeError(f"{nest.name}: some threads wait at a barrier, others are done")
        runs = going


class Machine:
    """One thread that runs a nest: its loop variables, its registers (arrays of a value for each lane), the buffers
    that it shares with its `team`. lanes: the width of the statement in work."""

    def __init__(self, nest: Nest, buffers: list[Array]) -> None:
        self.nest, self.buffers = nest, buffers
        self.vars: dict[str, int] = {}
        self.regs: dict[str, Array] = {}
        self.team: list[Machine] = []
        self.lanes = 1

    def run(self, body: list[Stmt], begin: int, end: int) -> None:
        for _ in self.block(body, begin, end):
            raise RuntimeError(f"{self.nest.name}: a barrier where no threads are")

    def block(self, body: list[Stmt], begin: int, end: int) -> Iterator[bool]:
        """Runs; yields True at each barrier."""
        for s in body:
            if isinstance(s, Set):
                self.lanes = s.lanes
                self.regs[s.reg] = self.value(s.value)
            elif isinstance(s, For):
                lo, hi = (begin, end) if s.kind == "parallel" else (0, s.extent)
                if s.limit is not None:
                    self.lanes = 1
                    hi = min(hi, int(self.value(s.limit)[0]))
                for i in range(lo, hi):
                    self.vars[s.var] = i
                    yield from self.block(s.body, begin, end)
            elif isinstance(s, Decode):
                v = self.vars[s.source] // s.div
                v = v % s.mod if s.mod else v
                self.vars[s.var] = s.fold - 1 - v // 2 if s.fold and v % 2 else v // 2 if s.fold else v
            elif isinstance(s, If):
                yield from self.block(s.then if self.vars[s.var] < s.below else s.orelse, begin, end)
            elif isinstance(s, Where):
                self.lanes = 1
                if self.value(s.cond)[0]:
                    yield from self.block(s.then, begin, end)
            elif isinstance(s, Barrier):
                yield True
            elif isinstance(s, Swap):
                yield True  # until all have come this far
                other = self.team[self.vars[THREAD] ^ s.bit].regs[s.source]
                yield True  # until all have read
                self.regs[s.reg] = other
            elif isinstance(s, MATRICES):
                self.matrix(s)
            else:
                self.lanes = s.lanes
                value, at = self.value(s.value), self.index(s.index)
                out = self.buffers[s.operand]
                dtype = (*self.nest.operands, *self.nest.shared)[s.operand].dtype
                for lane in range(s.count):
                    v = value[lane]
                    out[at[lane]] = bf16_bits(v) if dtype == "bf16" else v

    def matrix(self, s: Zeros | Fetch | Multiply | Put) -> None:
        """Every thread of a subgroup has the whole matrix; all store the same."""
        self.lanes = 1
        if isinstance(s, Zeros):
            kind = np.float16 if s.dtype == "f16" else _compute(s.dtype)
            self.regs[s.reg] = np.zeros((s.rows, s.columns), kind)
        elif isinstance(s, Multiply):
            sums, left, right = (self.regs[r] for r in (s.acc, s.left, s.right))
            if sums.dtype == np.float16:
                # devices round after each product, after some of them or after all: the first is the worst
                for column, row in zip(left.T, right, strict=True):
                    sums = (sums + np.outer(column, row)).astype(np.float16)
            else:
                sums = sums + left @ right
            self.regs[s.acc] = sums
        else:
            rows, columns = (s.rows, s.columns) if isinstance(s, Fetch) else self.regs[s.reg].shape
            down, across = np.arange(rows)[:, None], np.arange(columns)
            if isinstance(s, Fetch) and s.transposed:
                at = self.index(s.index)[0] + across * s.stride + down
            else:
                at = self.index(s.index)[0] + down * s.stride + across
            if isinstance(s, Fetch) and s.dtype == "i8":
                words = self.buffers[s.operand][at // 4]
                self.regs[s.reg] = (words >> (8 * (at % 4))).astype(np.int8).astype(np.int32)
            elif isinstance(s, Fetch):
                self.regs[s.reg] = self.buffers[s.operand][at].astype(np.float32)
            else:
                self.buffers[s.operand][at] = self.regs[s.reg]

    def index(self, i: Index) -> Array:
        same, at = i.const, None  # what all lanes have, and what differs
        for atom, c in i.terms:
            if not isinstance(atom, str):
                lanes = self.value(atom).astype(np.int64)
            elif atom == LANE:
                lanes = np.arange(self.lanes, dtype=np.int64)
            else:
                same += c * self.vars[atom]
                continue
            at = c * lanes if at is None else at + c * lanes
        if at is not None:
            return at + same
        return np.array([same], np.int64) if self.lanes == 1 else np.full(self.lanes, same, np.int64)

    def value(self, e: Expr) -> Array:
        if e.op == "const":
            return np.full(self.lanes, _number(e.attr, e.dtype), _compute(e.dtype))
        if e.op == "axis":
            return self.index(e.attr).astype(np.int32)
        if e.op == "reg":
            v = self.regs[e.attr]
            return v[:1].repeat(self.lanes) if len(v) != self.lanes else v
        if e.op == "load":
            return self.load(e)
        if e.op == "each":
            lanes, self.lanes = self.lanes, 1
            four = [self.value(a)[0] for a in e.args]
            self.lanes = lanes
            return np.array(four, _compute(e.dtype))
        if e.op == "lane":
            return self.lane(e.args[0], e.attr).repeat(self.lanes)
        args = [self.value(a) for a in e.args]
        if e.op in OPS:
            return OPS[e.op](*args).astype(_compute(e.dtype), copy=False)
        if e.op == "dot":
            return dot(args[0], e.args[0].dtype, args[1], e.args[1].dtype, *args[2:])
        if e.op in ("cast", "bitcast"):
            return _cast(args[0], e.args[0].dtype, e.dtype, e.op)
        fold = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}
        fold |= {"pmax": np.fmax, "pmin": np.fmin, "any": np.logical_or, "all": np.logical_and}
        return np.full(self.lanes, fold[e.op.removeprefix("lanes_")].reduce(args[0]), args[0].dtype)

    def lane(self, e: Expr, lane: int) -> Array:
        """One lane of a vector."""
        lanes, self.lanes = self.lanes, 4
        try:
            return self.value(e)[lane : lane + 1]
        finally:
            self.lanes = lanes

    def load(self, e: Expr) -> Array:
        if e.dtype in GROUPS:
            return self.group(e)
        at = self.index(e.attr.index)
        source = self.buffers[e.attr.operand]
        inside, valid = (at >= 0) & (at < len(source)), None
        for i, n in e.attr.guard:
            v = self.index(i)
            within = (v >= 0) & (v < n)
            valid = within if valid is None else valid & within
        if inside.all() and (valid is None or valid.all()):
            raw = source[at]
            return bf16_value(raw) if e.dtype == "bf16" else raw.astype(_compute(e.dtype))
        if valid is None:
            valid = np.ones(self.lanes, bool)
        inside &= valid
        raw = source[np.where(inside, at, 0)] if len(source) else np.zeros(self.lanes, source.dtype)
        value = bf16_value(raw) if e.dtype == "bf16" else raw.astype(_compute(e.dtype))
        value = np.where(inside, value, np.zeros_like(value))
        return np.where(valid, value, self.value(e.args[0])) if e.args else value

    def group(self, e: Expr) -> Array:
        """Neighbouring elements of an operand as the word that a lane holds."""
        source = self.buffers[e.attr.operand]
        if source.dtype == np.int32:  # words already
            at = self.index(e.attr.index)
            inside = (at >= 0) & (at < len(source))
            return np.where(inside, source[np.where(inside, at, 0)], 0)
        at = self.index(e.attr.index)[:, None] + np.arange(GROUPS[e.dtype][1])
        inside = (at >= 0) & (at < len(source))
        return grouped(np.where(inside, source[np.where(inside, at, 0)], 0), e.dtype)


def _compute(dtype: str) -> Any:
    """Registers of f16 and bf16 hold f32, those of groups words."""
    if dtype in GROUPS:
        return np.int32
    return np.float32 if dtype in ("f16", "bf16", "half") else NUMPY[dtype]


def _number(value: Any, dtype: str) -> Any:
    return (
        np.array(value).astype(_compute(dtype))
        if dtype in FLOATS or dtype == "bool"
        else _compute(dtype)(value)
    )


def _cast(x: Array, source: str, to: str, how: str) -> Array:
    if how == "bitcast":
        return x.view(_compute(to))
    if to == "f16":
        return x.astype(np.float16).astype(np.float32)
    if to == "bf16":
        return bf16_value(bf16_bits(x.astype(np.float32)))
    if to == "bool":
        return x != 0
    if source in FLOATS and to in INTS:
        # saturating through 64 bits, then wrapping into the narrow type, as numpy on x86 and onnxruntime do
        clipped = np.clip(np.trunc(np.nan_to_num(x.astype(np.float64))), -(2.0**63), 2.0**63 - 1024)
        return (
            clipped.astype(np.int64).astype(NUMPY[to])
            if to != "u64"
            else np.maximum(clipped, 0).astype(np.uint64)
        )
    return x.astype(NUMPY[to])


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    safe = np.where(b == 0, 1, b).astype(a.dtype)
    floor = a // safe  # the smallest value by -1 wraps around to itself
    towards_zero = floor + ((a % safe != 0) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, 0, towards_zero).astype(a.dtype)


def _erf(x: Array) -> Array:
    from math import erf

    return np.array([erf(v) for v in x.astype(np.float64)])


def _pow(a: Array, b: Array) -> Array:
    return np.power(a.astype(np.float64), b).astype(a.dtype)


OPS: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divide, "neg": np.negative, "abs": np.abs,
    "min": np.minimum, "max": np.maximum,
    "pmin": lambda a, b: np.where(b < a, b, a), "pmax": lambda a, b: np.where(a < b, b, a),
    "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc,
    "exp": np.exp, "decay": np.exp, "log": np.log, "erf": _erf, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "atan": np.arctan,
    "pow": _pow, "fma": lambda a, b, c: a.astype(np.float64) * b + c,
    "rem": np.fmod, "mod": np.mod,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "not": np.logical_not,
    "band": np.bitwise_and, "bor": np.bitwise_or, "bxor": np.bitwise_xor, "bnot": np.invert,
    "shl": np.left_shift, "shr": np.right_shift, "select": np.where,
}  # fmt: skip
"""Every arithmetic operation of the language on numpy arrays of one dtype. `shr` of a signed type keeps the
sign; `rem` has the dividend's sign (C), `mod` the divisor's (Python); `round` is half to even."""
