"""Every WebAssembly instruction the encoder knows, under the specification's names.

OPS maps a mnemonic to its Op: encoding, operand and result types, kind of immediates. The tables below are
that list in short: a line is `first-code prefix: names | operands>results immediates`, its names take
consecutive codes, and types are one letter each (i i32, I i64, f f32, F f64, v v128, r funcref, e externref).
"""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

from .leb import ULEB

ValType = Literal["i32", "i64", "f32", "f64", "v128", "funcref", "externref"]

# Value types are their own byte in the binary format; a stack of them is a bytearray.
TYPE_BYTE: dict[str, int] = {
    "i32": 0x7F,
    "i64": 0x7E,
    "f32": 0x7D,
    "f64": 0x7C,
    "v128": 0x7B,
    "funcref": 0x70,
    "externref": 0x6F,
}
TYPE_NAME: dict[int, ValType] = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
_LETTER = {"i": b"\x7f", "I": b"\x7e", "f": b"\x7d", "F": b"\x7c", "v": b"\x7b", "r": b"\x70", "e": b"\x6f"}

# Immediates: none; mN = memarg with natural alignment 2**N bytes; laneN = lane below N; mN,laneN = both;
# others say what they hold. `*` for a signature: it depends on the context, the builder has a method for it.
CONTROL = """
00 : unreachable | *
01 : nop | >
02 : block loop if | * blocktype
05 : else | *
0B : end | *
0C : br br_if | * label
0E : br_table | * labels
0F : return | *
10 : call | * func
11 : call_indirect | * type,table
1A : drop select | *
1C : select_t | * types
20 local: get set tee | * local
23 global: get set | * global
25 table: get | i>r table
26 table: set | ir> table
3F memory: size | >i memory
40 memory: grow | i>i memory
41 i32: const | >i i32
42 i64: const | >I i64
43 f32: const | >f f32
44 f64: const | >F f64
D0 ref: null | * reftype
D1 ref: is_null | *
D2 ref: func | >r func
"""

MEMORY = """
28 i32: load | i>i m2
29 i64: load | i>I m3
2A f32: load | i>f m2
2B f64: load | i>F m3
2C i32: load8_s load8_u | i>i m0
2E i32: load16_s load16_u | i>i m1
30 i64: load8_s load8_u | i>I m0
32 i64: load16_s load16_u | i>I m1
34 i64: load32_s load32_u | i>I m2
36 i32: store | ii> m2
37 i64: store | iI> m3
38 f32: store | if> m2
39 f64: store | iF> m3
3A i32: store8 | ii> m0
3B i32: store16 | ii> m1
3C i64: store8 | iI> m0
3D i64: store16 | iI> m1
3E i64: store32 | iI> m2
"""

NUMERIC = """
45 i32: eqz | i>i
46 i32: eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u | ii>i
50 i64: eqz | I>i
51 i64: eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u | II>i
5B f32: eq ne lt gt le ge | ff>i
61 f64: eq ne lt gt le ge | FF>i
67 i32: clz ctz popcnt | i>i
6A i32: add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr | ii>i
79 i64: clz ctz popcnt | I>I
7C i64: add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr | II>I
8B f32: abs neg ceil floor trunc nearest sqrt | f>f
92 f32: add sub mul div min max copysign | ff>f
99 f64: abs neg ceil floor trunc nearest sqrt | F>F
A0 f64: add sub mul div min max copysign | FF>F
A7 i32: wrap_i64 | I>i
A8 i32: trunc_f32_s trunc_f32_u | f>i
AA i32: trunc_f64_s trunc_f64_u | F>i
AC i64: extend_i32_s extend_i32_u | i>I
AE i64: trunc_f32_s trunc_f32_u | f>I
B0 i64: trunc_f64_s trunc_f64_u | F>I
B2 f32: convert_i32_s convert_i32_u | i>f
B4 f32: convert_i64_s convert_i64_u | I>f
B6 f32: demote_f64 | F>f
B7 f64: convert_i32_s convert_i32_u | i>F
B9 f64: convert_i64_s convert_i64_u | I>F
BB f64: promote_f32 | f>F
BC i32: reinterpret_f32 | f>i
BD i64: reinterpret_f64 | F>I
BE f32: reinterpret_i32 | i>f
BF f64: reinterpret_i64 | I>F
C0 i32: extend8_s extend16_s | i>i
C2 i64: extend8_s extend16_s extend32_s | I>I
"""

# Prefix FC: saturating truncations, bulk memory, tables.
MISC = """
00 i32: trunc_sat_f32_s trunc_sat_f32_u | f>i
02 i32: trunc_sat_f64_s trunc_sat_f64_u | F>i
04 i64: trunc_sat_f32_s trunc_sat_f32_u | f>I
06 i64: trunc_sat_f64_s trunc_sat_f64_u | F>I
08 memory: init | iii> data,memory
09 data: drop | > data
0A memory: copy | iii> memory,memory
0B memory: fill | iii> memory
0C table: init | iii> elem,table
0D elem: drop | > elem
0E table: copy | iii> table,table
0F table: grow | ri>i table
10 table: size | >i table
11 table: fill | iri> table
"""

# Prefix FD: 128-bit vectors.
SIMD = """
00 v128: load | i>v m4
01 v128: load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u | i>v m3
07 v128: load8_splat | i>v m0
08 v128: load16_splat | i>v m1
09 v128: load32_splat | i>v m2
0A v128: load64_splat | i>v m3
0B v128: store | iv> m4
0C v128: const | >v v128
0D i8x16: shuffle | vv>v lanes
0E i8x16: swizzle | vv>v
0F i8x16: splat | i>v
10 i16x8: splat | i>v
11 i32x4: splat | i>v
12 i64x2: splat | I>v
13 f32x4: splat | f>v
14 f64x2: splat | F>v
15 i8x16: extract_lane_s extract_lane_u | v>i lane16
17 i8x16: replace_lane | vi>v lane16
18 i16x8: extract_lane_s extract_lane_u | v>i lane8
1A i16x8: replace_lane | vi>v lane8
1B i32x4: extract_lane | v>i lane4
1C i32x4: replace_lane | vi>v lane4
1D i64x2: extract_lane | v>I lane2
1E i64x2: replace_lane | vI>v lane2
1F f32x4: extract_lane | v>f lane4
20 f32x4: replace_lane | vf>v lane4
21 f64x2: extract_lane | v>F lane2
22 f64x2: replace_lane | vF>v lane2
23 i8x16: eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u | vv>v
2D i16x8: eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u | vv>v
37 i32x4: eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u | vv>v
41 f32x4: eq ne lt gt le ge | vv>v
47 f64x2: eq ne lt gt le ge | vv>v
4D v128: not | v>v
4E v128: and andnot or xor | vv>v
52 v128: bitselect | vvv>v
53 v128: any_true | v>i
54 v128: load8_lane | iv>v m0,lane16
55 v128: load16_lane | iv>v m1,lane8
56 v128: load32_lane | iv>v m2,lane4
57 v128: load64_lane | iv>v m3,lane2
58 v128: store8_lane | iv> m0,lane16
59 v128: store16_lane | iv> m1,lane8
5A v128: store32_lane | iv> m2,lane4
5B v128: store64_lane | iv> m3,lane2
5C v128: load32_zero | i>v m2
5D v128: load64_zero | i>v m3
5E f32x4: demote_f64x2_zero | v>v
5F f64x2: promote_low_f32x4 | v>v
60 i8x16: abs neg popcnt | v>v
63 i8x16: all_true bitmask | v>i
65 i8x16: narrow_i16x8_s narrow_i16x8_u | vv>v
67 f32x4: ceil floor trunc nearest | v>v
6B i8x16: shl shr_s shr_u | vi>v
6E i8x16: add add_sat_s add_sat_u sub sub_sat_s sub_sat_u | vv>v
74 f64x2: ceil floor | v>v
76 i8x16: min_s min_u max_s max_u | vv>v
7A f64x2: trunc | v>v
7B i8x16: avgr_u | vv>v
7C i16x8: extadd_pairwise_i8x16_s extadd_pairwise_i8x16_u | v>v
7E i32x4: extadd_pairwise_i16x8_s extadd_pairwise_i16x8_u | v>v
80 i16x8: abs neg | v>v
82 i16x8: q15mulr_sat_s | vv>v
83 i16x8: all_true bitmask | v>i
85 i16x8: narrow_i32x4_s narrow_i32x4_u | vv>v
87 i16x8: extend_low_i8x16_s extend_high_i8x16_s extend_low_i8x16_u extend_high_i8x16_u | v>v
8B i16x8: shl shr_s shr_u | vi>v
8E i16x8: add add_sat_s add_sat_u sub sub_sat_s sub_sat_u | vv>v
94 f64x2: nearest | v>v
95 i16x8: mul min_s min_u max_s max_u | vv>v
9B i16x8: avgr_u | vv>v
9C i16x8: extmul_low_i8x16_s extmul_high_i8x16_s extmul_low_i8x16_u extmul_high_i8x16_u | vv>v
A0 i32x4: abs neg | v>v
A3 i32x4: all_true bitmask | v>i
A7 i32x4: extend_low_i16x8_s extend_high_i16x8_s extend_low_i16x8_u extend_high_i16x8_u | v>v
AB i32x4: shl shr_s shr_u | vi>v
AE i32x4: add | vv>v
B1 i32x4: sub | vv>v
B5 i32x4: mul min_s min_u max_s max_u dot_i16x8_s | vv>v
BC i32x4: extmul_low_i16x8_s extmul_high_i16x8_s extmul_low_i16x8_u extmul_high_i16x8_u | vv>v
C0 i64x2: abs neg | v>v
C3 i64x2: all_true bitmask | v>i
C7 i64x2: extend_low_i32x4_s extend_high_i32x4_s extend_low_i32x4_u extend_high_i32x4_u | v>v
CB i64x2: shl shr_s shr_u | vi>v
CE i64x2: add | vv>v
D1 i64x2: sub | vv>v
D5 i64x2: mul eq ne lt_s gt_s le_s ge_s | vv>v
DC i64x2: extmul_low_i32x4_s extmul_high_i32x4_s extmul_low_i32x4_u extmul_high_i32x4_u | vv>v
E0 f32x4: abs neg | v>v
E3 f32x4: sqrt | v>v
E4 f32x4: add sub mul div min max pmin pmax | vv>v
EC f64x2: abs neg | v>v
EF f64x2: sqrt | v>v
F0 f64x2: add sub mul div min max pmin pmax | vv>v
F8 i32x4: trunc_sat_f32x4_s trunc_sat_f32x4_u | v>v
FA f32x4: convert_i32x4_s convert_i32x4_u | v>v
FC i32x4: trunc_sat_f64x2_s_zero trunc_sat_f64x2_u_zero | v>v
FE f64x2: convert_low_i32x4_s convert_low_i32x4_u | v>v
"""

# Prefix FD, continued: results may differ between machines in the cases the specification lists.
RELAXED = """
100 i8x16: relaxed_swizzle | vv>v
101 i32x4: relaxed_trunc_f32x4_s relaxed_trunc_f32x4_u | v>v
103 i32x4: relaxed_trunc_f64x2_s_zero relaxed_trunc_f64x2_u_zero | v>v
105 f32x4: relaxed_madd relaxed_nmadd | vvv>v
107 f64x2: relaxed_madd relaxed_nmadd | vvv>v
109 i8x16: relaxed_laneselect | vvv>v
10A i16x8: relaxed_laneselect | vvv>v
10B i32x4: relaxed_laneselect | vvv>v
10C i64x2: relaxed_laneselect | vvv>v
10D f32x4: relaxed_min relaxed_max | vv>v
10F f64x2: relaxed_min relaxed_max | vv>v
111 i16x8: relaxed_q15mulr_s relaxed_dot_i8x16_i7x16_s | vv>v
113 i32x4: relaxed_dot_i8x16_i7x16_add_s | vvv>v
"""

# Prefix FE: threads. Alignment of these is not a hint: it must be the natural one.
ATOMIC = """
00 memory: atomic.notify | ii>i m2
01 memory: atomic.wait32 | iiI>i m2
02 memory: atomic.wait64 | iII>i m3
03 atomic: fence | > zero
10 i32: atomic.load | i>i m2
11 i64: atomic.load | i>I m3
12 i32: atomic.load8_u | i>i m0
13 i32: atomic.load16_u | i>i m1
14 i64: atomic.load8_u | i>I m0
15 i64: atomic.load16_u | i>I m1
16 i64: atomic.load32_u | i>I m2
17 i32: atomic.store | ii> m2
18 i64: atomic.store | iI> m3
19 i32: atomic.store8 | ii> m0
1A i32: atomic.store16 | ii> m1
1B i64: atomic.store8 | iI> m0
1C i64: atomic.store16 | iI> m1
1D i64: atomic.store32 | iI> m2
"""


def _read_modify_write() -> str:
    """The rest of ATOMIC: for each operation the same seven widths."""
    widths = ["i32 rmw. 2", "i64 rmw. 3", "i32 rmw8. 0", "i32 rmw16. 1"]
    widths += ["i64 rmw8. 0", "i64 rmw16. 1", "i64 rmw32. 2"]
    lines = []
    for nth, name in enumerate(["add", "sub", "and", "or", "xor", "xchg", "cmpxchg"]):
        for step, width in enumerate(widths):
            ty, rmw, align = width.split()
            letter = "i" if ty == "i32" else "I"
            takes = "i" + letter * (2 if name == "cmpxchg" else 1)
            full = name if rmw == "rmw." else name + "_u"  # narrow ones zero-extend
            lines.append(f"{0x1E + 7 * nth + step:X} {ty}: atomic.{rmw}{full} | {takes}>{letter} m{align}")
    return "\n".join(lines)


class Op(NamedTuple):
    """One instruction. `takes` and `gives` hold a type byte a value, or are None if the context decides."""

    name: str
    code: bytes
    takes: bytes | None
    gives: bytes | None
    immediates: tuple[str, ...]

    @property
    def align(self) -> int:
        """log2 of the natural alignment; -1 for an instruction that does not touch memory."""
        first = self.immediates[0] if self.immediates else ""
        return int(first[1:]) if first[:1] == "m" and first[1:].isdigit() else -1


class UnknownInstructionError(KeyError):
    """A mnemonic that is in no table; the message offers the nearest ones."""

    def __str__(self) -> str:
        return str(self.args[0])


class OpTable(dict[str, Op]):
    """Mnemonic -> Op, in the order of the binary format."""

    def __missing__(self, name: str) -> Op:
        near = ", ".join(difflib.get_close_matches(name, self, 3))
        raise UnknownInstructionError(
            f"no WebAssembly instruction {name!r}" + (f"; near: {near}" if near else "")
        )


def _types(letters: str) -> bytes:
    return b"".join(_LETTER[letter] for letter in letters)


def _parse(table: str, prefix: bytes) -> list[Op]:
    ops = []
    for line in table.strip().splitlines():
        left, right = line.split("|")
        head, names = left.split(":")
        first, _, family = head.partition(" ")
        signature, _, immediates = right.strip().partition(" ")
        takes, gives = (None, None) if signature == "*" else map(_types, signature.split(">"))
        dotted = f"{family.strip()}." if family.strip() else ""
        for step, name in enumerate(names.split()):
            number = int(first, 16) + step
            code = prefix + ULEB[number] if prefix else bytes((number,))
            ops.append(
                Op(dotted + name, code, takes, gives, tuple(immediates.split(",")) if immediates else ())
            )
    return ops


FAMILIES: dict[str, list[Op]] = {
    "control": _parse(CONTROL, b""),
    "memory": _parse(MEMORY, b""),
    "numeric": _parse(NUMERIC, b""),
    "misc": _parse(MISC, b"\xfc"),
    "simd": _parse(SIMD, b"\xfd"),
    "relaxed": _parse(RELAXED, b"\xfd"),
    "atomic": _parse(ATOMIC + _read_modify_write(), b"\xfe"),
}
OPS = OpTable((op.name, op) for family in FAMILIES.values() for op in family)
