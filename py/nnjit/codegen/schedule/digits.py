"""Rows in fixed point: 32 neighbours x become three signed digits of 8 bits each by one power of two s, and a sum of
their products with codes of 4 or 8 bits becomes dot products of four bytes, which are exact.

    x[k] = s * (d0[k] + 2^8 d1[k] + 2^16 d2[k] + rest)                           |rest| <= 1/2
    sum of x * (code + zero)  =  s * (S0 + 2^8 S1 + 2^16 S2),      Si = sum of di * code + zero * sum of di

s is 2^(e - 21), where 2^e is the largest power of two that is at most 1 + 2^-5 times M, the largest |x| of the 32. So
x / s is below 2^22, and adding 1.5 * 2^23 to it rounds it to a whole number that the low bits of the float then hold.
What is added is 0x8080 more: each byte of those bits is a digit plus 128 (the last one plus 64), and digits need no
carry. Scaling is exact, and so are whole numbers below 2^21.

How far the sum of n <= 32 such products is from the exact one, w being the weights (code + zero) * scale:
  - x is rounded to a multiple of s: at most (1 + 2^-5) * 2^-22 * M * sum of |w|. s is four units in the last place
    of M, eight where M is just below a power of two, however small the other x are.
  - S0, S1 and S2 are put together, multiplied by the scale and s, and added to other groups: four roundings, 2^-22
    of the sum's own size. Where zero points are floats, three more of 2^-24 * M * sum of (code + |zero|) * |scale|.
    Each Si is below 2^22: a float made of it is exact.
In floats (`codes`: four lanes of n / 4 multiply-adds, the scale, two additions) it is (n / 4 + 3) * 2^-24 * sum of
|x w|. For n = 32 that is the larger bound where the average |x|, weighed by |w|, is above 0.6 M. At 0.4 M, as of
normal numbers, digits have 1.3 times the bound of floats; where one x is far larger than the others, as many times
it as M is larger than 0.6 times the average. How groups are added up, as f32, is the same in both. In sums of 512
to 1024 normal x digits were off by 2e-7 to 4e-7 of the largest output, floats by 1e-7 to 2e-7; where every 37th x
is 1000 times as large, digits by 1e-6.

The exponent is that of 32 neighbours: other groups are not touched by one large number. A group with an infinity or
a NaN has no digits: its s is 0 here, and `along_digits` multiplies it as floats. Numbers below 2^-127 count as 0
where M is below 2^-105. Which bytes go together: those of the codes that a mask leaves in a word, see `places`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import Expr, bitcast, cast, compare, const, op, reg, select
from nnjit.codegen.loops import Set, Stmt
from nnjit.codegen.schedule.codes import Codes, is_whole
from nnjit.codegen.schedule.workgroup_plan import LANES

COUNT = 3
"""Digits of a number."""
MOST = 32
"""Neighbours with one exponent."""
INFINITY = 0x7F800000
"""The bits of an infinity: those of a NaN are more, those of a number less."""
MIDDLE = 3 << 22
"""1.5 * 2^23: a float near it has a unit of 1, and its last 23 bits are those of the whole number that was added."""
MIDDLE_BITS = 0x4B400000
EACH_128, EACH_64 = -0x7F7F7F80, 0x40404040
"""The bytes 0x80 and 0x40, four times."""
LOW_HALF, BYTES_02, BYTES_13 = 0xFFFF, 0x00FF00FF, -0x00FF0100
ONES = 0x01010101
LEAST = 22
"""The smallest exponent, as the bits of a float have it: s is a normal number."""


def whole(value: int) -> Expr:
    return const(value, "i32")


def places(bits: int) -> list[list[int]]:
    """Of the codes of a word that `taken(word, bits, n)` leaves: which they are, for each n."""
    step = 8 // bits
    return [[step * byte + n for byte in range(4)] for n in range(step)]


def taken(word: Expr, bits: int, n: int) -> Expr:
    """Every (8 / bits)th code of a word, from the n-th on, as four signed bytes; codes of 8 bits less 128."""
    if bits == 8:
        return bitcast(op("bxor", word, whole(EACH_128)), "i8x4")
    moved = op("shr", word, whole(bits * n)) if n else word
    return bitcast(op("band", moved, whole(((1 << bits) - 1) * ONES)), "i8x4")


def offset(codes: Codes) -> Expr:
    """What is added to what `taken` gives so that it is code + zero: i32 if that is whole and of few bits, else f32."""
    zero, more = codes.zero, 128 if codes.bits == 8 else 0
    if zero.op == "const":
        if zero.attr == int(zero.attr) and abs(zero.attr) <= 1 << codes.bits:
            return whole(int(zero.attr) + more)
        return const(zero.attr + more, "f32")
    if not is_whole(zero):
        return op("add", zero, const(more, "f32")) if more else zero
    if zero.op == "neg":
        return op("sub", whole(more), cast(zero.args[0].args[0], "i32"))
    value = cast(zero.args[0], "i32")
    return op("add", value, whole(more)) if more else value


def digits(name: str, vectors: Sequence[Expr], bits: int, sums: bool) -> list[Stmt]:
    """Registers of a group of neighbours, whole words of codes of `bits` bits each: NAME.s, their unit; NAME.most, the
    bits of the largest; NAME.i.n.g, digits i of the codes that `taken` leaves for n, of the words 4g to 4g + 3; with
    `sums` NAME.sum.i, those of all digits i."""
    out: list[Stmt] = [Set(f"{name}.x.{v}", x, LANES) for v, x in enumerate(vectors)]
    values = [reg(f"{name}.x.{v}", "f32") for v in range(len(vectors))]
    most: Expr | None = None
    for x in values:
        size = op("band", bitcast(x, "i32"), whole(0x7FFFFFFF))
        most = size if most is None else op("max", most, size)
    assert most is not None
    out.append(Set(f"{name}.sizes", most, LANES))
    widest = Expr("lanes_max", "i32", (reg(f"{name}.sizes", "i32"),), LANES)
    out.append(Set(f"{name}.most", Expr("lane", "i32", (widest,), 0), 1))
    out += _unit(name)
    middle = const(MIDDLE + 0x8080, "f32")
    for v, x in enumerate(values):
        fixed = Expr("fma", "f32", (x, reg(f"{name}.up", "f32"), middle))
        out.append(Set(f"{name}.fixed.{v}", bitcast(fixed, "i32"), LANES))
    each = 32 // bits
    words = LANES * len(vectors) // each

    def element(word: int, place: int) -> Expr:
        at = word * each + place
        if word >= words:
            return whole(0)
        return Expr("lane", "i32", (reg(f"{name}.fixed.{at // LANES}", "i32"),), at % LANES)

    for n, of_word in enumerate(places(bits)):
        for g in range(0, words, LANES):
            four = [
                Expr("each", "i32", tuple(element(word, place) for word in range(g, g + LANES)))
                for place in of_word
            ]
            for i, word in enumerate(_bytes_of(four)):
                out.append(Set(f"{name}.{i}.{n}.{g // LANES}", bitcast(word, "i8x4"), LANES))
    for i in range(COUNT if sums else 0):
        total: Expr | None = None
        for at in range(words):
            for n in range(8 // bits):
                ones = digit(name, i, n, at), const(ONES, "i8x4")
                total = Expr("dot", "i32", ones if total is None else (*ones, total))
        assert total is not None
        out.append(Set(f"{name}.sum.{i}", total, 1))
    return out


def _unit(name: str) -> list[Stmt]:
    """NAME.s = 2^(e - 21), NAME.up = 1 / s, from the bits of the largest number."""
    most = reg(f"{name}.most", "i32")
    # 2^-5 more, so that 0x8080 above the largest is still below 2^22
    exponent = op("band", op("add", most, whole(1 << 18)), whole(INFINITY))
    unit = op("sub", op("max", exponent, whole(LEAST << 23)), whole(21 << 23))
    finite = select(compare("lt", most, whole(INFINITY)), reg(f"{name}.unit", "i32"), whole(0))
    return [
        Set(f"{name}.unit", unit, 1),
        Set(f"{name}.up", bitcast(op("sub", whole(254 << 23), reg(f"{name}.unit", "i32")), "f32"), 1),
        Set(f"{name}.s", bitcast(finite, "f32"), 1),
    ]


def _bytes_of(four: Sequence[Expr]) -> list[Expr]:
    """Words of the first bytes of four words, of the second and of the third ones, as signed digits: bytes that lie
    two apart stay so while two words become one."""

    def even(a: Expr, b: Expr) -> Expr:
        low = op("band", a, whole(BYTES_02))
        return op("bor", low, op("shl", op("band", b, whole(BYTES_02)), whole(8)))

    def odd(a: Expr, b: Expr) -> Expr:
        high = op("band", op("shr", a, whole(8)), whole(BYTES_02))
        return op("bor", high, op("band", b, whole(BYTES_13)))

    def low(a: Expr, b: Expr) -> Expr:
        return op("bor", op("band", a, whole(LOW_HALF)), op("shl", b, whole(16)))

    a, b, c, d = four
    near, far = (even(a, b), even(c, d)), (odd(a, b), odd(c, d))
    high = op("bor", op("band", op("shr", near[0], whole(16)), whole(LOW_HALF)),
              op("band", near[1], whole(~LOW_HALF)))  # fmt: skip
    flip = whole(EACH_128)
    return [
        op("bxor", low(*near), flip),
        op("bxor", low(*far), flip),
        op("bxor", op("add", high, whole(EACH_64)), flip),
    ]


def digit(name: str, i: int, n: int, word: int) -> Expr:
    """Digits i that belong to what `taken` leaves of a word for n."""
    register = reg(f"{name}.{i}.{n}.{word // LANES}", "i8x4")
    return Expr("lane", "i8x4", (register,), word % LANES)


def joined(sums: Sequence[Expr]) -> Expr:
    """S0 + 2^8 S1 + 2^16 S2 as f32, of registers that are MIDDLE_BITS more than Si: the bits of Si + 1.5 * 2^23."""
    value: Expr | None = None
    for i, total in enumerate(sums):
        part = op("sub", bitcast(total, "f32"), const(MIDDLE, "f32"))
        value = part if value is None else Expr("fma", "f32", (part, const(2.0 ** (8 * i), "f32"), value))
    assert value is not None
    return value


def summed(name: str) -> Expr:
    """The sum of all numbers of a group, in units of NAME.s."""
    value: Expr | None = None
    for i in range(COUNT):
        part = cast(reg(f"{name}.sum.{i}", "i32"), "f32")
        value = part if value is None else Expr("fma", "f32", (part, const(2.0 ** (8 * i), "f32"), value))
    assert value is not None
    return value
