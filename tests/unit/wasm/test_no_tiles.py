"""A plan's kernels called on no tiles: what the engine does before the first run, so that their fast code is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import wasmtime

from nnjit.codegen.wasm.target import Target
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.warming import SHAPES, _image, _words


@pytest.mark.parametrize("make", [_words, _image])
def test_kernels_write_nothing_on_no_tiles_wherever_their_operands_are(engine: Any, make: Any) -> None:
    model = make()
    graph = model.bind(shapes={i.name: SHAPES[i.name] for i in model.signature.inputs})
    plan = compile_plan(graph, Target(threads=1, shared=False), SessionMemory())
    store = wasmtime.Store(engine)
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    kind = wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(plan.slots, None))
    table = wasmtime.Table(store, kind, None)
    wasmtime.Instance(store, wasmtime.Module(engine, plan.module), [memory, table])
    noise = np.random.default_rng(5).integers(0, 256, memory.data_len(store), np.uint8).tobytes()
    memory.write(store, noise, 0)
    for slot in range(plan.table_base, plan.table_base + plan.slots):
        kernel = table.get(store, slot)
        for begin in (0, 7):
            kernel(store, 0, begin, begin)
    assert bytes(memory.read(store, 0, memory.data_len(store))) == noise
