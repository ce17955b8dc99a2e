"""LocalSession: a model on CPython, its kernels under wasmtime. For tests and studies; the browser's engine
is the product.

    session = LocalSession("model.onnx")
    outputs = session.run({"x": array})
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
import wasmtime

from nnjit.errors import ArgumentError, MissingExternalData, SessionError
from nnjit.frontend import ByteSource, BytesSource, FileSource, load
from nnjit.graph import dtypes
from nnjit.graph.model import Model
from nnjit.graph.room import NoRoom, Room
from nnjit.lower.forms import Forms
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.host import HostCalls
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.placement import of_plan
from nnjit.runtime.plan import Plan, Target
from nnjit.runtime.prepared import plan_key
from nnjit.runtime.rooms import Rooms
from nnjit.runtime.shape_inputs import find
from nnjit.runtime.tensor_types import short_name

Array = Any


Loaded: TypeAlias = "tuple[Plan, Any, HostCalls, dict[str, Any]]"
"""A plan, its run function, what it calls on the host, and values that stay between runs."""


class LocalSession:
    """One thread, one memory, plans per shape; shape-deciding inputs are bound by value.

    model: its bytes, an onnx.ModelProto, or a path, beside which files of weights that are not in `external` are
    looked for. room: lengths that move get a plan with room. ModelFileError: no such file; ModelFormatError and the
    like: not a model that this version takes.
    """

    def __init__(
        self,
        model: bytes | str | os.PathLike[str] | onnx.ModelProto,
        external: Mapping[str, bytes] | None = None,
        target: Target | None = None,
        convolution: str = "auto",
        room: bool = False,
    ):
        self.model = _load(model, external or {})
        self.target, self.forms = target or Target(), Forms(convolution)
        self.memory_map = SessionMemory()
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        # its deterministic profile is a machine whose relaxed dot multiplies i8 with i8
        config.wasm_relaxed_simd_deterministic = self.target.dot == "s8"
        config.cranelift_opt_level = "speed"
        self.store = wasmtime.Store(wasmtime.Engine(config))
        self.memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(1, 65536)))
        self.table = wasmtime.Table(
            self.store, wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(0, None)), None
        )
        self.plans: dict[str, Loaded] = {}
        self.last: Plan | None = None
        self.rooms = Rooms() if room else None
        self._made: list[tuple[Room, str]] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name; feeds as numpy arrays (lists for sequences). FeedError, ShapeError: not what the model
        takes."""
        self._check(feeds)
        room, key = self._room(feeds) if self.rooms else (None, "")
        n = room.n_of(_shapes(feeds)) if room else None
        given = feeds if room is None or n is None else room.pad(feeds, n)
        outputs = self._served(self._plan(feeds) if room is None else self.plans[key], given)
        if room is None or n is None:
            return outputs
        return {name: room.cut(name, value, n) for name, value in outputs.items()}

    def _served(self, loaded: Loaded, given: Mapping[str, Any]) -> dict[str, Any]:
        """A run of a plan: inputs and outputs of its own shapes."""
        plan, run, host, kept = loaded
        self.last = plan
        values: dict[str, Any] = dict(kept)
        for ref in plan.inputs:
            self._put(ref.to_js(), given[ref.name], values)
        for segment in plan.segments:
            if segment["kind"] == "wasm":
                run(self.store, 0, 1, segment["first"], segment["last"])
            else:
                self._call(segment, host, values)
        names = [info.name for info in self.model.signature.outputs]
        found = dict(zip(names, (ref.to_js() for ref in plan.outputs), strict=True))
        return {
            name: plan.constants[name] if name in plan.constants else self._get(r, values)
            for name, r in found.items()
        }

    def _check(self, feeds: Mapping[str, Any]) -> None:
        taken = {}
        for name, value in feeds.items():
            tensor = self.model.signature.input(name).kind == "tensor"
            taken[name] = (
                (dtypes.from_numpy(np.asarray(value).dtype), np.shape(value)) if tensor else ("", ())
            )
        self.model.signature.check_feeds(taken)

    def _room(self, feeds: Mapping[str, Any]) -> tuple[Room | None, str]:
        """A plan with room for these feeds, made where their lengths moved, and its key."""
        shapes = _shapes(feeds)
        for room, key in self._made:
            if room.n_of(shapes) is not None:
                return room, key
        assert self.rooms is not None
        try:
            made = self.rooms.make(self.model, shapes, "", {}, {})
        except NoRoom:
            made = None
        if made is None:
            self.rooms.saw(shapes, "")
            return None, ""
        self._graph = made.graph
        key = made.text()
        self.load(compile_plan(made.graph, self.target, self.memory_map, key=key, forms=self.forms))
        self._made.append((made, key))
        self.rooms.saw(shapes, "", made)
        return made, key

    def placement(self) -> list[dict[str, Any]]:
        """Where each node of the latest plan runs."""
        assert self.last is not None
        return of_plan(self.model, self._graph, self.last)

    def _plan(self, feeds: Mapping[str, Any]) -> Loaded:
        shapes = _shapes(feeds)
        graph = self.model.bind(shapes=shapes)
        needed = {n: feeds[n] for n in find(graph) if n in feeds}
        key = plan_key(shapes, needed)
        if key in self.plans:
            return self.plans[key]
        if needed:
            graph = self.model.bind(shapes=shapes, values=needed)
        self._graph = graph
        plan = compile_plan(graph, self.target, self.memory_map, key=key, forms=self.forms)
        return self.load(plan)

    def load(self, plan: Plan) -> Loaded:
        """A plan placed in this session's memory, ready to run under its key."""
        self.memory.grow(self.store, max(0, plan.pages - self.memory.size(self.store)))
        size = self.table.size(self.store)
        if plan.table_base + plan.slots > size:
            self.table.grow(self.store, plan.table_base + plan.slots - size, None)
        module = wasmtime.Module(self.store.engine, plan.module)
        imports = [self.table if i.name == "table" else self.memory for i in module.imports]
        instance = wasmtime.Instance(self.store, module, imports)
        host, kept = HostCalls(plan.host_calls), {}  # type: ignore[var-annotated]
        for item in plan.init:
            self._init(item, host, kept)
        self.plans[plan.key] = plan, instance.exports(self.store)["run"], host, kept
        return self.plans[plan.key]

    def _init(self, item: dict[str, Any], host: HostCalls, kept: dict[str, Any]) -> None:
        if item["kind"] == "bytes":
            self.memory.write(self.store, item["data"], item["address"])
        elif item["kind"] == "range":
            data = self.model.files[item["source"]].read(item["start"], item["length"])
            self.memory.write(self.store, data, item["address"])
        elif item["kind"] == "step":
            kernel = self.table.get(self.store, item["slot"])
            assert isinstance(kernel, wasmtime.Func)
            kernel(self.store, item["args"], 0, item["tiles"])
        else:
            self._call(item, host, kept)

    def _call(self, site: dict[str, Any], host: HostCalls, values: dict[str, Any]) -> None:
        inputs = [self._get(r, values) for r in site["inputs"]]
        for r, (value, _) in zip(site["outputs"], host.run(site["call"], inputs), strict=True):
            self._put(r, value, values)

    def _put(self, ref: dict[str, Any], value: Any, values: dict[str, Any]) -> None:
        if ref.get("host"):
            values[ref["name"]] = value
            return
        data = dtypes.to_raw(np.asarray(value), short_name(ref["type"]))
        if len(data) != ref["nbytes"]:
            raise SessionError(f"{ref['name']}: {len(data)} bytes for {ref['type']}{ref['dims']}")
        if data:
            self.memory.write(self.store, data, ref["address"])

    def _get(self, ref: dict[str, Any], values: dict[str, Any]) -> Any:
        if ref.get("host"):
            return values[ref["name"]]
        raw = bytes(self.memory.read(self.store, ref["address"], ref["address"] + ref["nbytes"]))
        return dtypes.from_raw(raw, short_name(ref["type"]), tuple(ref["dims"]))


def _load(model: Any, external: Mapping[str, bytes]) -> Model:
    """As `LocalSession` takes it. A model names no files outside its own folder."""
    files: dict[str, ByteSource] = {name: BytesSource(data, name) for name, data in external.items()}
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    if isinstance(model, (bytes, bytearray, memoryview)):
        return load(BytesSource(model, "model.onnx"), files)
    if not isinstance(model, (str, os.PathLike)):
        raise ArgumentError(
            f"a model is bytes, an onnx.ModelProto or a path, not {type(model).__name__}",
            hint='LocalSession("model.onnx")',
            got=type(model).__name__,
        )
    source = FileSource(model)
    while True:
        try:
            return load(source, files)
        except MissingExternalData as missing:
            name = str(missing.fields.get("file", ""))
            beside = os.path.join(os.path.dirname(os.fspath(model)), name)
            outside = os.path.isabs(name) or ".." in name.replace("\\", "/").split("/")
            if name in files or outside or not os.path.isfile(beside):
                raise
            files[name] = FileSource(beside)


def _shapes(feeds: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {n: tuple(np.shape(v)) for n, v in feeds.items() if isinstance(v, np.ndarray)}
