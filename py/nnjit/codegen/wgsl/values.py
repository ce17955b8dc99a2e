"""Statements and expressions -> WGSL text, scalar or four lanes wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nnjit.codegen.dtypes import INTS
from nnjit.codegen.expr import LANE, Expr, Index, UnsupportedExpr, cast, compare, const, facts
from nnjit.codegen.functions import DISTANT
from nnjit.codegen.loops import Set, Store, Swap
from nnjit.codegen.wgsl import wide
from nnjit.codegen.wgsl.access import Access, Register
from nnjit.codegen.wgsl.legalize import legal, stored
from nnjit.codegen.wgsl.names import Names
from nnjit.codegen.wgsl.ops import BINARY, CALLS, UNARY
from nnjit.codegen.wgsl.sharing import ADD, ATOM, LOW, Text, read_by, within
from nnjit.codegen.wgsl.types import literal, register_type

PAIRS = ("i64", "u64")
PAIR_FACTS = facts(PAIRS)
PLAIN_CALLS = frozenset(CALLS) - {"min"}
"""Printed the same way whatever their operands are, but for 64-bit integers: most of what a shader computes."""


@dataclass
class Values(Access):
    """Prints statements. Registers in `constant` are set once: they are `let`, not `var`."""

    constant: frozenset[str] = frozenset()
    functions: dict[Expr, tuple[str, str]] = field(default_factory=dict)
    """Functions that the statements call: what one computes, its name and its text."""

    # ---- statements ----

    def run(self, stmts: Sequence[Set | Store]) -> list[str]:
        """The lines of straight-line statements."""
        before = dict(self.regs)

        def walk_run() -> None:
            self.regs = dict(before)
            for s in stmts:
                if isinstance(s, Set):
                    self._set(s)
                    self.forget("%" + s.reg)
                else:
                    self._store(s)
                    self.forget(s.operand)

        return self.twice(walk_run)

    def condition(self, cond: Expr) -> list[str]:
        """The lines that open an `if`."""

        def walk() -> None:
            self.root = cond
            self.line(f"if ({self.value(cond, 1)[0]}) {{")

        return self.twice(walk)

    def until(self, limit: Expr, name: str, extent: int) -> list[str]:
        """The lines that open a loop which ends at `limit`, if that comes before its extent."""

        def walk() -> None:
            self.root = limit
            end = self.named(self.value(limit, 1))
            self.line(f"for (var {name} = 0; {name} < min({extent}, {end}); {name}++) {{")

        return self.twice(walk)

    def swapped(self, s: Swap) -> list[str]:
        """The line of a Swap."""
        have, text = self.regs.get(s.reg), f"subgroupShuffleXor({self.regs[s.source].name}, {s.bit}u)"
        if have is not None:
            return [f"{have.name} = {text};"]
        name = self._fresh(s.reg)
        self.regs[s.reg] = Register(name, 1, s.dtype)
        return [f"var {name}: {register_type(s.dtype, 1)} = {text};"]

    def placed(self, at: Index, line: Callable[[str], str]) -> list[str]:
        """The lines of a statement that takes a scalar index as a u32."""
        return self.twice(lambda: self.line(line(f"u32({self.element(at.terms, at.const)})")))

    def _set(self, s: Set) -> None:
        self.root = s.value
        text, _ = self.value(s.value, s.lanes)
        have = self.regs.get(s.reg)
        if have is not None and (have.lanes, have.dtype) == (s.lanes, s.value.dtype):
            self.line(f"{have.name} = {text};")
            return
        name = "" if self.counting else self._fresh(s.reg)
        self.regs[s.reg] = Register(name, s.lanes, s.value.dtype)
        if s.reg in self.constant:
            self.line(f"let {name} = {text};")
        else:
            self.line(f"var {name}: {register_type(s.value.dtype, s.lanes)} = {text};")

    def _fresh(self, reg: str) -> str:
        """The register's own name, or another where an outer one of another type is in scope."""
        wish = self.names.of(reg)
        return self.names.fresh(reg) if any(r.name == wish for r in self.regs.values()) else wish

    def _store(self, s: Store) -> None:
        o = self.operands[s.operand]
        self.root = stored(s.value, o.dtype, self.half)
        value = self._as_stored(self.value(self.root, s.lanes), o.dtype, s.lanes)
        buffer = self.buffer(s.operand)
        terms, lane = s.index.split()
        if s.operand in self.wide:
            at = self.element(tuple((a, c // 4) for a, c in terms), s.index.const // 4)
            self.line(f"{buffer}[{at}] = {value[0]};")
            return
        if s.lanes == 1:
            self.line(f"{buffer}[{self.element(terms, s.index.const)}] = {value[0]};")
            return
        name = self.named(value)
        scattered = any(self.varies(a) for a, _ in terms)
        places = self.scattered(s.index) if scattered else ""
        for n in range(s.count):
            at = f"{places}.{'xyzw'[n]}" if scattered else self.element(terms, s.index.const + lane * n)
            self.line(f"{buffer}[{at}] = {name}.{'xyzw'[n]};")

    def _as_stored(self, value: Text, dtype: str, lanes: int) -> Text:
        plain = not self.is_half(dtype) or (self.root is not None and self.root.dtype == "half")
        return value if plain else (f"{register_type('half', lanes)}({value[0]})", ATOM)

    # ---- nodes ----

    def value(self, e: Expr, lanes: int) -> Text:
        """The text of `e` in a statement of `lanes` lanes."""
        if e.op == "const":
            text = splat(literal(e.attr, e.dtype), e.dtype, lanes)
            return text, LOW if text[0] == "-" else ATOM
        if e.op == "reg":
            return self._register(e, lanes)
        if e.op == "lane":
            text = f"{within(*self.value(e.args[0], 4), ATOM)}.{'xyzw'[e.attr]}"
            return (text, ATOM) if lanes == 1 else (splat(text, e.dtype, lanes), ATOM)
        key = (e, lanes)
        entry = self._live.get(key)
        if entry is not None:
            entry.uses += self.counting
            return entry.text
        entry = self._count(read_by(e)) if self.counting else self._entry()
        return self._made(key, entry, self._compute(e, lanes), "t")

    def _register(self, e: Expr, lanes: int) -> Text:
        r = self.regs[e.attr]
        if r.lanes == lanes:
            return r.name, ATOM
        return (f"{r.name}.x" if lanes == 1 else splat(r.name, e.dtype, lanes)), ATOM

    def _compute(self, e: Expr, lanes: int) -> Text:
        if e.op in PLAIN_CALLS and not e.facts & PAIR_FACTS:
            register_type(e.dtype, lanes)
            return f"{CALLS[e.op]}({', '.join([self.value(a, lanes)[0] for a in e.args])})", ATOM
        known = _of_lanes(e) if lanes > 1 else None
        if known is not None:
            return known, ATOM
        if e.op == "axis":
            if any(self.varies(a) for a, _ in e.attr.terms):
                return self.vector_index(e.attr)
            text, tight = self.affine(e.attr.terms, e.attr.const)
            return (text, tight) if lanes == 1 else (f"vec4i({text})", ATOM)
        if e.op == "load":
            return self.load(e, lanes)
        if e.op == "select":
            cond, a, b = (self.value(x, lanes)[0] for x in e.args)
            return f"select({b}, {a}, {cond})", ATOM
        if e.op == "cast":
            return self._cast(e, lanes)
        if e.facts & PAIR_FACTS and any(t in PAIRS for t in (e.dtype, *(a.dtype for a in e.args))):
            return self._pair(e, lanes)
        if e.op == "bitcast":
            return f"bitcast<{register_type(e.dtype, lanes)}>({self.value(e.args[0], lanes)[0]})", ATOM
        if e.op == "each":
            return f"{register_type(e.dtype, lanes)}({', '.join(self.value(a, 1)[0] for a in e.args)})", ATOM
        if e.op == "dot":
            return self._dot(e, lanes)
        if e.op == "distant":
            return self._distant(e, lanes)
        if e.op.startswith("lanes_"):
            return self._horizontal(e, lanes)
        register_type(e.dtype, lanes)
        if e.op in ("shl", "shr"):
            amount = self.value(cast(e.args[1], "u32"), lanes)[0]
            return f"{self._tight(e.args[0], lanes)} {'<<' if e.op == 'shl' else '>>'} {amount}", LOW
        if e.op == "div" and e.dtype in INTS:
            return self._quotient(e, lanes)
        if e.op in CALLS:
            return f"{CALLS[e.op]}({', '.join([self.value(a, lanes)[0] for a in e.args])})", ATOM
        if e.op in UNARY:
            return f"{UNARY[e.op]}{self._tight(e.args[0], lanes)}", LOW
        if e.op not in BINARY:
            raise UnsupportedExpr(f"{e.op} of {e.dtype} in WGSL")
        return self._binary(e, lanes)

    def _tight(self, e: Expr, lanes: int) -> str:
        return within(*self.value(e, lanes), ATOM)

    def _binary(self, e: Expr, lanes: int) -> Text:
        a, b = e.args
        sign, tightness = BINARY[e.op]
        if tightness == LOW:
            return f"{self._tight(a, lanes)} {sign} {self._tight(b, lanes)}", LOW
        # a constant beside a vector needs no splat
        left = self.value(a, 1 if a.op == "const" and b.op != "const" else lanes)
        right = self.value(b, 1 if b.op == "const" and a.op != "const" else lanes)
        return f"{within(*left, tightness)} {sign} {within(*right, tightness + 1)}", tightness

    def _quotient(self, e: Expr, lanes: int) -> Text:
        """Integer division, 0 by 0; the smallest value by -1 wraps in WGSL too."""
        a, b = e.args
        if b.op == "const":
            if b.attr == 0:
                return self.value(const(0, e.dtype), lanes)
            return f"{self._tight(a, lanes)} / {self._tight(b, lanes)}", LOW
        nil = self.value(compare("eq", b, const(0, e.dtype)), lanes)[0]
        zero = self.value(const(0, e.dtype), lanes)[0]
        return f"select({self._tight(a, lanes)} / {self._tight(b, lanes)}, {zero}, {nil})", ATOM

    def _cast(self, e: Expr, lanes: int) -> Text:
        (x,) = e.args
        source, to = x.dtype, e.dtype
        if to in PAIRS or source in PAIRS:
            register_type("i64", lanes)
            return self._cast_pair(x, to)
        text, _ = self.value(x, lanes)
        register_type(source, lanes)
        if (source, to) == ("f32", "u32"):
            # a negative float wraps
            i, u = register_type("i32", lanes), register_type("u32", lanes)
            positive = self.value(compare("ge", x, const(0.0, "f32")), lanes)[0]
            return f"select({u}({i}({text})), {u}({text}), {positive})", ATOM
        return f"{register_type(to, lanes)}({text})", ATOM

    def _cast_pair(self, x: Expr, to: str) -> Text:
        """A conversion to or from 64-bit integers."""
        text = within(*self.value(x, 1), ATOM)
        if x.dtype in PAIRS:
            if to in PAIRS:
                return text, ATOM
            if to == "bool":
                return f"any({text} != vec2i())", ATOM
            if to == "f32":
                return f"{'floatu64' if x.dtype == 'u64' else 'float64'}({text})", ATOM
            return (f"{text}.x", ATOM) if to == "i32" else (f"bitcast<u32>({text}.x)", ATOM)
        if x.dtype == "f32":
            return f"whole64({text})", ATOM
        low = text if x.dtype == "i32" else within(*self.value(cast(x, "i32"), 1), ATOM)
        high = "0" if x.dtype in ("u32", "bool") else f"{low} >> 31u"
        return f"vec2i({low}, {high})", ATOM

    def _pair(self, e: Expr, lanes: int) -> Text:
        """Arithmetic and comparisons of 64-bit integers."""
        register_type("i64", lanes)
        unsigned = e.args[0].dtype == "u64"
        args = [self.value(a, 1)[0] for a in e.args]
        a, b = args[0], args[-1]
        less = "lessu64" if unsigned else "less64"
        if e.op in ("eq", "ne"):
            return (f"all({a} == {b})", ATOM) if e.op == "eq" else (f"any({a} != {b})", ATOM)
        if e.op in wide.ORDER:
            swapped, negated = wide.ORDER[e.op]
            text = f"{less}({b}, {a})" if swapped else f"{less}({a}, {b})"
            return (f"!{text}", LOW) if negated else (text, ATOM)
        if e.op in ("min", "max", "pmin", "pmax"):
            first, second = (a, b) if e.op[-3:] == "min" else (b, a)
            return f"select({b}, {a}, {less}({first}, {second}))", ATOM
        if e.op == "neg":
            return f"sub64(vec2i(), {a})", ATOM
        if e.op == "abs":
            return (a, LOW) if unsigned else (f"size64({a})", ATOM)
        if e.op == "bnot":
            return f"~({a})", LOW
        if e.op == "bitcast" and e.args[0].dtype in PAIRS and e.dtype in PAIRS:
            return a, LOW
        name = (wide.UNSIGNED if unsigned else {}).get(e.op, wide.CALLS.get(e.op))
        if name is None:
            raise UnsupportedExpr(f"{e.op} of {e.dtype} in WGSL")
        return f"{name}({a}, {b})", ATOM

    def _distant(self, e: Expr, lanes: int) -> Text:
        """A function's seldom case: a branch in a function of its own, one call a lane."""
        found = self.functions.get(e.attr)
        if found is None:
            name = self.names.fresh(DISTANT)
            found = self.functions[e.attr] = name, _branch(name, e.attr)
        args = [self.named(self.value(a, lanes)) for a in e.args]
        if lanes == 1:
            return f"{found[0]}({', '.join(args)})", ATOM
        each = [f"{found[0]}({', '.join(f'{a}.{c}' for a in args)})" for c in "xyzw"]
        return f"vec4f({', '.join(each)})", ATOM

    def _dot(self, e: Expr, lanes: int) -> Text:
        """Sums of products of two words in each lane; WGSL has that for one word at a time."""
        if any(a.dtype != "i8x4" for a in e.args[:2]):
            raise UnsupportedExpr(f"dot of {e.args[0].dtype} in WGSL")
        if lanes == 1:
            words = [[self.value(a, 1)[0]] for a in e.args[:2]]
        else:
            words = [self._words(a) for a in e.args[:2]]
        parts = [f"dot4I8Packed(u32({a}), u32({b}))" for a, b in zip(*words, strict=True)]
        text = parts[0] if lanes == 1 else f"vec4i({', '.join(parts)})"
        if len(e.args) < 3:
            return text, ATOM
        return f"{within(*self.value(e.args[2], lanes), ADD)} + {text}", ADD

    def _words(self, e: Expr) -> list[str]:
        """The four words of a vector; the same one four times where it is a lane's."""
        if e.op == "lane":
            return [self.value(e, 1)[0]] * 4
        name = self.named(self.value(e, 4))
        return [f"{name}.{c}" for c in "xyzw"]

    def _horizontal(self, e: Expr, lanes: int) -> Text:
        """All lanes combined, in the order in which the Wasm emitter combines them."""
        if lanes == 1:
            raise UnsupportedExpr(f"{e.op} in a scalar statement")
        v, how = self.value(e.args[0], lanes), e.op[6:]
        if how in ("any", "all"):
            return f"vec4<bool>({how}({v[0]}))", ATOM
        t = self.named(v)
        if how in ("sum", "prod"):
            sign = "+" if how == "sum" else "*"
            text = f"({t}.x {sign} {t}.z) {sign} ({t}.y {sign} {t}.w)"
        else:
            f = how[-3:]
            text = f"{f}({f}({t}.x, {t}.z), {f}({t}.y, {t}.w))"
        return splat(text, e.dtype, lanes), ATOM


def _branch(name: str, e: Expr) -> str:
    """The function of (whether it is the case, the answer if not, x)."""
    inside = Values(Names())
    takes = [inside.names.of(x) for x in ("seldom", "near", "x")]
    inside.regs[DISTANT] = Register(takes[2], 1, "f32")
    lines = inside.run([Set("answer", legal(e, {}), 1)])
    body = "\n".join(f"  {line}" for line in [f"if (!{takes[0]}) {{ return {takes[1]}; }}", *lines])
    head = f"fn {name}({takes[0]}: bool, {takes[1]}: f32, {takes[2]}: f32) -> f32 {{"
    return f"{head}\n{body}\n  return {inside.names.of('answer')};\n}}\n"


def splat(text: str, dtype: str, lanes: int) -> str:
    """A scalar in every lane."""
    return text if lanes == 1 else f"{register_type(dtype, lanes)}({text})"


def _of_lanes(e: Expr) -> str | None:
    """min or lt of the lane's number and a constant, worked out: tails are full of them. (SwiftShader gets
    comparisons of min(vec4i(0, 1, 2, 3), vec4i(0)) wrong.)"""
    if e.op not in ("min", "lt") or e.args[0].op != "axis" or e.args[1].op != "const":
        return None
    i: Index = e.args[0].attr
    if any(a != LANE for a, _ in i.terms):
        return None
    at, bound = [i.const + i.coeff(LANE) * n for n in range(4)], e.args[1].attr
    if e.op == "min":
        return f"vec4i({', '.join(str(min(n, bound)) for n in at)})"
    return f"vec4<bool>({', '.join('true' if n < bound else 'false' for n in at)})"
