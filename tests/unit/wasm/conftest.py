"""wasmtime as the oracle: it validates, assembles text and runs what the encoder wrote."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

wasmtime = pytest.importorskip("wasmtime")


def make_engine() -> Any:
    config = wasmtime.Config()
    config.wasm_simd = True
    config.wasm_relaxed_simd = True
    config.wasm_threads = True
    config.shared_memory = True
    return wasmtime.Engine(config)


@pytest.fixture(scope="session")
def engine() -> Any:
    return make_engine()


@pytest.fixture(scope="session")
def validate(engine: Any) -> Callable[[bytes], None]:
    """validate(module bytes) raises with wasmtime's message if they are not a valid module."""
    return lambda data: wasmtime.Module.validate(engine, data)


@pytest.fixture(scope="session")
def instantiate(engine: Any) -> Callable[..., tuple[Any, Any]]:
    """instantiate(module bytes, imports) -> (store, exports)."""

    def make(data: bytes, imports: tuple[Any, ...] = ()) -> tuple[Any, Any]:
        store = wasmtime.Store(engine)
        instance = wasmtime.Instance(store, wasmtime.Module(engine, data), list(imports))
        return store, instance.exports(store)

    return make


class SharedMemory(wasmtime.SharedMemory):
    """wasmtime's, importable: its own _as_extern (50.0.1) passes a pointer too many."""

    def _as_extern(self) -> Any:
        ffi = wasmtime._ffi
        extern = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, extern)

    def words(self) -> Any:
        """The memory as i32, to read and write."""
        return ctypes.cast(self.data_ptr(), ctypes.POINTER(ctypes.c_int32))


def make_memory(engine: Any) -> Any:
    """A shared memory of four pages."""
    limits = wasmtime.Limits(4, 65536)
    return SharedMemory(engine, wasmtime.MemoryType(limits, shared=True))


@pytest.fixture
def shared_memory(engine: Any) -> Any:
    return make_memory(engine)
