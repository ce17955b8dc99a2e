"""Nest -> C with Wasm SIMD intrinsics: the same loops, registers and order of operations, for LLVM to compile.

Takes what the Wasm emitter takes; gives a file with one function `kernel(float **args, int begin, int end)`, the
kernels' own calling convention. f32 only; UnsupportedExpr for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnjit.codegen.expr import LANE, Expr, Index, UnsupportedExpr
from nnjit.codegen.loops import Decode, For, If, Nest, Set, Stmt, Store, Where, mapped
from nnjit.codegen.wasm.legalize import legal

HEAD = """\
#include <wasm_simd128.h>
#if __clang_major__ >= 17
#define MADD wasm_f32x4_relaxed_madd
#else /* the builtin's name before the instruction was standardised; its number was another too */
#define MADD(a, b, c) (v128_t)__builtin_wasm_fma_f32x4((__f32x4)(a), (__f32x4)(b), (__f32x4)(c))
#endif
"""
BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
          "ne": "!=", "and": "&&", "or": "||"}  # fmt: skip
VECTOR = ("add", "sub", "mul", "div", "min", "max", "pmin", "pmax", "neg", "abs", "sqrt")
SCALAR = {"pmax": "({0} < {1} ? {1} : {0})", "pmin": "({1} < {0} ? {1} : {0})", "neg": "(-{0})",
          "abs": "__builtin_fabsf({0})", "sqrt": "__builtin_sqrtf({0})", "fma": "({0} * {1} + {2})",
          "select": "({0} ? {1} : {2})"}  # fmt: skip


def print_c(nest: Nest) -> str:
    """The whole file."""
    return _Printer(nest).text()


class _Printer:
    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.memo: dict[Expr, Expr] = {}
        self.lanes: dict[str, int] = {}
        """Of each register, how many lanes it was last given."""
        self.declared: dict[str, str] = {}

    def text(self) -> str:
        loop = self.nest.body[0]
        if not isinstance(loop, For) or self.nest.threads or {o.dtype for o in self.nest.operands} != {"f32"}:
            raise UnsupportedExpr("only f32 kernels of one thread a tile are printed as C")
        body = self._block(mapped(loop.body, lambda e: legal(e, self.memo)), 2)
        pointers = [
            f"  {'const float' if o.role == 'in' else 'float'} *restrict p{i} = args[{i}];"
            for i, o in enumerate(self.nest.operands)
        ]
        registers = [f"  {kind} {name};" for name, kind in self.declared.items()]
        v = _name(loop.var)
        head = ["void kernel(float **args, int begin, int end) {", *pointers, *registers]
        return HEAD + "\n".join(
            [*head, f"  for (int {v} = begin; {v} < end; {v}++) {{", *body, "  }", "}", ""]
        )

    def _block(self, body: Sequence[Stmt], depth: int) -> list[str]:
        pad, out = "  " * depth, []
        for s in body:
            if isinstance(s, For):
                if s.limit is not None:
                    raise UnsupportedExpr("a loop that ends at a value")
                v = _name(s.var)
                out += [
                    f"{pad}for (int {v} = 0; {v} < {s.extent}; {v}++) {{",
                    *self._block(s.body, depth + 1),
                    pad + "}",
                ]
            elif isinstance(s, Decode):
                remainder = f" % {s.mod}" if s.mod else ""
                out.append(f"{pad}int {_name(s.var)} = {_name(s.source)} / {s.div}{remainder};")
            elif isinstance(s, If):
                out += [f"{pad}if ({_name(s.var)} < {s.below}) {{", *self._block(s.then, depth + 1)]
                if s.orelse:
                    out += [pad + "} else {", *self._block(s.orelse, depth + 1)]
                out.append(pad + "}")
            elif isinstance(s, Where):
                out += [
                    f"{pad}if ({self.scalar(s.cond, None)}) {{",
                    *self._block(s.then, depth + 1),
                    pad + "}",
                ]
            elif isinstance(s, Set):
                out.append(pad + self._set(s))
            elif isinstance(s, Store):
                out += [pad + line for line in self._store(s)]
            else:
                raise UnsupportedExpr(f"{type(s).__name__} as C")
        return out

    def _set(self, s: Set) -> str:
        value = self.vector(s.value) if s.lanes == 4 else self.scalar(s.value, None)
        name = f"r_{_name(s.reg)}_{s.lanes}"
        self.declared[name] = "v128_t" if s.lanes == 4 else "int" if s.value.dtype == "i32" else "float"
        self.lanes[s.reg] = s.lanes
        return f"{name} = {value};"

    def _store(self, s: Store) -> list[str]:
        if s.lanes == 1:
            return [f"*({self.place(s.operand, s.index, None)}) = {self.scalar(s.value, None)};"]
        if s.count == 4 and s.index.coeff(LANE) == 1:
            return [f"wasm_v128_store({self.place(s.operand, s.index, 0)}, {self.vector(s.value)});"]
        lines = [f"{{ v128_t t = {self.vector(s.value)};"]
        for lane in range(s.count):
            lines.append(f"*({self.place(s.operand, s.index, lane)}) = wasm_f32x4_extract_lane(t, {lane});")
        return [*lines, "}"]

    # ---- values ----

    def place(self, operand: int, i: Index, lane: int | None) -> str:
        """The address of an element: the variable part first, so that LLVM can make the constant an immediate."""
        constant = i.const + i.coeff(LANE) * (lane or 0)
        return f"(p{operand} + {self.index(i + (-i.const), lane and 0)}) + {constant}"

    def index(self, i: Index, lane: int | None) -> str:
        """An integer expression; LANE is the number `lane`."""
        const, terms = i.const, []
        for atom, c in i.terms:
            if atom == LANE:
                if lane is None:
                    raise UnsupportedExpr("a lane where there are none")
                const += c * lane
            else:
                value = _name(atom) if isinstance(atom, str) else f"(int)({self.scalar(atom, lane)})"
                terms.append(value if c == 1 else f"{c} * {value}")
        return "(" + " + ".join([*terms, str(const)] if const or not terms else terms) + ")"

    def vector(self, e: Expr) -> str:
        """Four lanes of f32."""
        if e.op == "const":
            return f"wasm_f32x4_splat({_float(e.attr)})"
        if e.op == "reg":
            name = f"r_{_name(e.attr)}_{self.lanes[e.attr]}"
            return name if self.lanes[e.attr] == 4 else f"wasm_f32x4_splat({name})"
        if e.op == "load":
            return self._vector_load(e)
        if e.op == "fma":
            return f"MADD({', '.join(self.vector(a) for a in e.args)})"
        if e.op == "lanes_sum":
            x = self.vector(e.args[0])
            half = f"({{ v128_t h = {x}; wasm_f32x4_add(h, wasm_i32x4_shuffle(h, h, 2, 3, 0, 1)); }})"
            return f"({{ v128_t q = {half}; wasm_f32x4_add(q, wasm_i32x4_shuffle(q, q, 1, 0, 3, 2)); }})"
        if e.op in VECTOR and e.dtype == "f32":
            return f"wasm_f32x4_{e.op}({', '.join(self.vector(a) for a in e.args)})"
        if LANE not in e.axes() and not any(a.startswith("%") for a in e.axes()):
            return f"wasm_f32x4_splat({self.scalar(e, None)})"
        return f"wasm_f32x4_make({', '.join(self.scalar(e, lane) for lane in range(4))})"

    def _vector_load(self, e: Expr) -> str:
        """Four neighbours, one for all lanes, or four of their own; where a guard fails, the other value."""
        at = e.attr
        if any(i.coeff(LANE) for i, _ in at.guard) or at.index.coeff(LANE) not in (0, 1):
            return f"wasm_f32x4_make({', '.join(self.scalar(e, lane) for lane in range(4))})"
        place = self.place(at.operand, at.index, 0)
        value = f"wasm_v128_load({place})" if at.index.coeff(LANE) else f"wasm_v128_load32_splat({place})"
        return self._guarded(e, value, 0, self.vector) if at.guard else value

    def scalar(self, e: Expr, lane: int | None) -> str:
        """One value: of lane number `lane` where the expression has lanes."""
        if e.op == "const":
            return _float(e.attr) if e.dtype == "f32" else str(int(e.attr))
        if e.op == "axis":
            return self.index(e.attr, lane)
        if e.op == "reg":
            name = f"r_{_name(e.attr)}_{self.lanes[e.attr]}"
            if self.lanes[e.attr] == 1:
                return name
            if lane is None:
                raise UnsupportedExpr(f"register {e.attr} has four lanes")
            return f"wasm_f32x4_extract_lane({name}, {lane})"
        if e.op == "lane":
            return f"wasm_f32x4_extract_lane({self.vector(e.args[0])}, {e.attr})"
        if e.op == "lanes_sum":
            return f"wasm_f32x4_extract_lane({self.vector(e)}, 0)"
        if e.op == "load":
            value = f"*({self.place(e.attr.operand, e.attr.index, lane)})"
            return self._guarded(e, value, lane, lambda a: self.scalar(a, lane)) if e.attr.guard else value
        args = [self.scalar(a, lane) for a in e.args]
        if e.op in SCALAR:
            return SCALAR[e.op].format(*args)
        if e.op in BINARY and e.dtype in ("f32", "i32", "bool"):
            return f"({args[0]} {BINARY[e.op]} {args[1]})"
        raise UnsupportedExpr(f"{e.op} of {e.dtype} as C")

    def _guarded(self, e: Expr, value: str, lane: int | None, other: object) -> str:
        bounds = [f"(unsigned){self.index(i, lane)} < {n}u" for i, n in e.attr.guard]
        return f"({' && '.join(bounds)} ? {value} : {other(e.args[0])})"  # type: ignore[operator]


def _name(variable: str) -> str:
    """A loop variable or register as a C identifier; two never become one."""
    return "v_" + re.sub(r"\W", lambda m: f"_{ord(m.group()):x}_", variable)


def _float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "__builtin_inff()", "-inf": "(-__builtin_inff())"}.get(
            str(value), '__builtin_nanf("")'
        )
    return f"{float(value).hex()}f"
