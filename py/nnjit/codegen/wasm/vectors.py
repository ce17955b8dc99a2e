"""Vector values: four lanes of an expression in a v128. What has no SIMD instruction is computed lane by lane."""

from __future__ import annotations

from nnjit.codegen.dtypes import INTS, WIDE
from nnjit.codegen.expr import GATHER, GUARD, LANE, Expr, Index, UnsupportedExpr, const, facts
from nnjit.codegen.functions import DISTANT
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.wasm.convert import cast_vector, limits
from nnjit.codegen.wasm.legalize import const_bytes
from nnjit.codegen.wasm.ops import kind, vector_op
from nnjit.codegen.wasm.reads import Reads, gathers
from nnjit.codegen.wasm.requantise import is_byte

_SCATTERED = GUARD | GATHER
_WIDE = facts(tuple(WIDE))


class Vectors(Reads):
    """See the module; on top of vectors from memory."""

    def vector(self, e: Expr) -> None:
        """Pushes four lanes of `e`."""
        op = e.op
        if op == "fma":
            self._fma(e)
        elif op == "load" and not e.facts & _SCATTERED and e.dtype not in WIDE:
            self.vector_load(e)
        elif op == "const":
            if e.dtype in WIDE:
                raise UnsupportedExpr(f"{op} of {e.dtype} in vectors")
            self.b.v128_const(const_bytes(e.attr, e.dtype) * 4)
        elif e.facts & _WIDE and self._beyond_lanes(e):
            self.lanewise(e)
        elif op == "reg":
            local, lanes, _ = self.regs[e.attr]
            self.b.get(local)
            if lanes == 1:
                self._splat(e.dtype)
        else:
            self._vector_op(e)

    def _beyond_lanes(self, e: Expr) -> bool:
        """Whether operands are wider than a lane; an error where the result is."""
        if e.dtype in WIDE:
            raise UnsupportedExpr(f"{e.op} of {e.dtype} in vectors")
        return any(a.dtype in WIDE for a in e.args)

    def _vector_op(self, e: Expr) -> None:
        b, op, args = self.b, e.op, e.args
        if op == "axis":
            if {a for a, _ in e.attr.terms} <= {LANE}:
                c = e.attr.coeff(LANE)
                b.vec_const("i32x4", *(e.attr.const + c * n for n in range(4)))
            elif gathers(e.attr):
                self.lanewise(e)
            else:
                self.lane_numbers(e.attr)
        elif op == "load":
            if not self.one_access(e):
                self.lanewise(e)
            elif e.attr.guard:
                self.guarded_vector(e)
            else:
                self.vector_load(e)
        elif op == "select":
            if args[1].op == "const" and not any(const_bytes(args[1].attr, e.dtype)):
                for a in (args[2], args[0]):
                    self.value(a)
                b.op("v128.andnot")
            else:
                for a in (args[1], args[2], args[0]):
                    self.value(a)
                b.op("v128.bitselect")
        elif op in ("cast", "bitcast"):
            self.value(args[0])
            if op == "cast" and e.dtype in ("i8", "u8") and is_byte(args[0], e.dtype):
                return
            held = limits(args[0]) if args[0].dtype == "f32" else None
            cast_vector(b, args[0].dtype, e.dtype, op == "bitcast", held, self.target.relaxed)
        elif op == "dot":
            self.dot(e, lambda i: self.value(args[i]))
        elif op.startswith("lanes_"):
            self._horizontal(e)
        elif op in ("shl", "shr"):
            self._shift(e)
        elif op == "distant":
            self._distant(e)
        else:
            name = vector_op(op, args[0].dtype)
            if name is None:
                self.lanewise(e)
                return
            for a in args:
                self.value(a)
            b.op(name)
            if e.dtype != "bool":
                self.wrap(e)

    def _distant(self, e: Expr) -> None:
        """The seldom case, if any lane is one: a loop over the lanes, which take turns in being the first."""
        b = self.b
        cond, near, x = (self.once(a, "v128") for a in e.args)
        b.get(cond)
        b.op("v128.any_true")
        with b.if_(["v128"]):
            left = b.local("i32")
            b.i32_const(4)
            b.set(left)
            saved = self.lanes, self.lane
            with b.loop() as again:
                b.get(x)
                self.lanes, self.lane = 1, 0
                self.regs[DISTANT] = x, 4, "v128"
                self.alone(e.attr)
                self.lanes, self.lane = saved
                b.lane("f32x4.replace_lane", 0)
                b.tee(x)
                b.get(x)
                b.shuffle([*range(4, 16), *range(4)])
                b.set(x)
                b.get(left)
                b.i32_const(1)
                b.op("i32.sub")
                b.tee(left)
                b.br_if(again)
            b.release(left)
            for local in (x, near, cond):
                b.get(local)
            b.op("v128.bitselect")
            b.else_()
            b.get(near)
        for local in (cond, near, x):
            b.release(local)

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
                self._negated()
            if self.lane == 0:
                self.b.op(f"{ty}x4.splat")
            else:
                self.b.lane(f"{ty}x4.replace_lane", self.lane)
        self.lanes, self.lane = saved

    def _negated(self) -> None:
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
            self.value(x)
            self.value(y)
            self.value(z)
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
        self.wrap(e)

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
        self.wrap(e)
