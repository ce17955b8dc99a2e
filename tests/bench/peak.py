"""The yardsticks: loops of independent chains of one instruction, relaxed_madd or the dot product of bytes, the most a
core does in this browser, and loops that read and that copy memory from front to back, the most it can be fed."""

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


DOT_OPS_PER_ROUND = 2 * 16 * CHAINS * UNROLL


def dots() -> bytes:
    """Exports peak(rounds: i32) -> i32; a round is CHAINS * UNROLL dot products of sixteen bytes, four to each sum."""
    chains = [f"$c{k}" for k in range(CHAINS)]
    step = "\n".join(
        f"(local.set {c} (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $a) (local.get $b) (local.get {c})))"
        for c in chains
    )
    total = f"(local.get {chains[0]})"
    for c in chains[1:]:
        total = f"(v128.xor {total} (local.get {c}))"
    return bytes(
        wasmtime.wat2wasm(f"""(module (func (export "peak") (param $rounds i32) (result i32)
        (local $a v128) (local $b v128) {" ".join(f"(local {c} v128)" for c in chains)}
        (local.set $a (i8x16.splat (i32.const 3)))
        (local.set $b (i8x16.splat (i32.const 5)))
        (loop $again
          {chr(10).join([step] * UNROLL)}
          (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
        (i32x4.extract_lane 0 {total})))""")
    )


STREAMS = 4
STREAM_VECTORS = 4
COPIED = 64
"""Bytes a round of the loop that copies."""


def reader() -> bytes:
    """Exports read(bytes: i32) -> f32: the sum of the first `bytes` bytes of the imported memory, read as four streams
    of 64 bytes a round, which was the fastest of one to eight streams of 64 to 256 bytes."""
    sums = [f"$s{k}" for k in range(STREAMS * STREAM_VECTORS // 2)]
    loads = [(k // STREAM_VECTORS, 16 * (k % STREAM_VECTORS)) for k in range(STREAMS * STREAM_VECTORS)]
    step = "\n".join(
        f"(local.set {sums[n % len(sums)]} (f32x4.add (local.get {sums[n % len(sums)]})"
        f" (v128.load offset={offset} (local.get $p{stream}))))"
        for n, (stream, offset) in enumerate(loads)
    )
    total = f"(local.get {sums[0]})"
    for s in sums[1:]:
        total = f"(f32x4.add {total} (local.get {s}))"
    pointers = [f"$p{k}" for k in range(STREAMS)]
    start = "\n".join(
        f"(local.set {p} (i32.mul (i32.const {k}) (local.get $each)))" for k, p in enumerate(pointers)
    )
    bump = "\n".join(
        f"(local.set {p} (i32.add (local.get {p}) (i32.const {16 * STREAM_VECTORS})))" for p in pointers
    )
    return bytes(
        wasmtime.wat2wasm(f"""(module (import "env" "memory" (memory 1))
        (func (export "read") (param $bytes i32) (result f32) (local $each i32)
        {" ".join(f"(local {p} i32)" for p in pointers)} {" ".join(f"(local {s} v128)" for s in sums)}
        (local.set $each (i32.div_u (local.get $bytes) (i32.const {STREAMS})))
        {start}
        (loop $again
          {step}
          {bump}
          (br_if $again (i32.lt_u (local.get $p0) (local.get $each))))
        (f32x4.extract_lane 0 {total})))""")
    )


def copier() -> bytes:
    """Exports read(bytes: i32): the first half of so many bytes of the imported memory copied to the second half, so
    that each is read or written once."""
    at = "(i32.add (local.get $p) (local.get $half))"
    step = "\n".join(
        f"(v128.store offset={o} {at} (v128.load offset={o} (local.get $p)))" for o in range(0, COPIED, 16)
    )
    return bytes(
        wasmtime.wat2wasm(f"""(module (import "env" "memory" (memory 1))
        (func (export "read") (param $bytes i32) (local $p i32) (local $half i32)
        (local.set $half (i32.div_u (local.get $bytes) (i32.const 2)))
        (loop $again
          {step}
          (local.set $p (i32.add (local.get $p) (i32.const {COPIED})))
          (br_if $again (i32.lt_u (local.get $p) (local.get $half))))))""")
    )
