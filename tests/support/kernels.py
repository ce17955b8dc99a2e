"""Runs one kernel under wasmtime: (spec, schedule, target, buffers) -> what its output buffers hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import wasmtime

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.loops import Nest
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.team_words import LENGTHS

ARGS, FIRST = 1024, 2048
SLACK = 64
"""Bytes past a buffer's end that a kernel may read."""


@cache
def usual() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_simd = True
    config.wasm_relaxed_simd = True
    return wasmtime.Engine(config)


@cache
def deterministic() -> wasmtime.Engine:
    """An engine whose relaxed instructions do as the deterministic profile says: the relaxed dot is of i8 with i8."""
    config = wasmtime.Config()
    config.wasm_simd = True
    config.wasm_relaxed_simd = True
    config.wasm_relaxed_simd_deterministic = True
    return wasmtime.Engine(config)


def run_nest(
    nest: Nest, target: Target, buffers: Sequence[Any], shares: Sequence[int] | None = None,
    engine: wasmtime.Engine | None = None, lengths: Sequence[int] = (), shared: Sequence[int] = (),
) -> list[Any]:  # fmt: skip
    """All tiles of a nest; flat copies of every buffer as the kernel left them.

    lengths: of the request. shared: two buffers that are one, the first of them. shares: called once from each of these
    numbers to the next, the last being how many units there are."""
    shares = shares or (0, nest.tiles)
    addresses, end = [], FIRST
    for b in buffers:
        addresses.append(end)
        end += -(-(b.nbytes + SLACK) // 64) * 64
    if shared:
        addresses[shared[1]] = addresses[shared[0]]
        buffers = [buffers[shared[0]] if i == shared[1] else b for i, b in enumerate(buffers)]
    engine = engine or usual()
    store = wasmtime.Store(engine)
    pages = -(-end // 65536)
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(pages, None)))
    module = wasmtime.Module(engine, emit_module(nest, target, shares[-1]))
    kernel = wasmtime.Instance(store, module, [memory]).exports(store)["kernel"]
    memory.write(store, np.array(addresses, np.uint32).tobytes(), ARGS)
    memory.write(store, np.array(lengths, np.int64).tobytes(), LENGTHS)
    for b, at in zip(buffers, addresses, strict=True):
        # what lies past a buffer must not matter
        memory.write(store, np.ascontiguousarray(b).tobytes() + b"\xff" * SLACK, at)
    for begin, end in pairwise(shares):
        kernel(store, ARGS, begin, end)
    out = []
    for b, at in zip(buffers, addresses, strict=True):
        out.append(np.frombuffer(memory.read(store, at, at + b.nbytes), b.dtype).copy())
        assert memory.read(store, at + b.nbytes, at + b.nbytes + SLACK) == b"\xff" * SLACK, "written past"
    return out


def run_spec(spec: KernelSpec, schedule: Schedule, target: Target, inputs: Sequence[Any]) -> list[Any]:
    """The output buffers of `spec` for the input arrays, in operand order."""
    given = iter(inputs)
    buffers = [
        np.ascontiguousarray(next(given)).reshape(-1) if o.role == "in" else np.zeros(o.size, NUMPY[o.dtype])
        for o in spec.operands
    ]
    after = run_nest(apply(spec, schedule), target, buffers)
    return [b for b, o in zip(after, spec.operands, strict=True) if o.role == "out"]
