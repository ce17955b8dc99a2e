"""Weights of a few bits in words: takes the factor (code + zero) * scale of a product, gives how a span of it is done
with few instructions.

A code is not shifted down: its bits stay where they are in the mantissa of a float whose last bit is 1, which makes it
2^low times as large, and the other factor is made as much smaller, once for all columns. Both are exact, but for
factors below 2^-111. The scale is multiplied with the sum of a span and not with each of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnjit.codegen.expr import LANE, Expr, Index, bitcast, const, op
from nnjit.codegen.schedule.workgroup_plan import LANES

MANTISSA = 23
HALF = 16
"""Codes in the upper half of a word come down by this before they are masked."""


@dataclass(frozen=True, slots=True)
class Codes:
    """(code + zero) * scale, where code is `bits` of the i32 load `word`, `shift` from its last. zero and scale are the
    same in a whole span."""

    word: Expr
    shift: Index
    bits: int
    zero: Expr
    scale: Expr

    def lows(self, at: Index) -> tuple[list[int], list[int]]:
        """Of four neighbours whose shift is `at`: how far each comes down, and how far from the end it stays."""
        shifts = [at.const + at.coeff(LANE) * n for n in range(LANES)]
        return [s - s % HALF for s in shifts], [s % HALF for s in shifts]

    def smaller(self, at: Index) -> Expr:
        """What the other factor is multiplied by."""
        return four([2.0**-low for low in self.lows(at)[1]], "f32")

    def larger(self, at: Index, word: Expr, zero: Expr) -> Expr:
        """code + zero, 2^low times as large."""
        down, lows = self.lows(at)
        moved = op("shr", word, four(down, "i32")) if any(down) else word
        taken = op("band", moved, four([(1 << self.bits) - 1 << low for low in lows], "i32"))
        value = bitcast(op("bor", taken, const(127 + MANTISSA << MANTISSA, "i32")), "f32")
        middle = float(1 << MANTISSA)
        if zero.op == "const" and zero.attr == int(zero.attr) and abs(zero.attr) <= 1 << self.bits:
            return op("sub", value, four([middle - zero.attr * 2.0**low for low in lows], "f32"))
        up = four([2.0**low for low in lows], "f32")
        if is_whole(self.zero):  # of as few bits as a code: the difference is exact
            return op("sub", value, Expr("fma", "f32", (_negative(zero), up, const(middle, "f32"))))
        # a whole number below 2^16 ends in bits of 0: taking one off keeps compilers from adding zero * up and 2^23 up
        number = op("band", bitcast(op("sub", value, const(middle, "f32")), "i32"), const(-2, "i32"))
        return Expr("fma", "f32", (zero, up, bitcast(number, "f32")))


def codes_of(right: Expr, inside: Sequence[str]) -> Codes | None:
    """The parts of a factor whose zero and scale do not depend on the axes `inside` a span, and whose codes lie in a
    word along the last of them; None for other factors."""
    for code, zero, scale in _forms(right):
        if (
            not (zero.axes() | scale.axes()).isdisjoint(inside)
            or code.op != "cast"
            or code.args[0].op != "band"
        ):
            continue
        shifted, mask = code.args[0].args
        if mask.op != "const" or shifted.op != "shr" or shifted.args[1].op != "axis":
            continue
        word, shift = shifted.args[0], shifted.args[1].attr
        bits = int(mask.attr).bit_length()
        plain = word.op == "load" and word.dtype == "i32" and not word.attr.guard
        along = shift.axes() == {inside[-1]} and inside[-1] not in word.axes()
        places = [shift.const, *(c for _, c in shift.terms)]
        whole = bits and HALF % bits == 0 and not any(p % bits for p in places)  # none lies in both halves
        if plain and along and whole and mask.attr == (1 << bits) - 1:
            return Codes(word, shift, bits, zero, scale)
    return None


def _forms(e: Expr) -> list[tuple[Expr, Expr, Expr]]:
    """Code, zero and scale, if `e` is code * scale + zero * scale, or (code + zero) * scale."""
    if e.dtype != "f32":
        return []
    if e.op == "fma" and e.args[2].op == "mul":
        for code, scale in (e.args[:2], e.args[1::-1]):
            for zero, again in (e.args[2].args, e.args[2].args[::-1]):
                if again == scale:
                    return [(code, zero, scale)]
    if e.op == "mul":
        nothing = const(0.0, "f32")
        out = []
        for codes, scale in (e.args, e.args[::-1]):
            if codes.op == "add":
                out += [(codes.args[0], codes.args[1], scale), (codes.args[1], codes.args[0], scale)]
            elif codes.op == "sub":
                out.append((codes.args[0], _negative(codes.args[1]), scale))
            else:
                out.append((codes, nothing, scale))
        return out
    return []


def is_whole(zero: Expr) -> bool:
    """Whether a zero point is a byte made a float."""
    zero = zero.args[0] if zero.op == "neg" else zero
    return zero.op == "cast" and zero.args[0].dtype in ("i8", "u8")


def _negative(e: Expr) -> Expr:
    if e.op == "neg":
        return e.args[0]
    return const(-e.attr, e.dtype) if e.op == "const" else Expr("neg", e.dtype, (e,))


def four(values: list[int] | list[float], dtype: str) -> Expr:
    """A vector of constants, or one where all are the same."""
    if len(set(values)) == 1:
        return const(values[0], dtype)
    return Expr("each", dtype, tuple(const(v, dtype) for v in values))
