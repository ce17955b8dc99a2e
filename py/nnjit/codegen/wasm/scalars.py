"""Scalar values: an expression's one number on the stack, in the value type `ops.kind` says.

Operands come by `value`, which knows what was computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnjit.codegen.expr import Expr, UnsupportedExpr, const
from nnjit.codegen.functions import DISTANT
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.spec import Operand
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.convert import cast_scalar
from nnjit.codegen.wasm.groups import dot, dot_order, group_load
from nnjit.codegen.wasm.ops import LOADS, kind, narrow, scalar_op
from nnjit.codegen.wasm.places import Places
from nnjit.codegen.wasm.target import Target


class Scalars(Places):
    """See the module. `lanes` is the width in work, 1 or 4; `regs` has the registers of the nest."""

    def __init__(self, b: FunctionBuilder, operands: Sequence[Operand], target: Target) -> None:
        super().__init__(b, operands, target)
        self.regs: dict[str, tuple[int, int, str]] = {}  # register -> (local, lanes, value type)
        self.lanes = 1

    def value(self, e: Expr) -> None:
        """Pushes `e` at the current width, from a local where it was computed before."""
        raise NotImplementedError

    def alone(self, e: Expr) -> None:
        """Pushes `e` sharing nothing with what is around it: in a branch, for one lane, ahead of a loop."""
        raise NotImplementedError

    def integer(self, e: Expr) -> None:
        """Pushes an integer expression as an i32 scalar, whatever the width of the statement."""
        lanes, self.lanes = self.lanes, 1
        self.alone(e)
        if kind(e.dtype) == "i64":
            self.b.op("i32.wrap_i64")
        self.lanes = lanes

    def scalar(self, e: Expr) -> None:
        """Pushes `e` as one number."""
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
            local, lanes, _ = self.regs[e.attr]
            b.get(local)
            if lanes > 1:
                b.lane(f"{ty}x4.extract_lane", self.lane)
                if e.dtype == "bool":
                    b.i32_const(1)
                    b.op("i32.and")
        elif e.op == "axis":
            self.affine(e.attr)
        elif e.op == "load":
            if e.attr.guard:
                self.guarded(e, ty, self._scalar_load)
            else:
                self._scalar_load(e)
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
        elif e.op == "distant":
            self._scalar_distant(e, ty)
        else:
            self._scalar_op(e, ty)

    def _scalar_distant(self, e: Expr, ty: str) -> None:
        b = self.b
        near, x = self.once(e.args[1], ty), self.once(e.args[2], ty)
        self.value(e.args[0])
        with b.if_([ty]):  # type: ignore[list-item]
            self.regs[DISTANT] = x, 1, ty
            self.alone(e.attr)
            b.else_()
            b.get(near)
        b.release(near)
        b.release(x)

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
                x, push = self.once(args[0], ty), b.i32_const if ty == "i32" else b.i64_const
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
            x, y = self.once(args[0], ty), self.once(args[1], ty)
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
        self.wrap(e)

    def once(self, e: Expr, ty: str) -> int:
        """A local with the value of an operand that is used more than once."""
        self.value(e)
        local = self.b.local(ty)  # type: ignore[arg-type]
        self.b.set(local)
        return local

    def wrap(self, e: Expr) -> None:
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

    def guarded(self, e: Expr, ty: str, inside: Callable[[Expr], None]) -> None:
        """A load under its guards: an `if`, so that nothing outside is touched."""
        b = self.b
        for n, (i, extent) in enumerate(e.attr.guard):
            self.affine(i)
            b.i32_const(extent)
            b.op("i32.lt_u")  # a negative index is a large unsigned one
            if n:
                b.op("i32.and")
        # what one branch computes is not there in the other: no sharing across them
        with b.if_([ty]):  # type: ignore[list-item]
            inside(e)
            b.else_()
            self.alone(e.args[0])

    def _scalar_load(self, e: Expr) -> None:
        operand, index = e.attr.operand, e.attr.index
        terms, lane = index.split()
        offset = (index.const + lane * self.lane) * self.sizes[operand]
        if e.dtype in GROUPS:
            self.group_load(e, lambda: self.place(operand, terms, offset), 0)
            self.b.lane("i32x4.extract_lane", 0)
            return
        at = self.place(operand, terms, offset)
        self.b.load(LOADS[e.dtype], offset=at)

    def group_load(self, e: Expr, place: Callable[[], int], stride: int) -> None:
        """Pushes four groups of integers, `stride` bytes apart."""
        group_load(self.b, e.dtype, self.operands[e.attr.operand].dtype, stride, place, self.target.relaxed)

    def dot(self, e: Expr, push: Callable[[int], None]) -> None:
        """The dot products of four groups and four others; `push` pushes operand i."""
        x, y = e.args[:2]
        dot(self.b, x.dtype, push, dot_order(x.dtype, y.dtype, self.target), len(e.args) > 2)

    def _scalar_dot(self, e: Expr) -> None:
        def push(i: int) -> None:
            self.value(e.args[i])
            self.b.op("i32x4.splat")

        self.dot(e, push)
        self.b.lane("i32x4.extract_lane", 0)
