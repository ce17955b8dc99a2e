"""The yardstick: a loop of independent relaxed_madd chains, the most a core does in this browser."""

from __future__ import annotations

import wasmtime

CHAINS = 12  # with two operands, 14 of the 15 SIMD registers that V8 has on x86-64
UNROLL = 4
FLOPS_PER_ROUND = 2 * 4 * CHAINS * UNROLL


def module() -> bytes:
    """Exports peak(rounds: i32) -> f32; a round is CHAINS * UNROLL relaxed_madd, a chain waits on itself."""
    chains = [f"$c{k}" for k in range(CHAINS)]
    declared = " ".join(f"(local {c} v128)" for c in chains)
    step = "\n".join(
        f"(local.set {c} (f32x4.relaxed_madd (local.get {c}) (local.get $a) (local.get $b)))" for c in chains
    )
    unrolled = "\n".join([step] * UNROLL)
    total = f"(local.get {chains[0]})"
    for c in chains[1:]:
        total = f"(f32x4.add {total} (local.get {c}))"
    # c = c * a + b tends to 2: neither denormal nor infinite, however long it runs
    return bytes(
        wasmtime.wat2wasm(f"""(module (func (export "peak") (param $rounds i32) (result f32)
        (local $a v128) (local $b v128) {declared}
        (local.set $a (f32x4.splat (f32.const 0.5)))
        (local.set $b (f32x4.splat (f32.const 1.0)))
        (loop $again
          {unrolled}
          (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
        (f32x4.extract_lane 0 {total})))""")
    )
