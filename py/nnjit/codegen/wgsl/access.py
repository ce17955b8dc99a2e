"""Indices and loads as WGSL text: scalar, four neighbours, strided, or one index for each lane.

A guarded read has no branch: WebGPU keeps every index inside its buffer, and `select` drops what was read outside
the guards.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnjit.codegen.expr import LANE, Atom, Expr, Index, cast, compare, const
from nnjit.codegen.spec import Operand
from nnjit.codegen.wgsl.sharing import ADD, ATOM, MUL, Changed, Sharing, Text, read_by, within
from nnjit.codegen.wgsl.types import register_type

Terms = tuple[tuple[Atom, int], ...]


@dataclass(slots=True)
class Register:
    name: str
    lanes: int
    dtype: str


@dataclass
class Access(Sharing):
    """Reads of operands. `wide` ones are arrays of vec4; `regs` are the registers in scope."""

    operands: Sequence[Operand] = ()
    wide: frozenset[int] = frozenset()
    half: bool = False
    """The device has f16: its buffers hold f16 as they are."""
    _affine: dict[tuple[Terms, int], Text] = field(default_factory=dict)
    """Texts of indices of axes alone."""
    regs: dict[str, Register] = field(default_factory=dict)

    @abstractmethod
    def value(self, e: Expr, lanes: int) -> Text:
        """The text of `e` in a statement of `lanes` lanes."""

    def buffer(self, operand: int) -> str:
        return f"{self.operands[operand].role}{operand}"

    def is_half(self, dtype: str) -> bool:
        """Whether elements of `dtype` are f16 in their buffer; registers hold f32."""
        return self.half and dtype == "f16"

    # ---- indices ----

    def varies(self, atom: Atom) -> bool:
        """Whether an index term differs between the lanes of a vector statement."""
        if isinstance(atom, str):
            return atom == LANE
        return LANE in atom.axes() or any(
            n[0] == "%" and self.regs[n[1:]].lanes > 1 for n in atom.axes() if n[0] == "%"
        )

    def element(self, terms: Terms, offset: int) -> str:
        """The text of a scalar index: the terms are shared by all that differ in the offset alone."""
        if not terms:
            # a guarded read may lie outside: where that is known now, WGSL would refuse the whole shader
            return str(max(offset, 0))
        key = (("at", terms), 1)
        known = self.known(key)
        if known is None:
            entry = self._count(_read_by(terms)) if self.counting else self._entry()
            known = self._made(key, entry, self.affine(terms, 0), "at")
        text = known[0]
        return text if offset == 0 else f"{text} {'-' if offset < 0 else '+'} {abs(offset)}"

    def affine(self, terms: Terms, offset: int) -> Text:
        """`8 * m + k + 3`: the largest strides first."""
        key = (terms, offset)
        found = self._affine.get(key)
        if found is None:
            found = self._affine_text(terms, offset)
            if all(isinstance(atom, str) for atom, _ in terms):  # what is read at run time may change
                self._affine[key] = found
        return found

    def _affine_text(self, terms: Terms, offset: int) -> Text:
        parts: list[Text] = []
        for atom, c in sorted(terms, key=lambda t: -abs(t[1])):
            text, tight = (self.names.of(atom), ATOM) if isinstance(atom, str) else self._integer(atom, 1)
            parts.append((text, tight) if c == 1 else (f"{c} * {within(text, tight, ATOM)}", MUL))
        if offset or not parts:
            parts.append((str(offset), ATOM))
        if len(parts) == 1:
            return parts[0]
        out = within(*parts[0], MUL)
        for text, tight in parts[1:]:
            text = within(text, tight, MUL)
            out += f" - {text[1:]}" if text[0] == "-" else f" + {text}"
        return out, ADD

    def _integer(self, e: Expr, lanes: int) -> Text:
        return self.value(e if e.dtype == "i32" else cast(e, "i32"), lanes)

    def scattered(self, i: Index) -> str:
        """The name of a vector of indices, one for each lane."""
        return self.named(self.vector_index(i))

    def vector_index(self, i: Index) -> Text:
        """An index as a vec4i: what the lanes have in common, and what each adds."""
        fixed = tuple((a, c) for a, c in i.terms if not self.varies(a))
        parts = [within(*self.affine(fixed, i.const), MUL)] if fixed or i.const else []
        for atom, c in i.terms:
            if atom == LANE:
                parts.append(f"vec4i({', '.join(str(c * n) for n in range(4))})")
            elif not isinstance(atom, str) and self.varies(atom):
                text = within(*self._integer(atom, 4), MUL if c == 1 else ATOM)
                parts.append(text if c == 1 else f"{c} * {text}")
        if len(parts) > 1:
            return " + ".join(parts), ADD
        return parts[0], ATOM if parts[0].startswith("vec4i(") else MUL

    # ---- loads ----

    def load(self, e: Expr, lanes: int) -> Text:
        """A read without a branch: outside its guards the index is clamped by WebGPU and the value not taken."""
        text = self._read(e, lanes)
        if not e.attr.guard:
            return text, ATOM
        alike = not any(self.varies(a) for i, _ in e.attr.guard for a, _ in i.terms)
        inside = [c for i, n in e.attr.guard for c in self._bounds(i, n, 1 if alike else lanes)]
        other = self.value(e.args[0], lanes)[0]
        return f"select({other}, {text}, {' & '.join(inside)})", ATOM

    def _bounds(self, i: Index, extent: int, lanes: int) -> list[str]:
        at = Expr("axis", "i32", (), i)
        checks = [compare("ge", at, const(0, "i32")), compare("lt", at, const(extent, "i32"))]
        return [within(*self.value(c, lanes), ATOM) for c in checks]

    def _read(self, e: Expr, lanes: int) -> str:
        operand, i = e.attr.operand, e.attr.index
        o, name = self.operands[operand], self.buffer(operand)
        terms, step = i.split()
        if o.packed:
            return self._bytes(e, lanes)
        if operand in self.wide:
            text = f"{name}[{self.element(tuple((a, c // 4) for a, c in terms), i.const // 4)}]"
            return f"vec4f({text})" if self.is_half(o.dtype) and e.dtype != "half" else text
        if lanes > 1 and any(self.varies(a) for a, _ in terms):
            places = self.scattered(i)
            words = [f"{name}[{places}.{c}]" for c in "xyzw"]
        else:
            ahead = range(lanes if step else 1)
            words = [f"{name}[{self.element(terms, i.const + step * n)}]" for n in ahead]
        if o.dtype in ("i64", "u64") and e.dtype == "i32":
            words = [f"{w}.x" for w in words]  # the low word
        if self.is_half(o.dtype) and lanes == 1 and e.dtype != "half":
            words = [f"f32({words[0]})"]
        kind = "u32" if o.dtype == "bool" else "half" if self.is_half(o.dtype) else e.dtype
        text = words[0] if lanes == 1 else f"{register_type(kind, lanes)}({', '.join(words)})"
        if lanes > 1 and kind == "half" and e.dtype != "half":
            text = f"vec4f({text})"
        register_type(e.dtype, lanes)
        if o.dtype != "bool":
            return text
        return f"({text} != 0u)" if lanes == 1 else f"({text} != vec4u())"

    def _bytes(self, e: Expr, lanes: int) -> str:
        """Elements of 8 bits out of words: four neighbours of one by one instruction, others each by itself."""
        operand, i = e.attr.operand, e.attr.index
        o, name = self.operands[operand], self.buffer(operand)
        terms, step = i.split()
        signed = o.dtype == "i8"
        if operand in self.wide:
            word = f"{name}[{self.element(tuple((a, c // 4) for a, c in terms), i.const // 4)}]"
            return f"unpack4x{'I' if signed else 'U'}8({word})"
        if lanes > 1 and any(self.varies(a) for a, _ in terms):
            places = self.scattered(i)
            at = [f"{places}.{c}" for c in "xyzw"]
        else:
            texts = [self.element(terms, i.const + step * n) for n in range(lanes if step else 1)]
            at = [t if t.isidentifier() or t.isdigit() else f"({t})" for t in texts]
        words = [f"{name}[{t} >> 2u]" for t in at]
        words = [f"bitcast<i32>({w})" for w in words] if signed else words
        taken = [f"extractBits({w}, 8u * (u32({t}) & 3u), 8u)" for w, t in zip(words, at, strict=True)]
        return taken[0] if lanes == 1 else f"{register_type(e.dtype, lanes)}({', '.join(taken)})"


def _read_by(terms: Terms) -> tuple[Changed, ...]:
    """The registers and operands that the terms of an index read."""
    return tuple({n for a, _ in terms if not isinstance(a, str) for n in read_by(a)})
