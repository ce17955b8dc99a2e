"""64-bit integers as pairs of i32 (vec2i, low word first): which function computes an operation, and its WGSL text.

add, sub, mul and negation are the same for signed and unsigned; division is schoolbook, bit by bit.
"""

from __future__ import annotations

CALLS = {
    "add": "add64", "sub": "sub64", "mul": "mul64", "band": "and64", "bor": "or64", "bxor": "xor64",
    "div": "div64", "rem": "rem64", "shl": "shl64", "shr": "shr64",
}  # fmt: skip
UNSIGNED = {"div": "divu64", "rem": "remu64", "shr": "shru64"}
"""Operations that differ for u64."""
ORDER = {"lt": (False, False), "gt": (True, False), "ge": (False, True), "le": (True, True)}
"""Comparisons as less(a, b): operands swapped, result negated."""

FUNCTIONS = {
    "add64": """fn add64(a: vec2i, b: vec2i) -> vec2i {
  let low = bitcast<u32>(a.x) + bitcast<u32>(b.x);
  return vec2i(bitcast<i32>(low), a.y + b.y + select(0, 1, low < bitcast<u32>(a.x)));
}
""",
    "sub64": """fn sub64(a: vec2i, b: vec2i) -> vec2i {
  return vec2i(a.x - b.x, a.y - b.y - select(0, 1, bitcast<u32>(a.x) < bitcast<u32>(b.x)));
}
""",
    "mul64": """fn mul64(a: vec2i, b: vec2i) -> vec2i {
  let x = vec2u(bitcast<u32>(a.x) & 0xffffu, bitcast<u32>(a.x) >> 16u);
  let y = vec2u(bitcast<u32>(b.x) & 0xffffu, bitcast<u32>(b.x) >> 16u);
  let middle = x.y * y.x + ((x.x * y.x) >> 16u);
  let other = x.x * y.y + (middle & 0xffffu);
  let high = x.y * y.y + (middle >> 16u) + (other >> 16u);
  return vec2i(a.x * b.x, bitcast<i32>(high) + a.x * b.y + a.y * b.x);
}
""",
    "and64": "fn and64(a: vec2i, b: vec2i) -> vec2i {\n  return a & b;\n}\n",
    "or64": "fn or64(a: vec2i, b: vec2i) -> vec2i {\n  return a | b;\n}\n",
    "xor64": "fn xor64(a: vec2i, b: vec2i) -> vec2i {\n  return a ^ b;\n}\n",
    "less64": """fn less64(a: vec2i, b: vec2i) -> bool {
  return a.y < b.y || (a.y == b.y && bitcast<u32>(a.x) < bitcast<u32>(b.x));
}
""",
    "lessu64": """fn lessu64(a: vec2i, b: vec2i) -> bool {
  let x = bitcast<vec2u>(a);
  let y = bitcast<vec2u>(b);
  return x.y < y.y || (x.y == y.y && x.x < y.x);
}
""",
    "shl64": """fn shl64(a: vec2i, b: vec2i) -> vec2i {
  let x = bitcast<vec2u>(a);
  let n = bitcast<u32>(b.x);
  if (b.y != 0 || n > 63u) { return vec2i(); }
  if (n >= 32u) { return vec2i(0, bitcast<i32>(x.x << (n - 32u))); }
  let carried = select(x.x >> ((32u - n) & 31u), 0u, n == 0u);
  return vec2i(bitcast<i32>(x.x << n), bitcast<i32>((x.y << n) | carried));
}
""",
    "shru64": """fn shru64(a: vec2i, b: vec2i) -> vec2i {
  let x = bitcast<vec2u>(a);
  let n = bitcast<u32>(b.x);
  if (b.y != 0 || n > 63u) { return vec2i(); }
  if (n >= 32u) { return vec2i(bitcast<i32>(x.y >> (n - 32u)), 0); }
  let carried = select(x.y << ((32u - n) & 31u), 0u, n == 0u);
  return vec2i(bitcast<i32>((x.x >> n) | carried), bitcast<i32>(x.y >> n));
}
""",
    "shr64": """fn shr64(a: vec2i, b: vec2i) -> vec2i {
  let fill = vec2i(a.y >> 31u);
  return shru64(a ^ fill, b) ^ fill;
}
""",
    "divu64": """fn divu64(a: vec2i, b: vec2i) -> vec2i {
  if (all(b == vec2i())) { return vec2i(); }
  var quotient = vec2i();
  var rest = vec2i();
  for (var i = 63; i >= 0; i--) {
    rest = vec2i(rest.x << 1u, (rest.y << 1u) | ((rest.x >> 31u) & 1));
    let word = select(a.x, a.y, i >= 32);
    rest.x |= (word >> u32(i & 31)) & 1;
    if (!lessu64(rest, b)) {
      rest = sub64(rest, b);
      if (i >= 32) { quotient.y |= 1 << u32(i - 32); } else { quotient.x |= 1 << u32(i); }
    }
  }
  return quotient;
}
""",
    "size64": """fn size64(a: vec2i) -> vec2i {
  return select(a, sub64(vec2i(), a), a.y < 0);
}
""",
    "div64": """fn div64(a: vec2i, b: vec2i) -> vec2i {
  if (a.y == (a.x >> 31u) && b.y == (b.x >> 31u) && b.x != 0 && b.x != -1) {
    let q = a.x / b.x;
    return vec2i(q, q >> 31u);
  }
  let q = divu64(size64(a), size64(b));
  return select(q, sub64(vec2i(), q), (a.y < 0) != (b.y < 0));
}
""",
    "rem64": """fn rem64(a: vec2i, b: vec2i) -> vec2i {
  if (all(b == vec2i())) { return vec2i(); }
  return sub64(a, mul64(div64(a, b), b));
}
""",
    "remu64": """fn remu64(a: vec2i, b: vec2i) -> vec2i {
  if (all(b == vec2i())) { return vec2i(); }
  return sub64(a, mul64(divu64(a, b), b));
}
""",
    "float64": """fn float64(a: vec2i) -> f32 {
  let n = bitcast<vec2u>(size64(a));
  let x = f32(n.y) * 4294967296f + f32(n.x);
  return select(x, -x, a.y < 0);
}
""",
    "floatu64": """fn floatu64(a: vec2i) -> f32 {
  let n = bitcast<vec2u>(a);
  return f32(n.y) * 4294967296f + f32(n.x);
}
""",
    "whole64": """fn whole64(x: f32) -> vec2i {
  if (!(abs(x) < 9223372036854775808f)) { return select(vec2i(0, i32(-2147483648)), vec2i(-1, 2147483647), x > 0f); }
  let size = trunc(abs(x));
  let high = floor(size / 4294967296f);
  let n = vec2i(bitcast<i32>(u32(size - high * 4294967296f)), i32(high));
  return select(n, sub64(vec2i(), n), x < 0f);
}
""",
}
"""Text of each function, callees first is not needed: WGSL's order of declarations is free."""


def used(text: str) -> list[str]:
    """The functions that a shader's text calls, and those they call."""
    found: dict[str, None] = {}
    queue = [text]
    while queue:
        now = queue.pop()
        for name, body in FUNCTIONS.items():
            if name not in found and f"{name}(" in now:
                found[name] = None
                queue.append(body)
    return [FUNCTIONS[n] for n in FUNCTIONS if n in found]
