"""Expressions -> instructions on the stack of a FunctionBuilder, scalar or four lanes wide.

A run of statements shares its common subexpressions: a value used again is kept in a local until its last
use. What has no SIMD instruction is computed lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnjit.codegen.dtypes import INTS, SIZES, WIDE
from nnjit.codegen.expr import LANE, Atom, Expr, Index, UnsupportedExpr, const, indices, rewrite
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.loops import Set, Store
from nnjit.codegen.spec import Operand
from nnjit.codegen.wasm.access import store_vector, store_widened, vector_load
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.convert import cast_scalar, cast_vector, limits, widens
from nnjit.codegen.wasm.groups import dot, dot_order, group_load
from nnjit.codegen.wasm.joined import Joined
from nnjit.codegen.wasm.legalize import const_bytes
from nnjit.codegen.wasm.ops import LOADS, STORES, kind, narrow, scalar_op, vector_op
from nnjit.codegen.wasm.requantise import is_byte
from nnjit.codegen.wasm.strided import Strided, family, pushed
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.uses import Uses

Key = tuple[int, tuple[tuple[Atom, int], ...]]
"""An operand and the terms (without LANE) of an index into it: what a pointer points at."""


NEAR = 12
"""Bytes between lanes up to which lanes that a guard excludes may be read with the others, and are not used."""


def _gathers(i: Index) -> bool:
    """Whether a lane's place is known at run time only."""
    return any(not isinstance(a, str) and LANE in a.axes() for a, _ in i.terms)


def split(i: Index) -> tuple[tuple[tuple[Atom, int], ...], int]:
    """The terms of an index without LANE, and LANE's coefficient."""
    lane = i.coeff(LANE)
    return (tuple(t for t in i.terms if t[0] != LANE) if lane else i.terms), lane


class Values:
    def __init__(self, b: FunctionBuilder, operands: Sequence[Operand], target: Target) -> None:
        self.b, self.operands, self.target = b, operands, target
        self.vars: dict[str, int] = {}  # loop variable -> its i32 local
        self.regs: dict[str, tuple[int, int]] = {}  # register -> (local, lanes)
        self.pointers: dict[Key, int] = {}
        self.hoisted: dict[Expr, int] = {}
        self.lanes = 1
        self.lane = 0  # the lane computed, while one is computed alone
        # uses left of a value and the local that has it: in this statement, and in the whole run of statements
        self.uses: dict[Expr, int] = {}
        self.kept: dict[Expr, int] = {}
        self.outer_uses: dict[Expr, int] = {}
        self.outer_kept: dict[Expr, int] = {}
        self.strided: Strided | None = None
        self.joined: Joined | None = None

    # ---- statements ----

    def run(self, stmts: Sequence[Set | Store]) -> None:
        """Straight-line statements of one width. Values that no statement here changes are shared across
        all of them, the others inside their own statement."""
        self.lanes = stmts[0].lanes
        uses = Uses(stmts)
        shared: dict[Expr, int] = {}
        strided = self.strided = Strided(self, uses, stmts) if self.lanes > 1 else None
        self.joined = Joined(self, stmts, uses.read) if self.lanes > 1 else None
        for s, mine in zip(stmts, uses.own, strict=True):
            self.uses = mine
            self.kept = {}
            self.outer_uses, self.outer_kept = uses.total, shared
            if isinstance(s, Set):
                self.value(s.value)
                self.b.set(self._reg(s))
            else:
                self._store(s)
            for local in self.kept.values():
                self.b.release(local)
        for local in shared.values():
            self.b.release(local)
        if strided is not None:
            strided.release()
        self.strided = None
        self.uses, self.kept, self.outer_uses, self.outer_kept = {}, {}, {}, {}

    def alone(self, e: Expr) -> None:
        """Pushes `e` sharing nothing with what is around it: in a branch, for one lane, ahead of a loop."""
        if not e.args:
            self._alone(e, {})
            return
        uses: dict[Expr, int] = {}
        stack = [e]
        while stack:
            x = stack.pop()
            n = uses.get(x, 0)
            uses[x] = n + 1
            if n == 0:
                stack.extend(x.args)
        self._alone(e, uses)

    def _alone(self, e: Expr, uses: dict[Expr, int]) -> None:
        saved = self.uses, self.kept, self.outer_uses, self.outer_kept, self.strided
        self.uses, self.kept, self.outer_uses, self.outer_kept, self.strided = uses, {}, {}, {}, None
        self.value(e)
        for local in self.kept.values():
            self.b.release(local)
        self.uses, self.kept, self.outer_uses, self.outer_kept, self.strided = saved

    def _reg(self, s: Set) -> int:
        have = self.regs.get(s.reg)
        ty = "v128" if s.lanes > 1 else kind(s.value.dtype)
        if have is None or have[1] != s.lanes or self.b.local_type(have[0]) != ty:
            have = (self.b.local(ty, s.reg), s.lanes)  # type: ignore[arg-type]
            self.regs[s.reg] = have
        return have[0]

    def _store(self, s: Store) -> None:
        terms, lane = split(s.index)
        size = SIZES[self.operands[s.operand].dtype]
        dtype = self.operands[s.operand].dtype
        dtype = "u16" if dtype in ("f16", "bf16") else dtype
        if s.lanes == 1:
            at = self.place(s.operand, terms, s.index.const * size)
            self.value(s.value)
            self.b.store(STORES[dtype], offset=at)
            return
        wide = widens(s.value)
        self.value(s.value.args[0] if wide else s.value)
        value = self.b.local("v128")
        self.b.set(value)
        if wide:
            source = s.value.args[0].dtype
            at = self.place(s.operand, terms, s.index.const * size)
            store_widened(self.b, source, value, at, s.count, lane * size)
            self.b.release(value)
            return
        if self.strided is not None and self.strided.store(s, value):
            return
        if self.joined is not None and self.joined.store(s, value):
            return
        at = self.place(s.operand, terms, s.index.const * size)
        store_vector(self.b, dtype, value, at, s.count, lane * size)
        self.b.release(value)

    # ---- addresses ----

    def place(self, operand: int, terms: tuple[tuple[Atom, int], ...], offset: int) -> int:
        """Pushes the address of `terms`; returns the immediate offset to use with it (never negative).

        Immediates do not wrap around: where a term is subtracted, base + terms may lie below address 0 although
        the element does not, and the offset has to be added."""
        self.address(operand, terms)
        if offset < 0 or (offset > 0 and any(c < 0 for _, c in terms)):
            self.b.i32_const(offset)
            self.b.op("i32.add")
            return 0
        return offset

    def address(self, operand: int, terms: tuple[tuple[Atom, int], ...]) -> None:
        """Pushes base + terms: a pointer where there is one, else the closest one and the rest added."""
        at = self.pointers.get((operand, terms))
        if at is not None:
            self.b.get(at)
            return
        best: tuple[tuple[Atom, int], ...] = ()
        for o, have in self.pointers:
            if o == operand and len(have) > len(best) and set(have) <= set(terms):
                best = have
        self.b.get(self.pointers[operand, best])
        size = SIZES[self.operands[operand].dtype]
        for atom, coeff in terms:
            if (atom, coeff) not in best:
                self.scaled(atom, coeff * size)
                self.b.op("i32.add")

    def scaled(self, atom: Atom, by: int) -> None:
        """Pushes atom * by as an i32."""
        if isinstance(atom, str):
            self.b.get(self.vars[atom])
        else:
            self.integer(atom)
        if by != 1:
            self.b.i32_const(by)
            self.b.op("i32.mul")

    def integer(self, e: Expr) -> None:
        """Pushes an integer expression as an i32 scalar, whatever the width of the statement."""
        lanes, self.lanes = self.lanes, 1
        self.alone(e)
        if kind(e.dtype) == "i64":
            self.b.op("i32.wrap_i64")
        self.lanes = lanes

    def affine(self, i: Index) -> None:
        """Pushes an affine index as an i32 (LANE is the lane being computed)."""
        self.b.i32_const(i.const)
        for atom, coeff in i.terms:
            if atom == LANE:
                self.b.i32_const(coeff * self.lane)
            else:
                self.scaled(atom, coeff)
            self.b.op("i32.add")

    # ---- values ----

    def hoist(self, e: Expr) -> None:
        """Computes a vector value ahead of a loop and keeps it."""
        self.lanes = 4
        self.alone(e)
        local = self.b.local("v128")
        self.b.set(local)
        self.hoisted[e] = local

    def value(self, e: Expr) -> None:
        """Pushes `e` at the current width, from a local where it was computed before."""
        if self.lanes > 1:
            local = self.hoisted.get(e)
            if local is not None:
                self.b.get(local)
                return
        counts, kept = self.uses, self.kept
        if e not in counts:
            counts, kept = self.outer_uses, self.outer_kept
        left = counts.get(e, 1)
        local = kept.get(e)
        if local is not None:
            self.b.get(local)
            counts[e] = left - 1
            if left == 1:
                self.b.release(kept.pop(e))
            return
        (self.vector if self.lanes > 1 else self.scalar)(e)
        worth = e.op != "reg" and (self.lanes > 1 or e.op not in ("const", "axis"))
        if left > 1 and worth:
            local = self.b.local("v128" if self.lanes > 1 else kind(e.dtype))  # type: ignore[arg-type]
            self.b.tee(local)
            kept[e] = local
            counts[e] = left - 1

    def scalar(self, e: Expr) -> None:
        b, ty = self.b, kind(e.dtype)
        if e.op == "const":
            if ty == "f32":
                b.f32_const(e.attr)
            elif ty == "f64":
                b.f64_const(e.attr)
            elif ty == "i64":
                b.i64_const(e.attr)
            else:
                b.i32_const(int(e.attr))
        elif e.op == "reg":
            local, lanes = self.regs[e.attr]
            b.get(local)
            if lanes > 1:
                b.lane(f"{ty}x4.extract_lane", self.lane)
                if e.dtype == "bool":
                    b.i32_const(1)
                    b.op("i32.and")
        elif e.op == "axis":
            self.affine(e.attr)
        elif e.op == "load":
            self._guarded(e, ty, lambda: self._scalar_load(e))
        elif e.op == "select":
            for a in (e.args[1], e.args[2], e.args[0]):
                self.value(a)
            b.select()
        elif e.op in ("cast", "bitcast"):
            self.value(e.args[0])
            cast_scalar(b, e.args[0].dtype, e.dtype, e.op == "bitcast")
        elif e.op == "fma":
            x, y, z = e.args
            for a in (x, y):
                self.value(a)
            b.op(f"{ty}.mul")
            self.value(z)
            b.op(f"{ty}.add")
        elif e.op.startswith("lanes_"):
            self.value(e.args[0])
        elif e.op == "dot":
            self._scalar_dot(e)
        else:
            self._scalar_op(e, ty)

    def _scalar_op(self, e: Expr, ty: str) -> None:
        b, args = self.b, e.args
        source = args[0].dtype
        if e.op == "not":
            self.value(args[0])
            b.op("i32.eqz")
        elif e.op in ("neg", "bnot", "abs") and ty in ("i32", "i64"):
            zero = const(0, e.dtype)
            if e.op == "neg":
                self.scalar(Expr("sub", e.dtype, (zero, args[0])))
            elif e.op == "bnot":
                self.scalar(Expr("bxor", e.dtype, (args[0], const(-1, e.dtype))))
            else:
                less = scalar_op("lt", e.dtype)
                assert less is not None
                x, push = self._once(args[0], ty), b.i32_const if ty == "i32" else b.i64_const
                push(0)
                b.get(x)
                b.op(f"{ty}.sub")
                b.get(x)
                b.get(x)
                push(0)
                b.op(less)
                b.select()
                b.release(x)
        elif e.op in ("pmin", "pmax") or (e.op in ("min", "max") and ty in ("i32", "i64")):
            less = scalar_op("lt", e.dtype)
            assert less is not None
            x, y = self._once(args[0], ty), self._once(args[1], ty)
            # y where it is the smaller (larger): a NaN in either is answered with x
            for local in (y, x, *((y, x) if e.op[-3:] == "min" else (x, y))):
                b.get(local)
            b.op(less)
            b.select()
            b.release(x)
            b.release(y)
        else:
            name = scalar_op(e.op, source)
            if name is None:
                raise UnsupportedExpr(f"{e.op} of {source}")
            for a in args:
                self.value(a)
            b.op(name)
        self._wrap(e)

    def _once(self, e: Expr, ty: str) -> int:
        """A local with the value of an operand that is used more than once."""
        self.value(e)
        local = self.b.local(ty)  # type: ignore[arg-type]
        self.b.set(local)
        return local

    def _wrap(self, e: Expr) -> None:
        """Small integers wrap around as their type does."""
        small = narrow(e.dtype)
        if small is None or e.op in ("min", "max", "band", "bor", "irem", "select"):
            return
        bits, signed = small
        if self.lanes > 1:
            if signed:
                for name in ("i32x4.shl", "i32x4.shr_s"):
                    self.b.i32_const(32 - bits)
                    self.b.op(name)
            else:
                self.b.vec_const("i32x4", (1 << bits) - 1)
                self.b.op("v128.and")
        elif signed:
            self.b.op(f"i32.extend{bits}_s")
        else:
            self.b.i32_const((1 << bits) - 1)
            self.b.op("i32.and")

    def _guarded(self, e: Expr, ty: str, inside) -> None:  # type: ignore[no-untyped-def]
        """A load under its guards: an `if`, so that nothing outside is touched."""
        if not e.attr.guard:
            inside()
            return
        b = self.b
        for n, (i, extent) in enumerate(e.attr.guard):
            self.affine(i)
            b.i32_const(extent)
            b.op("i32.lt_u")  # a negative index is a large unsigned one
            if n:
                b.op("i32.and")
        # what one branch computes is not there in the other: no sharing across them
        with b.if_([ty]):  # type: ignore[list-item]
            inside()
            b.else_()
            self.alone(e.args[0])

    def _scalar_load(self, e: Expr) -> None:
        terms, lane = split(e.attr.index)
        size = SIZES[self.operands[e.attr.operand].dtype]
        if e.dtype in GROUPS:
            self._group_load(e, lambda: self.place(e.attr.operand, terms,
                                                    (e.attr.index.const + lane * self.lane) * size), 0)  # fmt: skip
            self.b.lane("i32x4.extract_lane", 0)
            return
        at = self.place(e.attr.operand, terms, (e.attr.index.const + lane * self.lane) * size)
        self.b.load(LOADS[e.dtype], offset=at)

    def _group_load(self, e: Expr, place: Callable[[], int], stride: int) -> None:
        group_load(self.b, e.dtype, self.operands[e.attr.operand].dtype, stride, place)

    def _dot(self, e: Expr, push: Callable[[int], None]) -> None:
        x, y = e.args[:2]
        dot(self.b, x.dtype, push, dot_order(x.dtype, y.dtype, self.target), len(e.args) > 2)

    def _scalar_dot(self, e: Expr) -> None:
        def push(i: int) -> None:
            self.value(e.args[i])
            self.b.op("i32x4.splat")

        self._dot(e, push)
        self.b.lane("i32x4.extract_lane", 0)

    # ---- four lanes ----

    def vector(self, e: Expr) -> None:
        b = self.b
        if e.dtype in WIDE:
            raise UnsupportedExpr(f"{e.op} of {e.dtype} in vectors")
        if e.op == "const":
            b.v128_const(const_bytes(e.attr, e.dtype) * 4)
        elif e.op == "reg":
            local, lanes = self.regs[e.attr]
            b.get(local)
            if lanes == 1:
                self._splat(e.dtype)
        elif e.op == "axis" and {a for a, _ in e.attr.terms} <= {LANE}:
            c = e.attr.coeff(LANE)
            b.vec_const("i32x4", *(e.attr.const + c * n for n in range(4)))
        elif e.op == "axis" and kind(e.dtype) == "i32" and not _gathers(e.attr):
            self._lane_numbers(e.attr)
            self._wrap(e)
        elif any(a.dtype in WIDE for a in e.args) or e.op == "axis" or not self._wide_load(e):
            self.lanewise(e)
        elif e.op == "load" and any(LANE in i.axes() for i, _ in e.attr.guard):
            self._masked_load(e)
        elif e.op == "load":
            self._guarded(e, "v128", lambda: self._vector_load(e))
        elif e.op == "select" and e.args[1].op == "const" and not any(const_bytes(e.args[1].attr, e.dtype)):
            for a in (e.args[2], e.args[0]):
                self.value(a)
            b.op("v128.andnot")
        elif e.op == "select":
            for a in (e.args[1], e.args[2], e.args[0]):
                self.value(a)
            b.op("v128.bitselect")
        elif e.op in ("cast", "bitcast"):
            self.value(e.args[0])
            if e.op == "cast" and e.dtype in ("i8", "u8") and is_byte(e.args[0], e.dtype):
                return
            held = limits(e.args[0]) if e.args[0].dtype == "f32" else None
            cast_vector(b, e.args[0].dtype, e.dtype, e.op == "bitcast", held, self.target.relaxed)
        elif e.op == "fma":
            self._fma(e)
        elif e.op == "dot":
            self._dot(e, lambda i: self.value(e.args[i]))
        elif e.op.startswith("lanes_"):
            self._horizontal(e)
        elif e.op in ("shl", "shr"):
            self._shift(e)
        else:
            name = vector_op(e.op, e.args[0].dtype)
            if name is None:
                self.lanewise(e)
                return
            for a in e.args:
                self.value(a)
            b.op(name)
            if e.dtype != "bool":
                self._wrap(e)

    def _wide_load(self, e: Expr) -> bool:
        """Whether a load is one vector access: no gather, and where a guard differs between lanes, lanes so close that
        those outside of it read next to those inside."""
        if e.op != "load":
            return True
        if any(_gathers(i) for i in indices(e)):
            return False
        size = SIZES[self.operands[e.attr.operand].dtype]
        near = e.dtype not in GROUPS and abs(e.attr.index.coeff(LANE)) * size <= NEAR
        return near or not any(LANE in i.axes() for i, _ in e.attr.guard)

    def _lane_numbers(self, i: Index) -> None:
        """Pushes an affine index in each lane as an i32x4."""
        c = i.coeff(LANE)
        self.affine(i)
        self.b.op("i32x4.splat")
        if c:
            self.b.vec_const("i32x4", *(c * n for n in range(4)))
            self.b.op("i32x4.add")

    def _masked_load(self, e: Expr) -> None:
        """A load under guards that differ between lanes: done if any lane is inside; others take the other value."""
        b = self.b
        mask = b.local("v128")
        alike = [g for g in e.attr.guard if LANE not in g[0].axes()]
        for n, (i, extent) in enumerate(g for g in e.attr.guard if LANE in g[0].axes()):
            self._lane_numbers(i)
            b.vec_const("i32x4", extent)
            b.op("i32x4.lt_u")
            if n:
                b.op("v128.and")
        b.tee(mask)
        b.op("v128.any_true")
        for i, extent in alike:
            self.affine(i)
            b.i32_const(extent)
            b.op("i32.lt_u")
            b.op("i32.and")
        with b.if_(["v128"]):
            self._vector_load(e)
            self.alone(e.args[0])
            b.get(mask)
            b.op("v128.bitselect")
            b.else_()
            self.alone(e.args[0])
        b.release(mask)

    def _vector_load(self, e: Expr) -> None:
        terms, lane = split(e.attr.index)
        size = SIZES[self.operands[e.attr.operand].dtype]
        if e.dtype in GROUPS:
            offset = e.attr.index.const * size
            self._group_load(e, lambda: self.place(e.attr.operand, terms, offset), lane * size)
            return
        if lane not in (0, 1):
            if self.strided is not None and self.strided.load(e):
                return
            of = family(e.attr.operand, e.attr.index.terms, e.dtype)
            if of is not None and pushed(self, of, e.attr.index.const, None):
                return
        vector_load(
            self.b,
            e.dtype,
            lane * size,
            lambda: self.place(e.attr.operand, terms, e.attr.index.const * size),
        )

    def _splat(self, dtype: str) -> None:
        self.b.op(f"{kind(dtype)}x4.splat")
        if dtype == "bool":
            self.b.op("i32x4.neg")

    def lanewise(self, e: Expr) -> None:
        """Four scalar computations, or one where the lanes are equal, put together."""
        ty = kind(e.dtype)
        if ty not in ("f32", "i32"):
            raise UnsupportedExpr(f"{e.op} of {e.dtype} in vectors")
        count = 4 if LANE in e.axes() or any(x.startswith("%") for x in e.axes()) else 1
        saved = self.lanes, self.lane
        self.lanes = 1
        for self.lane in range(count):
            self.alone(rewrite(e, {LANE: Index(self.lane)}))
            if e.dtype == "bool":
                self.scalar_negated()
            if self.lane == 0:
                self.b.op(f"{ty}x4.splat")
            else:
                self.b.lane(f"{ty}x4.replace_lane", self.lane)
        self.lanes, self.lane = saved

    def scalar_negated(self) -> None:
        """0 or 1 becomes a mask."""
        t = self.b.local("i32")
        self.b.set(t)
        self.b.i32_const(0)
        self.b.get(t)
        self.b.op("i32.sub")
        self.b.release(t)

    def _fma(self, e: Expr) -> None:
        x, y, z = e.args
        if self.target.relaxed:
            for a in (x, y, z):
                self.value(a)
            self.b.op("f32x4.relaxed_madd")
            return
        for a in (z, x, y):
            self.value(a)
        self.b.op("f32x4.mul")
        self.b.op("f32x4.add")

    def _shift(self, e: Expr) -> None:
        x, n = e.args
        if n.op == "axis" and not n.attr.terms:
            n = const(n.attr.const, n.dtype)
        if n.op != "const":
            self.lanewise(e)
            return
        self.value(x)
        if n.attr == 0:
            return
        self.b.i32_const(int(n.attr))
        unsigned = e.dtype[0] == "u"
        self.b.op("i32x4.shl" if e.op == "shl" else "i32x4.shr_u" if unsigned else "i32x4.shr_s")
        self._wrap(e)

    def _horizontal(self, e: Expr) -> None:
        """All lanes combined, the result in every lane: two rounds of swap and combine."""
        b = self.b
        combine = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}.get(e.op[6:], e.op[6:])
        if e.dtype in INTS:
            combine = combine.removeprefix("p")
        name = vector_op(combine, e.dtype)
        if name is None:
            raise UnsupportedExpr(f"{e.op} of {e.dtype}")
        self.value(e.args[0])
        t = b.local("v128")
        for order in ((2, 3, 0, 1), (1, 0, 3, 2)):
            b.tee(t)
            b.get(t)
            b.get(t)
            b.shuffle([4 * o + k for o in order for k in range(4)])
            b.op(name)
        b.release(t)
        self._wrap(e)


__all__ = ["Key", "Values", "split"]
