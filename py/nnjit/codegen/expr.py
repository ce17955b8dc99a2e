"""Scalar expressions over named axes: what one element of a tensor is.

`Index` is an affine offset (constant + sum of coefficient * axis, plus run-time terms for gathers);
`Expr` is the one node type of the value language. Both are immutable and hash in O(1): emitters use
them as keys for common subexpressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Union

from nnjit.codegen.dtypes import FLOATS

Atom = Union[str, "Expr"]

LANE = "@lane"
"""The atom that runs over the lanes of a vector: coefficient 0 is a splat, 1 a contiguous access."""


class UnsupportedExpr(Exception):
    """A target has no instructions for an expression: the node runs on the reference instead."""


class Index:
    """`const + sum(coeff * atom)` in elements. An atom is an axis name or an integer `Expr` (a gather)."""

    __slots__ = ("_hash", "const", "terms")
    const: int
    terms: tuple[tuple[Atom, int], ...]

    def __init__(self, const: int = 0, terms: Mapping[Atom, int] | tuple[tuple[Atom, int], ...] = ()) -> None:
        self.const = const
        kept = [(a, c) for a, c in dict(terms).items() if c] if terms else []
        if len(kept) > 1:
            kept.sort(key=_atom_key)
        self.terms = tuple(kept)
        self._hash = hash((const, self.terms))

    @staticmethod
    def of(x: Index | int | str) -> Index:
        """An integer, an axis name or an Index, as an Index."""
        if isinstance(x, Index):
            return x
        return Index(x) if isinstance(x, int) else Index(0, ((x, 1),))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Index)
            and self._hash == other._hash
            and self.const == other.const
            and self.terms == other.terms
        )

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return self if other == 0 else _raw(self.const + other, self.terms)
        if not other.terms:
            return self + other.const
        if not self.terms:
            return other + self.const
        merged = dict(self.terms)
        for atom, coeff in other.terms:
            merged[atom] = merged.get(atom, 0) + coeff
        return Index(self.const + other.const, merged)

    def __mul__(self, k: int) -> Index:
        if k == 1:
            return self
        return Index(self.const * k, {a: c * k for a, c in self.terms} if k else ())

    def coeff(self, atom: Atom) -> int:
        for a, c in self.terms:
            if a == atom:
                return c
        return 0

    def subst(self, env: Mapping[str, Index], expr: Callable[[Expr], Expr] | None = None) -> Index:
        """Each axis in `env` replaced by its Index; `expr` rewrites the run-time terms."""
        out: dict[Atom, int] = {}
        const = self.const
        for atom, coeff in self.terms:
            if isinstance(atom, str):
                to = env.get(atom)
                if to is None:
                    out[atom] = out.get(atom, 0) + coeff
                    continue
                const += coeff * to.const
                for a, c in to.terms:
                    out[a] = out.get(a, 0) + c * coeff
            else:
                new = expr(atom) if expr else atom
                out[new] = out.get(new, 0) + coeff
        return Index(const, out)

    def axes(self) -> Iterator[str]:
        """Every axis name this depends on, through run-time terms as well."""
        for atom, _ in self.terms:
            if isinstance(atom, str):
                yield atom
            else:
                yield from atom.axes()

    def __repr__(self) -> str:
        parts = [f"{a}" if c == 1 else f"{c}*{a}" for a, c in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts)


def _atom_key(item: tuple[Atom, int]) -> tuple[int, Any]:
    atom = item[0]
    # not the hash: strings hash differently in each process, and a spec's key must not
    return (0, atom) if isinstance(atom, str) else (1, repr(atom))


def _raw(const: int, terms: tuple[tuple[Atom, int], ...]) -> Index:
    made = Index.__new__(Index)
    made.const, made.terms, made._hash = const, terms, hash((const, terms))
    return made


class Expr:
    """One operation on scalars. `op` and `attr` by kind:

    | op | attr | args |
    |---|---|---|
    | const | the Python value | |
    | load | Access | (value where a guard fails,) if guarded |
    | axis | Index | | the i32 value of an affine expression
    | acc, reg, local | name | | the reduction's result; a register; an earlier stage's result
    | cast, bitcast | | (x,) to `dtype`
    | dot | | (x, y[, total]): total + the sum of products of two groups (see `groups`), an i32
    | anything else | | operands, e.g. add(a, b), select(cond, a, b), fma(a, b, c) = a*b + c
    """

    __slots__ = ("_axes", "_hash", "args", "attr", "dtype", "op")
    op: str
    dtype: str
    args: tuple[Expr, ...]
    attr: Any

    def __init__(self, op: str, dtype: str, args: tuple[Expr, ...] = (), attr: Any = None) -> None:
        self.op, self.dtype, self.args, self.attr = op, dtype, args, attr
        # -0.0 == 0.0 and True == 1 in Python, but they are different constants
        key = (repr(attr), dtype) if op == "const" else attr
        self._hash = hash((op, dtype, key, args))
        self._axes: frozenset[str] | None = None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Expr) or self._hash != other._hash or self.op != other.op:
            return False
        if self.op == "const":
            return self.dtype == other.dtype and repr(self.attr) == repr(other.attr)
        return self.dtype == other.dtype and bool(self.attr == other.attr) and self.args == other.args

    def axes(self) -> frozenset[str]:
        """Names this value depends on: axes (loop variables, LANE) and, with a `%`, registers."""
        if self._axes is None:
            names: set[str] = set()
            for a in self.args:
                names |= a.axes()
            if self.op in ("load", "axis"):
                names.update(self.attr.axes())
            elif self.op in ("reg", "acc", "local"):
                names.add("%" + self.attr)
            self._axes = frozenset(names)
        return self._axes

    def __repr__(self) -> str:
        if self.op == "const":
            return f"{self.attr!r}:{self.dtype}"
        if self.op in ("load", "axis"):
            tail = f" else {self.args[0]}" if self.args else ""
            return f"{self.attr}{tail}"
        if self.op in ("reg", "acc", "local"):
            return f"%{self.attr}"
        suffix = f":{self.dtype}" if self.op in ("cast", "bitcast") else ""
        return f"{self.op}{suffix}({', '.join(map(repr, self.args))})"


class Access:
    """Element `index` of operand number `operand`, read only where every guard (i, n) has 0 <= i < n."""

    __slots__ = ("_hash", "guard", "index", "operand")

    def __init__(self, operand: int, index: Index, guard: tuple[tuple[Index, int], ...] = ()) -> None:
        self.operand, self.index, self.guard = operand, index, guard
        self._hash = hash((operand, index, guard))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Access)
            and self.operand == other.operand
            and self.index == other.index
            and self.guard == other.guard
        )

    def axes(self) -> Iterator[str]:
        yield from self.index.axes()
        for i, _ in self.guard:
            yield from i.axes()

    def __repr__(self) -> str:
        guard = "".join(f" if 0<={i}<{n}" for i, n in self.guard)
        return f"${self.operand}[{self.index}]{guard}"


def rewrite(
    e: Expr, env: Mapping[str, Index], leaf: Callable[[Expr], Expr | None] | None = None,
    memo: dict[Expr, Expr] | None = None,
) -> Expr:  # fmt: skip
    """`e` with axes replaced by `env`; `leaf` may replace any node before its children are looked at."""
    return _Rewriter(env, leaf, {} if memo is None else memo)(e)


class _Rewriter:
    """Not a function that calls itself: that is a cycle, and its memo would stay until the next collection."""

    __slots__ = ("env", "leaf", "memo")

    def __init__(
        self, env: Mapping[str, Index], leaf: Callable[[Expr], Expr | None] | None, memo: dict[Expr, Expr]
    ) -> None:
        self.env, self.leaf, self.memo = env, leaf, memo

    def __call__(self, x: Expr) -> Expr:
        done = self.memo.get(x)
        if done is not None:
            return done
        env = self.env
        new = self.leaf(x) if self.leaf else None
        if new is None and x.op == "load" and not x.args:
            new = _moved(x, env)
        if new is None:
            args = tuple([self(a) for a in x.args])
            if x.op == "load":
                access: Access = x.attr
                guard = tuple((i.subst(env, self), n) for i, n in access.guard)
                index = access.index.subst(env, self)
                new = Expr("load", x.dtype, args, Access(access.operand, index, guard))
            elif x.op == "axis":
                new = Expr("axis", x.dtype, args, x.attr.subst(env, self))
            else:
                new = x if args == x.args else Expr(x.op, x.dtype, args, x.attr)
        self.memo[x] = new
        return new


MOVES = 1 << 13
_moves: dict[tuple[Expr, tuple[Index | None, ...]], Expr | None] = {}


def _moved(x: Expr, env: Mapping[str, Index]) -> Expr | None:
    """A plain load with its axes replaced; None for a gather.

    The copies of a tile's body ask for the same few loads again and again. That equal ones are one object
    also makes every comparison in the passes after this one cheap."""
    key = (x, tuple(map(env.get, x.axes())))
    known = _moves.get(key, x)
    if known is not x:
        return known
    access: Access = x.attr
    new = None
    if not access.guard and all(isinstance(a, str) for a, _ in access.index.terms):
        new = Expr("load", x.dtype, (), Access(access.operand, access.index.subst(env)))
    if len(_moves) >= MOVES:
        _moves.clear()
    _moves[key] = new
    return new


def walk(e: Expr) -> Iterator[Expr]:
    """Each distinct node below and including `e` once, run-time index terms included."""
    seen: set[Expr] = set()
    stack = [e]
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        yield x
        stack.extend(x.args)
        for i in indices(x):
            stack.extend(a for a, _ in i.terms if not isinstance(a, str))


def indices(e: Expr) -> tuple[Index, ...]:
    """The affine indices a node itself holds."""
    if e.op == "load":
        return (e.attr.index, *(i for i, _ in e.attr.guard))
    return (e.attr,) if e.op == "axis" else ()


# ---- constructors: short names, types checked where they are cheap to get wrong ----


def const(value: float | int | bool, dtype: str) -> Expr:
    """A constant; the Python value is brought to the kind of `dtype`."""
    kind = bool if dtype == "bool" else float if dtype in FLOATS else int
    exact = kind(value)
    key = (dtype, repr(exact))
    made = _constants.get(key)
    if made is None:
        if len(_constants) >= MOVES:
            _constants.clear()
        made = _constants[key] = Expr("const", dtype, (), exact)
    return made


_constants: dict[tuple[str, str], Expr] = {}
"""Equal constants are one object, as long as they are asked for often: see `_moved`."""


def axis(i: Index | str | int, dtype: str = "i32") -> Expr:
    """The value of an affine expression of axes."""
    e = Expr("axis", "i32", (), Index.of(i))
    return e if dtype == "i32" else cast(e, dtype)


def op(name: str, *args: Expr) -> Expr:
    """An arithmetic operation whose result has its operands' type."""
    if len({a.dtype for a in args}) != 1:
        raise TypeError(f"{name}: operands of types {[a.dtype for a in args]}")
    return Expr(name, args[0].dtype, args)


def compare(name: str, a: Expr, b: Expr) -> Expr:
    """eq ne lt le gt ge: a bool."""
    if a.dtype != b.dtype:
        raise TypeError(f"{name}: operands of types {a.dtype} and {b.dtype}")
    return Expr(name, "bool", (a, b))


def select(cond: Expr, a: Expr, b: Expr) -> Expr:
    """`a` where `cond` holds, `b` elsewhere; both sides may be evaluated."""
    if cond.dtype != "bool" or a.dtype != b.dtype:
        raise TypeError(f"select({cond.dtype}, {a.dtype}, {b.dtype})")
    return Expr("select", a.dtype, (cond, a, b))


def cast(x: Expr, dtype: str) -> Expr:
    """Value conversion with ONNX Cast's rules (float to int truncates, to bool is != 0)."""
    if x.dtype == dtype:
        return x
    if x.op == "const":
        value = x.attr
        whole = isinstance(value, int) and -(2**31) <= value < 2**31
        if dtype in ("f32", "f64", "bool") or (whole and dtype in ("i32", "i64")):
            return const(value, dtype)
    return Expr("cast", dtype, (x,))


def bitcast(x: Expr, dtype: str) -> Expr:
    """The same bits as another type of the same size."""
    return x if x.dtype == dtype else Expr("bitcast", dtype, (x,))


def load(operand: int, index: Index, dtype: str) -> Expr:
    return Expr("load", dtype, (), Access(operand, index))


def guarded(
    operand: int, index: Index, dtype: str, guard: tuple[tuple[Index, int], ...], other: Expr
) -> Expr:
    """A load that yields `other` outside the guards, and does not touch memory there."""
    return Expr("load", dtype, (other,), Access(operand, index, guard))


def reg(name: str, dtype: str) -> Expr:
    return Expr("reg", dtype, (), name)


def acc(dtype: str) -> Expr:
    """The finished reduction of the stage, for use in its result expression."""
    return Expr("acc", dtype, (), "acc")


def local(name: str, dtype: str) -> Expr:
    """What an earlier stage of the kernel left in the local `name`, at the same shared axes."""
    return Expr("local", dtype, (), name)
