"""Expressions -> WGSL text, scalar or four lanes wide, with `let` bindings for what is used again.

A straight-line run of statements is walked twice by the same code: once to count uses, once to print. A value
is shared until a statement changes a register or a buffer that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from nnjit.codegen.dtypes import INTS
from nnjit.codegen.expr import LANE, Atom, Expr, Index, UnsupportedExpr, cast, compare, const, select, walk
from nnjit.codegen.loops import Set, Store
from nnjit.codegen.spec import Operand
from nnjit.codegen.wgsl.names import Names
from nnjit.codegen.wgsl.ops import BINARY, CALLS, UNARY
from nnjit.codegen.wgsl.types import literal, register_type

ATOM, MUL, ADD, LOW = 3, 2, 1, 0
"""How tightly a text binds. WGSL lets few operators be mixed without parentheses: only + - * / go without."""

LONG = 96
"""A longer text gets a name of its own."""

Text = tuple[str, int]
Terms = tuple[tuple[Atom, int], ...]
Key = tuple[object, int]


@dataclass(slots=True)
class Shared:
    """One value of a run: how often it is used, its text, and what it reads."""

    reads: frozenset[str] = frozenset()
    operands: frozenset[int] = frozenset()
    uses: int = 1
    text: Text = ("", ATOM)


@dataclass(slots=True)
class Register:
    name: str
    lanes: int
    dtype: str


@dataclass(slots=True)
class Values:
    """Prints statements into `lines`. `wide` operands are arrays of vec4; `regs` are the registers in scope."""

    operands: Sequence[Operand]
    names: Names
    wide: frozenset[int]
    regs: dict[str, Register] = field(default_factory=dict)
    constant: frozenset[str] = frozenset()
    """Registers that are set once: they are `let`, not `var`."""
    lines: list[str] = field(default_factory=list)
    _live: dict[Key, Shared] = field(default_factory=dict)
    _counted: list[Shared] = field(default_factory=list)
    _next: int = 0
    _counting: bool = False
    _root: Expr | None = None

    # ---- statements ----

    def run(self, stmts: Sequence[Set | Store]) -> list[str]:
        """The lines of straight-line statements."""
        before = dict(self.regs)
        self._counted, self._counting = [], True
        self._pass(stmts)
        self.regs, self._counting, self._next, self.lines = before, False, 0, []
        self._pass(stmts)
        return self.lines

    def _pass(self, stmts: Sequence[Set | Store]) -> None:
        self._live = {}
        for s in stmts:
            if isinstance(s, Set):
                self._set(s)
                self._forget(lambda e, s=s: "%" + s.reg in e.reads)  # type: ignore[misc]
            else:
                self._store(s)
                self._forget(lambda e, s=s: s.operand in e.operands)  # type: ignore[misc]

    def _forget(self, gone) -> None:  # type: ignore[no-untyped-def]
        self._live = {k: e for k, e in self._live.items() if not gone(e)}

    def _set(self, s: Set) -> None:
        self._root = s.value
        text, _ = self.value(s.value, s.lanes)
        have = self.regs.get(s.reg)
        if have is not None and (have.lanes, have.dtype) == (s.lanes, s.value.dtype):
            self._line(f"{have.name} = {text};")
            return
        name = "" if self._counting else self._fresh(s.reg)
        self.regs[s.reg] = Register(name, s.lanes, s.value.dtype)
        if s.reg in self.constant:
            self._line(f"let {name} = {text};")
        else:
            self._line(f"var {name}: {register_type(s.value.dtype, s.lanes)} = {text};")

    def _fresh(self, reg: str) -> str:
        """The register's own name, or another where an outer one of another type is in scope."""
        wish = self.names.of(reg)
        return self.names.fresh(reg) if any(r.name == wish for r in self.regs.values()) else wish

    def _store(self, s: Store) -> None:
        o = self.operands[s.operand]
        self._root = _as_stored(s.value, o.dtype)
        value = self.value(self._root, s.lanes)
        buffer = self.buffer(s.operand)
        lane = s.index.coeff(LANE)
        terms = _without_lane(s.index)
        if s.operand in self.wide:
            at = self._element(tuple((a, c // 4) for a, c in terms), s.index.const // 4)
            self._line(f"{buffer}[{at}] = {value[0]};")
            return
        if s.lanes == 1:
            self._line(f"{buffer}[{self._element(terms, s.index.const)}] = {value[0]};")
            return
        name = self._named(value)
        scattered = any(self._varies(a) for a, _ in terms)
        places = self._scattered(s.index) if scattered else ""
        for n in range(s.count):
            at = f"{places}.{'xyzw'[n]}" if scattered else self._element(terms, s.index.const + lane * n)
            self._line(f"{buffer}[{at}] = {name}.{'xyzw'[n]};")

    def buffer(self, operand: int) -> str:
        return f"{self.operands[operand].role}{operand}"

    # ---- sharing ----

    def _line(self, text: str) -> None:
        if not self._counting:
            self.lines.append(text)

    def _bind(self, text: str, wish: str) -> str:
        if self._counting:
            return ""
        name = self.names.numbered(wish)
        self.lines.append(f"let {name} = {text};")
        return name

    def _named(self, value: Text) -> str:
        """A name for a value that is written more than once."""
        return value[0] if value[0].isidentifier() else self._bind(value[0], "t")

    def _shared(self, key: Key, uses: int, make: partial[Text], reads: frozenset[str], operands: frozenset[int],
                wish: str) -> Text:  # fmt: skip
        """The text of a value: made at its first use in a run, and bound to a name if there are more."""
        entry = self._live.get(key)
        if entry is not None:
            entry.uses += uses if self._counting else 0
            return entry.text
        if self._counting:
            entry = Shared(reads, operands, uses)
            self._counted.append(entry)
        else:
            entry = self._counted[self._next]
            self._next += 1
        text, tightness = make()
        simple = text.replace(".", "_").isidentifier()
        long = len(text) > LONG and key[0] is not self._root
        if not self._counting and not simple and (entry.uses > 1 or long):
            text, tightness = self._bind(text, wish), ATOM
        entry.text = (text, tightness)
        self._live[key] = entry
        return entry.text

    def value(self, e: Expr, lanes: int) -> Text:
        """The text of `e` in a statement of `lanes` lanes."""
        if e.op == "const":
            text = self._splat(literal(e.attr, e.dtype), e.dtype, lanes)
            return text, LOW if text[0] == "-" else ATOM
        if e.op == "reg":
            return self._register(e, lanes)
        make = partial(self._compute, e, lanes)
        return self._shared((e, lanes), 1, make, e.axes(), _operands_of(e), "t")

    def _register(self, e: Expr, lanes: int) -> Text:
        r = self.regs[e.attr]
        if r.lanes == lanes:
            return r.name, ATOM
        return (f"{r.name}.x" if lanes == 1 else self._splat(r.name, e.dtype, lanes)), ATOM

    def _splat(self, text: str, dtype: str, lanes: int) -> str:
        return text if lanes == 1 else f"{register_type(dtype, lanes)}({text})"

    # ---- addresses ----

    def _varies(self, atom: Atom) -> bool:
        """Whether an index term differs between the lanes of a vector statement."""
        if isinstance(atom, str):
            return atom == LANE
        return LANE in atom.axes() or any(
            n[0] == "%" and self.regs[n[1:]].lanes > 1 for n in atom.axes() if n[0] == "%"
        )

    def _element(self, terms: Terms, offset: int, uses: int = 1) -> str:
        """The text of a scalar index: the terms are shared by all that differ in the offset alone."""
        if not terms:
            # a guarded read may lie outside: where that is known now, WGSL would refuse the whole shader
            return str(max(offset, 0))
        reads = frozenset(n for a, _ in terms for n in ((a,) if isinstance(a, str) else a.axes()))
        operands = frozenset(o for a, _ in terms if not isinstance(a, str) for o in _operands_of(a))
        make = partial(self._sum, terms, 0)
        text, _ = self._shared((("at", terms), 1), uses, make, reads, operands, "at")
        return text if offset == 0 else f"{text} {'-' if offset < 0 else '+'} {abs(offset)}"

    def _sum(self, terms: Terms, offset: int) -> Text:
        """`8 * m + k + 3`: the largest strides first."""
        parts: list[Text] = []
        for atom, c in sorted(terms, key=lambda t: -abs(t[1])):
            text, tight = (self.names.of(atom), ATOM) if isinstance(atom, str) else self._integer(atom, 1)
            parts.append((text, tight) if c == 1 else (f"{c} * {_within(text, tight, ATOM)}", MUL))
        if offset or not parts:
            parts.append((str(offset), ATOM))
        if len(parts) == 1:
            return parts[0]
        out = _within(*parts[0], MUL)
        for text, tight in parts[1:]:
            text = _within(text, tight, MUL)
            out += f" - {text[1:]}" if text[0] == "-" else f" + {text}"
        return out, ADD

    def _integer(self, e: Expr, lanes: int) -> Text:
        return self.value(e if e.dtype == "i32" else cast(e, "i32"), lanes)

    def _scattered(self, i: Index) -> str:
        """The name of a vector of indices, one for each lane."""
        return self._named(self._vector_index(i))

    def _vector_index(self, i: Index) -> Text:
        fixed = tuple((a, c) for a, c in i.terms if not self._varies(a))
        parts = [_within(*self._sum(fixed, i.const), MUL)] if fixed or i.const else []
        for atom, c in i.terms:
            if atom == LANE:
                parts.append(f"vec4i({', '.join(str(c * n) for n in range(4))})")
            elif not isinstance(atom, str) and self._varies(atom):
                text = _within(*self._integer(atom, 4), MUL if c == 1 else ATOM)
                parts.append(text if c == 1 else f"{c} * {text}")
        if len(parts) > 1:
            return " + ".join(parts), ADD
        return parts[0], ATOM if parts[0].startswith("vec4i(") else MUL

    # ---- nodes ----

    def _compute(self, e: Expr, lanes: int) -> Text:
        if e.op == "axis":
            if any(self._varies(a) for a, _ in e.attr.terms):
                return self._vector_index(e.attr)
            text, tight = self._sum(e.attr.terms, e.attr.const)
            return (text, tight) if lanes == 1 else (f"vec4i({text})", ATOM)
        if e.op == "load":
            return self._load(e, lanes)
        if e.op == "select":
            cond, a, b = (self.value(x, lanes)[0] for x in e.args)
            return f"select({b}, {a}, {cond})", ATOM
        if e.op == "cast":
            return self._cast(e, lanes)
        if e.op == "bitcast":
            return f"bitcast<{register_type(e.dtype, lanes)}>({self.value(e.args[0], lanes)[0]})", ATOM
        if e.op.startswith("lanes_"):
            return self._horizontal(e, lanes)
        register_type(e.dtype, lanes)
        if e.op in ("shl", "shr"):
            amount = self.value(cast(e.args[1], "u32"), lanes)[0]
            return f"{self._tight(e.args[0], lanes)} {'<<' if e.op == 'shl' else '>>'} {amount}", LOW
        if e.op == "div" and e.dtype in INTS:
            return self._quotient(e, lanes)
        if e.op in CALLS:
            return f"{CALLS[e.op]}({', '.join(self.value(a, lanes)[0] for a in e.args)})", ATOM
        if e.op in UNARY:
            return f"{UNARY[e.op]}{self._tight(e.args[0], lanes)}", LOW
        if e.op not in BINARY:
            raise UnsupportedExpr(f"{e.op} of {e.dtype} in WGSL")
        return self._binary(e, lanes)

    def _tight(self, e: Expr, lanes: int) -> str:
        return _within(*self.value(e, lanes), ATOM)

    def _binary(self, e: Expr, lanes: int) -> Text:
        a, b = e.args
        sign, tightness = BINARY[e.op]
        if tightness == LOW:
            return f"{self._tight(a, lanes)} {sign} {self._tight(b, lanes)}", LOW
        # a constant beside a vector needs no splat
        left, right = (
            self.value(x, 1 if x.op == "const" and y.op != "const" else lanes) for x, y in ((a, b), (b, a))
        )
        return f"{_within(*left, tightness)} {sign} {_within(*right, tightness + 1)}", tightness

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
        if to == "i64":
            if lanes > 1:
                register_type(to, lanes)
            low = _within(*self.value(cast(x, "i32"), 1), ATOM)
            high = "0" if source in ("u32", "bool") else f"{low} >> 31u"
            return f"vec2i({low}, {high})", ATOM
        text, _ = self.value(x, lanes)
        register_type(source, lanes)
        if (source, to) == ("f32", "u32"):
            # a negative float wraps
            i, u = register_type("i32", lanes), register_type("u32", lanes)
            positive = self.value(compare("ge", x, const(0.0, "f32")), lanes)[0]
            return f"select({u}({i}({text})), {u}({text}), {positive})", ATOM
        return f"{register_type(to, lanes)}({text})", ATOM

    def _horizontal(self, e: Expr, lanes: int) -> Text:
        """All lanes combined, in the order in which the Wasm emitter combines them."""
        if lanes == 1:
            raise UnsupportedExpr(f"{e.op} in a scalar statement")
        v, how = self.value(e.args[0], lanes), e.op[6:]
        if how in ("any", "all"):
            return f"vec4<bool>({how}({v[0]}))", ATOM
        t = self._named(v)
        if how in ("sum", "prod"):
            sign = "+" if how == "sum" else "*"
            text = f"({t}.x {sign} {t}.z) {sign} ({t}.y {sign} {t}.w)"
        else:
            f = how[-3:]
            text = f"{f}({f}({t}.x, {t}.z), {f}({t}.y, {t}.w))"
        return self._splat(text, e.dtype, lanes), ATOM

    def _load(self, e: Expr, lanes: int) -> Text:
        """A read without a branch: outside its guards the index is clamped by WebGPU and the value not taken."""
        text = self._read(e, lanes)
        if not e.attr.guard:
            return text, ATOM
        alike = not any(self._varies(a) for i, _ in e.attr.guard for a, _ in i.terms)
        inside = [c for i, n in e.attr.guard for c in self._bounds(i, n, 1 if alike else lanes)]
        other = self.value(e.args[0], lanes)[0]
        return f"select({other}, {text}, {' & '.join(inside)})", ATOM

    def _bounds(self, i: Index, extent: int, lanes: int) -> list[str]:
        at = Expr("axis", "i32", (), i)
        checks = [compare("ge", at, const(0, "i32")), compare("lt", at, const(extent, "i32"))]
        return [self._tight(c, lanes) for c in checks]

    def _read(self, e: Expr, lanes: int) -> str:
        operand, i = e.attr.operand, e.attr.index
        o, name = self.operands[operand], self.buffer(operand)
        terms, step = _without_lane(i), i.coeff(LANE)
        if operand in self.wide:
            at = self._element(tuple((a, c // 4) for a, c in terms), i.const // 4)
            return self._loaded(f"{name}[{at}]", o.dtype, e.dtype, lanes)
        if lanes > 1 and any(self._varies(a) for a, _ in terms):
            places = self._scattered(i)
            words = [self._word(f"{name}[{places}.{c}]", o.dtype, e.dtype) for c in "xyzw"]
        elif lanes > 1 and step:
            words = []
            for n in range(lanes):
                words.append(
                    self._word(f"{name}[{self._element(terms, i.const + step * n)}]", o.dtype, e.dtype)
                )
        else:
            word = self._word(f"{name}[{self._element(terms, i.const)}]", o.dtype, e.dtype)
            return self._loaded(
                word if lanes == 1 else self._splat_raw(word, o.dtype, e.dtype), o.dtype, e.dtype, lanes
            )
        raw = "vec4u" if o.dtype == "bool" else register_type(e.dtype, lanes)
        return self._loaded(f"{raw}({', '.join(words)})", o.dtype, e.dtype, lanes)

    def _word(self, text: str, stored: str, dtype: str) -> str:
        """One element as it lies in the buffer; of an i64 that is read as an i32, the low word."""
        return f"{text}.x" if stored == "i64" and dtype == "i32" else text

    def _splat_raw(self, text: str, stored: str, dtype: str) -> str:
        return f"vec4u({text})" if stored == "bool" else self._splat(text, dtype, 4)

    def _loaded(self, text: str, stored: str, dtype: str, lanes: int) -> str:
        register_type(dtype, lanes)
        if stored != "bool":
            return text
        return f"({text} != 0u)" if lanes == 1 else f"({text} != vec4u())"


def _within(text: str, tightness: int, wanted: int) -> str:
    """In parentheses unless it binds tightly enough for its place."""
    return text if tightness >= wanted else f"({text})"


def _without_lane(i: Index) -> Terms:
    return tuple(t for t in i.terms if t[0] != LANE)


def _operands_of(e: Expr) -> frozenset[int]:
    return frozenset(x.attr.operand for x in walk(e) if x.op == "load")


def _as_stored(e: Expr, dtype: str) -> Expr:
    """What a buffer of `dtype` takes: a bool as 0 or 1."""
    return select(e, const(1, "u32"), const(0, "u32")) if dtype == "bool" else e
