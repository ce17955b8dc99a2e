"""wasmtime as the oracle: it validates, assembles text and runs what the encoder wrote."""

from __future__ import annotations

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
