"""Scalar expressions over named axes: what one element of a tensor is.

`Index` is an affine offset (constant + sum of coefficient * axis, plus run-time terms for gathers);
`Expr` is the one node type of the value language. Both are immutable and hash-consed: two equal ones are one
object. So they compare and hash as fast as objects do, and what a pass found out about one holds wherever it occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Union

from nnjit.codegen.dtypes import FLOATS
from nnjit.codegen.hashcons import TABLE, remember

Atom = Union[str, "Expr"]
Terms = tuple[tuple[Atom, int], ...]

LANE = "@lane"
"""The atom that runs over the lanes of a vector: coefficient 0 is a splat, 1 a contiguous access."""


class UnsupportedExpr(Exception):
    """A target has no instructions for an expression: the node runs on the reference instead."""


class _Facts(dict[object, int]):
    def __missing__(self, name: object) -> int:
        bit = self[name] = 1 << len(self)
        return bit


FACTS = _Facts()
"""The name of an operation or a type, the number of an operand, "guard" or "gather" -> its bit of `Expr.facts`."""

GUARD, GATHER = FACTS["guard"], FACTS["gather"]


def facts(names: tuple[str | int, ...]) -> int:
    """The bits of any of these names: `e.facts & facts(("exp", 3))` is 0 where `e` has no exp and no load of $3."""
    bits = 0
    for name in names:
        bits |= FACTS[name]
    return bits


class Index:
    """`const + sum(coeff * atom)` in elements. An atom is an axis name or an integer `Expr` (a gather)."""

    __slots__ = ("_axes", "_split", "const", "plain", "terms")
    const: int
    terms: Terms
    plain: bool
    """Whether all atoms are axes."""
    _axes: frozenset[str] | None
    _split: tuple[Terms, int] | None

    def __new__(cls, const: int = 0, terms: Mapping[Atom, int] | Terms = ()) -> Index:
        if not terms:
            return _index(const, ())
        kept = [(a, c) for a, c in dict(terms).items() if c]
        for a, _ in kept:
            if not isinstance(a, str):
                if len(kept) > 1:
                    kept.sort(key=_atom_key)
                return _index(const, tuple(kept))
        if len(kept) > 1:
            kept.sort()  # type: ignore[call-overload]  # no two have the same name
        return _index(const, tuple(kept), True)

    @staticmethod
    def _of_axes(const: int, terms: dict[Atom, int]) -> Index:
        """The same where all atoms are axes."""
        kept = [term for term in terms.items() if term[1]]
        kept.sort()  # type: ignore[call-overload]  # no two have the same name
        return _index(const, tuple(kept), True)

    @staticmethod
    def of(x: Index | int | str) -> Index:
        """An integer, an axis name or an Index, as an Index."""
        if isinstance(x, Index):
            return x
        return _index(x, ()) if isinstance(x, int) else _index(0, ((x, 1),))

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return self if other == 0 else _index(self.const + other, self.terms, self.plain)
        if not other.terms:
            return self + other.const
        if not self.terms:
            return other + self.const
        merged = dict(self.terms)
        for atom, coeff in other.terms:
            merged[atom] = merged.get(atom, 0) + coeff
        const = self.const + other.const
        return Index._of_axes(const, merged) if self.plain and other.plain else Index(const, merged)

    def __mul__(self, k: int) -> Index:
        if k == 1:
            return self
        return _index(self.const * k, tuple([(a, c * k) for a, c in self.terms]) if k else ())

    def coeff(self, atom: Atom) -> int:
        for a, c in self.terms:
            if a == atom:
                return c
        return 0

    def split(self) -> tuple[Terms, int]:
        """The terms without LANE, and LANE's coefficient."""
        if self._split is None:
            lane = self.coeff(LANE)
            self._split = (tuple([t for t in self.terms if t[0] != LANE]) if lane else self.terms), lane
        return self._split

    def subst(self, env: Mapping[str, Index], expr: Callable[[Expr], Expr] | None = None) -> Index:
        """Each axis in `env` replaced by its Index; `expr` rewrites the run-time terms."""
        if not self.terms or (not env and self.plain):
            return self
        out: dict[Atom, int] = {}
        const = self.const
        if self.plain:
            plain = True
            for atom, coeff in self.terms:
                to = env.get(atom)  # type: ignore[arg-type]
                if to is None:
                    out[atom] = out.get(atom, 0) + coeff
                    continue
                const += coeff * to.const
                plain = plain and to.plain
                for a, c in to.terms:
                    out[a] = out.get(a, 0) + c * coeff
            return Index._of_axes(const, out) if plain else Index(const, out)
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

    def axes(self) -> frozenset[str]:
        """Every axis name this depends on, through run-time terms as well."""
        if self._axes is None:
            if self.plain:
                self._axes = frozenset([a for a, _ in self.terms])  # type: ignore[misc]
            else:
                self._axes = _NONE.union(*[(a,) if isinstance(a, str) else a.axes() for a, _ in self.terms])
        return self._axes

    def __repr__(self) -> str:
        parts = [f"{a}" if c == 1 else f"{c}*{a}" for a, c in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts)


_NONE: frozenset[str] = frozenset()


def _atom_key(item: tuple[Atom, int]) -> tuple[int, str]:
    atom = item[0]
    # not the address: it differs in each process, and a spec's key must not
    return (0, atom) if isinstance(atom, str) else (1, _text(atom))


_text = lru_cache(4096)(repr)
"""Of an atom, which is asked for again whenever it meets another."""


def _index(const: int, terms: Terms, plain: bool = False) -> Index:
    """The Index of terms that are in order and not 0; plain: they are known to be axes."""
    key = (const, terms)
    made: Index | None = TABLE.get(key)
    if made is None:
        made = object.__new__(Index)
        made.const, made.terms, made._axes, made._split = const, terms, None, None
        made.plain = plain or not [a for a, _ in terms if not isinstance(a, str)]
        remember(key, made)
    return made


class Access:
    """Element `index` of operand number `operand`, read only where every guard (i, n) has 0 <= i < n."""

    __slots__ = ("guard", "index", "operand")
    operand: int
    index: Index
    guard: tuple[tuple[Index, int], ...]

    def __new__(cls, operand: int, index: Index, guard: tuple[tuple[Index, int], ...] = ()) -> Access:
        key = (operand, index, guard)
        made: Access | None = TABLE.get(key)
        if made is None:
            made = object.__new__(cls)
            made.operand, made.index, made.guard = key
            remember(key, made)
        return made

    def axes(self) -> frozenset[str]:
        if not self.guard:
            return self.index.axes()
        return self.index.axes().union(*[i.axes() for i, _ in self.guard])

    def __repr__(self) -> str:
        guard = "".join(f" if 0<={i}<{n}" for i, n in self.guard)
        return f"${self.operand}[{self.index}]{guard}"


class Expr:
    """One operation on scalars. `op` and `attr` by kind:

    | op | attr | args |
    |---|---|---|
    | const | the Python value | |
    | load | Access | (value where a guard fails,) if guarded |
    | axis | Index | | the i32 value of an affine expression
    | acc, reg, local | name | | the reduction's result; a register; an earlier stage's result
    | cast, bitcast | | (x,) to `dtype`
    | distant | Expr of a register | (cond, near, x): near, but that of x where cond holds, see `functions.distant` |
    | dot | | (x, y[, total]): total + the sum of products of two groups (see `groups`), an i32
    | anything else | | operands, e.g. add(a, b), select(cond, a, b), fma(a, b, c) = a*b + c
    """

    __slots__ = ("_axes", "args", "attr", "dtype", "facts", "op")
    op: str
    dtype: str
    args: tuple[Expr, ...]
    attr: Any
    facts: int
    """Bits of `FACTS`: the operations and types that occur here or below, the operands that are read, whether a load is
    guarded or a gather."""
    _axes: frozenset[str] | None

    def __new__(cls, op: str, dtype: str, args: tuple[Expr, ...] = (), attr: Any = None) -> Expr:
        # -0.0 == 0.0 in Python, but they are different constants; a NaN equals nothing, but is one constant
        odd = op == "const" and (not attr or attr != attr)
        key = (op, dtype, args, repr(attr) if odd else attr)
        made: Expr | None = TABLE.get(key)
        if made is None:
            made = object.__new__(cls)
            made.op, made.dtype, made.args, made.attr, made._axes = op, dtype, args, attr, None
            bits = FACTS[op] | FACTS[dtype]
            for a in args:
                bits |= a.facts
            made.facts = bits | _own_facts(op, attr) if op in ("load", "axis") else bits
            remember(key, made)
        return made

    def axes(self) -> frozenset[str]:
        """Names this value depends on: axes (loop variables, LANE) and, with a `%`, registers."""
        found = self._axes
        if found is None:
            op, args = self.op, self.args
            if op in ("load", "axis"):
                found = self.attr.axes()
            elif op in ("reg", "acc", "local"):
                found = frozenset(("%" + self.attr,))
            else:
                found = _NONE
            if args:
                found = found.union(*[a.axes() for a in args])
            self._axes = found
        return found

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


def _own_facts(op: str, attr: Any) -> int:
    """What a load or an axis adds to the facts of its operands."""
    bits = 0
    if op == "load":
        bits = FACTS[attr.operand] | (GUARD if attr.guard else 0)
        inner = (attr.index, *[i for i, _ in attr.guard])
    else:
        inner = (attr,)
    for i in inner:
        if not i.plain:
            bits |= GATHER
            for a, _ in i.terms:
                if not isinstance(a, str):
                    bits |= a.facts
    return bits


# ---- constructors: short names, types checked where they are cheap to get wrong ----


def const(value: float | int | bool, dtype: str) -> Expr:
    """A constant; the Python value is brought to the kind of `dtype`."""
    kind = bool if dtype == "bool" else float if dtype in FLOATS else int
    return Expr("const", dtype, (), kind(value))


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
