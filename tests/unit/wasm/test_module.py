"""ModuleBuilder: every kind of section, checked by instantiating the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import wasmtime

from nnjit.codegen.wasm.builder import WasmTypeError
from nnjit.codegen.wasm.decode import DecodeError, parse
from nnjit.codegen.wasm.module import ModuleBuilder, kernel_function, kernel_module, unique

Run = Callable[..., tuple[Any, Any]]


def test_tiny(instantiate: Run) -> None:
    m = ModuleBuilder("tiny")
    b = m.function(["i32"], ["i32"], "twice", export="twice")
    b.get(0)
    b.get(0)
    b.op("i32.add")
    store, exports = instantiate(m.build())
    assert exports["twice"](store, 21) == 42


def test_empty() -> None:
    assert ModuleBuilder().build() == b"\0asm\x01\0\0\0"


def test_functions_refer_to_later_ones_and_to_imports(engine: Any, instantiate: Run) -> None:
    m = ModuleBuilder()
    m.import_memory("env", "memory", 1)
    log = m.import_function("env", "log", ["i32"])
    first = m.function([], ["i32"], "first", export="first")
    second = m.function(["i32"], ["i32"], "second")
    first.i32_const(20)
    first.call(second)
    second.get(0)
    second.call(log)
    second.get(0)
    second.i32_const(1)
    second.op("i32.add")
    data = m.build()
    store = wasmtime.Store(engine)
    seen: list[int] = []
    host = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), seen.append)
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    instance = wasmtime.Instance(store, wasmtime.Module(engine, data), [memory, host])
    assert instance.exports(store)["first"](store) == 21
    assert seen == [20]
    assert len(parse(data).types) == 3, "(i32)->(), ()->i32, (i32)->i32"


def test_table_elements_globals_data_and_start(instantiate: Run) -> None:
    m = ModuleBuilder("all")
    m.memory(1, 3, export="memory")
    m.table(20, 20, export="table")
    m.data(100, b"hello")
    m.data(None, b"passive")
    counter = m.global_("i32", -7, export="counter")
    wide = m.global_("i64", 2**40, mutable=False)
    negate = m.function(["i32"], ["i32"], "negate")
    negate.i32_const(0)
    negate.get(0)
    negate.op("i32.sub")
    begin = m.function([], [], "begin")
    begin.i32_const(200)
    begin.i32_const(1)
    begin.i32_const(3)
    begin.indexed("memory.init", 1, 0)
    begin.global_get(counter, "i32")
    begin.global_get(wide, "i64")
    begin.op("i32.wrap_i64")
    begin.op("i32.add")
    begin.i32_const(10)
    begin.call_indirect(["i32"], ["i32"])
    begin.global_set(counter, "i32")
    m.elements(10, [negate])
    m.start(begin)
    store, exports = instantiate(m.build())
    assert bytes(exports["memory"].read(store, 100, 105)) == b"hello"
    assert bytes(exports["memory"].read(store, 200, 204)) == b"ass\0"
    assert exports["counter"].value(store) == 7
    assert exports["table"].get(store, 9).value is None
    assert exports["table"].get(store, 10)(store, 5) == -5


@pytest.mark.parametrize("shared", [False, True])
def test_kernel_module(shared: bool, engine: Any) -> None:
    b = kernel_function("noop")
    b.get(0)
    b.drop()
    module = wasmtime.Module(engine, kernel_module(b, shared))
    (memory,) = module.imports
    assert (memory.module, memory.name) == ("env", "memory")
    limits = memory.type.limits
    assert (limits.min, limits.max) == ((0, 65536) if shared else (0, None))
    (kernel,) = module.exports
    assert kernel.name == "kernel"
    assert [str(t) for t in kernel.type.params] == ["i32"] * 3


def test_shared_memory_needs_a_maximum() -> None:
    with pytest.raises(ValueError, match="maximum"):
        ModuleBuilder().memory(1, shared=True)


def test_segments_above_two_gib(validate: Callable[[bytes], None]) -> None:
    m = ModuleBuilder()
    m.memory(65536)
    m.data(0xC000_0000, b"x")
    data = m.build()
    validate(data)
    assert parse(data).segments[0].at == 0xC000_0000


def test_unfinished_function_is_reported() -> None:
    m = ModuleBuilder()
    m.function([], ["i32"], "empty")
    with pytest.raises(WasmTypeError, match="empty"):
        m.build()


def test_names_are_written_once_each() -> None:
    assert unique(["a", "", "a", "a.2", "a", ""]) == ["a", "", "a.2", "a.2.2", "a.3", ""]
    m = ModuleBuilder("m")
    for _ in range(2):
        m.add(kernel_function("k"))
    module = parse(m.build())
    assert module.name == "m"
    assert module.function_names == {0: "k", 1: "k.2"}
    assert module.local_names[1] == {0: "args", 1: "begin", 2: "end"}


def test_building_twice_gives_the_same_bytes() -> None:
    m = ModuleBuilder()
    b = m.function(["i32"], [], "f")
    b.get(0)
    with b.if_():
        b.get(0)
        b.call(b)
    assert m.build() == m.build()


@pytest.mark.parametrize("cut", [4, 9, 13, -1])
def test_parse_refuses_what_is_cut(cut: int) -> None:
    m = ModuleBuilder("tiny")
    m.function([], [], "f", export="f")
    with pytest.raises(DecodeError):
        parse(m.build()[:cut])
