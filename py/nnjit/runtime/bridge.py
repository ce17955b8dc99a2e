"""The whole contract to JavaScript: one function, dispatch(method, args, context), and the table of methods.

Takes arguments as JavaScript objects; gives {json, paths, buffers}: plain data as JSON text, and the large
byte arrays beside it with the place each belongs. Errors come back as data too, so that no exception, and
no proxy, crosses the border.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import math
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import js
import numpy as np
import onnx
from pyodide.ffi import JsProxy

from .. import frontend
from ..errors import Cancelled, NnjitError, OutOfMemory, SessionError
from ..frontend import wire
from . import bridge_install, bridge_proof, bridge_python, bridge_tuning
from . import bridge_values as values
from .ahead import AHEAD
from .compare import compare
from .gpu_plan import GpuPlan
from .plan import Plan
from .prepared import Options, static_shapes
from .session import CompilerSession
from .tensor_types import api_name

SESSIONS: dict[str, CompilerSession] = {}
FILES: dict[str, list[PageSource]] = {}
"""Of each session: the model, then its external files."""
WALKS: dict[str, Walk] = {}
"""Of sessions that are being made."""
_fetch: Callable[[str], Any] = lambda package: None  # noqa: E731 - until connect()


TELLING_S = 0.02
"""Between two messages on how far something has come, and between two looks at whether it was cancelled."""


class PageSource:
    """A file of the page as a ByteSource: a Blob, whose windows are read synchronously, which workers may; or memory
    that the page shares until it has put the bytes into a Blob (web/api/arriving.js), where they may not be yet."""

    def __init__(self, file: JsProxy, name: str) -> None:
        self._file = file
        self._in_memory = hasattr(file, "has")
        self._reader = js.FileReaderSync.new()
        self.name = name
        self.size = int(file.size)
        self._reads: list[tuple[int, int]] = []

    def read(self, start: int, length: int) -> bytes:
        self._reads.append((start, min(start + length, self.size)))
        if self._in_memory:
            return bytes(self._file.read(start, start + length).to_bytes())
        return bytes(self._reader.readAsArrayBuffer(self._file.slice(start, start + length)).to_bytes())

    def there(self, start: int, end: int) -> bool:
        return not self._in_memory or bool(self._file.has(start, end))

    @property
    def reads(self) -> list[tuple[int, int]]:
        """What has been read so far, as ranges [start, end) that do not meet: what was made of this file depends on
        these bytes and on its size alone."""
        found: list[tuple[int, int]] = []
        for start, end in sorted(self._reads):
            if found and start <= found[-1][1]:
                found[-1] = found[-1][0], max(found[-1][1], end)
            elif start < end:
                found.append((start, end))
        self._reads = found
        return list(found)

    def settle(self, blob: JsProxy) -> None:
        """The bytes are in this Blob now."""
        self._file, self._in_memory = blob, False


@dataclass
class Walk:
    """A model's graph being read; `stripped` when that is done."""

    source: PageSource
    steps: wire.Needs[bytes]
    stripped: bytes | None = None


class Context:
    """Progress out, cancellation in. `cancel` is a shared Int32Array, or None where memory is not shared."""

    def __init__(self, progress: JsProxy | None, cancel: JsProxy | None) -> None:
        self._progress, self._cancel = progress, cancel
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """detail: a shader as JSON, at the stage "shader", of which every one is told; of the rest the ends, and what
        lies TELLING_S apart: a model has hundreds of steps, and each crossing takes about as long as a small one."""
        if not detail and 0 < done < total:
            now = time.perf_counter()
            if now < self._next:
                return
            self._next = now + TELLING_S
        if self._cancel is not None and js.Atomics.load(self._cancel, 0):
            raise Cancelled("The page cancelled this")
        if self._progress is not None:
            self._progress(stage, done, total, detail)


def dispatch(method: str, args: Any, progress: Any = None, cancel: Any = None) -> Any:
    """Calls METHODS[method]. Never raises: a failure is {json: {error: …}}."""
    try:
        return _answer({"value": METHODS[method](args, Context(progress, cancel))})
    except NnjitError as error:
        if isinstance(error, SessionError):
            _name(error, args)
        return _answer({"error": error.to_dict()})
    except MemoryError as error:
        too_large = OutOfMemory(
            f"The compiler ran out of memory: {error}",
            hint="close other sessions (session.release()), or use a smaller model",
        )
        return _answer({"error": too_large.to_dict()})
    except Exception as error:
        return _answer({"error": _unexpected(method, error)})


async def run_python(code: str) -> Any:
    """nnjit.python(code): like dispatch, and may await. A Python error comes back with its traceback."""
    try:
        return _answer({"value": await bridge_python.run(code)})
    except NnjitError as error:
        return _answer({"error": error.to_dict()})
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        fields = {"traceback": text}
        message = f"{type(error).__name__}: {error}"
        return _answer({"error": {"code": "PYTHON", "message": message, "hint": "", "fields": fields}})


def connect(call: Any, fetch: Any) -> str:
    """Lets Python call the page and fetch wheels while it waits; gives versions as JSON."""
    global _fetch
    # a kernel takes some thousand objects, none in a cycle: collections were an eighth of what writing it took, and a
    # single one takes 50 ms where half a model has been read
    gc.set_threshold(200_000)
    gc.freeze()  # what has been imported stays: a collection need not look at it, which would be most of its work
    bridge_python.connect(call)
    _fetch = fetch
    versions = {
        "nnjit": importlib.metadata.version("nnjit"),
        "python": platform.python_version(),
        "onnx": onnx.__version__,
    }
    return json.dumps(versions)


def _unexpected(method: str, error: BaseException) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error)[-8:])
    return {
        "code": "INTERNAL",
        "name": type(error).__name__,
        "message": f"{method}: {type(error).__name__}: {error}",
        "hint": "this is a fault of nnjit: please report it with the traceback",
        "fields": {"traceback": text},
    }


def _answer(value: Any) -> Any:
    buffers: list[Any] = []
    paths: list[list[str | int]] = []
    plain = _split(value, [], paths, buffers)
    return values.to_object({"json": json.dumps(plain), "paths": paths, "buffers": buffers})


_PLAIN = frozenset({str, int, bool, type(None)})
"""Types of what JSON takes as it is: most of a plan, and to ask whether it is a proxy takes long."""


def _split(value: Any, path: list[str | int], paths: list[list[str | int]], buffers: list[Any]) -> Any:
    """`value` without its byte arrays, which go to `buffers` with their places in `paths`."""
    if isinstance(value, dict):
        return {
            str(k): v if type(v) in _PLAIN else _split(v, [*path, str(k)], paths, buffers)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            v if type(v) in _PLAIN else _split(v, [*path, i], paths, buffers) for i, v in enumerate(value)
        ]
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = values.bytes_to_js(value)
    if isinstance(value, JsProxy):
        paths.append(path)
        buffers.append(value)
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _session(args: Any) -> CompilerSession:
    session = SESSIONS.get(str(args.session))
    if session is None:
        raise SessionError(f"There is no {args.session}: it was released, or never made")
    return session


def _name(error: SessionError, args: Any) -> None:
    """Says whose error it is: the session, and the file of its model."""
    name = str(getattr(args, "session", ""))
    session = SESSIONS.get(name)
    if session is not None:
        model = session.model.file_names[0]
        error.message = f"{model}: {error.message}"
        error.fields.setdefault("model", model)
    if name:
        error.fields.setdefault("session", name)


def _walk(args: Any, context: Context) -> dict[str, Any]:
    """A model that may be on its way, as far as its graph can be read: {need}, what is to come first, [start, end],
    and what may be wanted then; None when `create` of this session can go on."""
    name = str(args.session)
    context("parse", 0, 1)
    if name not in WALKS:
        source = PageSource(args.model, str(args.name))
        WALKS[name] = Walk(source, wire.walk(source))
    walk = WALKS[name]
    try:
        return {"need": next(walk.steps)}
    except StopIteration as done:
        walk.stripped = done.value
        return {"need": None}
    except NnjitError:
        del WALKS[name]
        raise


def _create(args: Any, context: Context) -> dict[str, Any]:
    external = {str(e.path): PageSource(e.bytes, str(e.path)) for e in args.external}
    walk = WALKS.pop(str(args.session))
    source = walk.source
    model = frontend.load(source, external, walk.stripped)
    options = bridge_tuning.with_facts(Options.read(args.options.to_py()))
    model.signature.check_symbols(options.dims)
    bridge_install.for_operators({op for _, op in model.nodes}, _fetch)
    session = CompilerSession(model, options)
    answer = session.describe()
    answer["static"] = _static(session)
    context("parse", 1, 1)
    SESSIONS[str(args.session)] = session
    FILES[str(args.session)] = [source, *external.values()]
    return answer


def _settle(args: Any, context: Context) -> None:
    """A file of a session that was read from shared memory is in a Blob now. file: 0 is the model."""
    _session(args)
    FILES[str(args.session)][int(args.file)].settle(args.blob)


def _reads(args: Any, context: Context) -> list[list[list[int]]]:
    """For each file of a session, the model's first: ranges that the compiler has read, [start, end)."""
    _session(args)
    return [[[start, end] for start, end in file.reads] for file in FILES[str(args.session)]]


def _static(session: CompilerSession) -> dict[str, Any] | None:
    """Input shapes, where they are all known and nothing else is needed to compile; else None."""
    shapes = static_shapes(session.model, session.options.dims)
    if shapes is None or not session.can_compile(shapes):
        return None
    return {name: list(dims) for name, dims in shapes.items()}


def _prepare(args: Any, context: Context) -> dict[str, Any]:
    session = _session(args)
    shapes = {str(name): tuple(int(d) for d in dims) for name, dims in args.shapes.to_py().items()}
    session.settle([str(key) for key in args.loaded])
    known = {str(name): values.from_js(value) for name, value in js.Object.entries(args.values)}
    prepared, evicted = session.prepare(shapes, known, context, bool(getattr(args, "exact", False)))
    answer: dict[str, Any] = {
        "key": prepared.key,
        "backend": prepared.backend,
        "reason": prepared.reason,
        "placement": prepared.nodes,
        "seconds": prepared.seconds,
        "evicted": evicted,
        "valueInputs": list(session.value_inputs),
        "room": prepared.room.to_js() if prepared.room else None,
        "ahead": AHEAD if prepared.room else None,
        "noRoom": prepared.no_room,
        "next": prepared.next and {name: list(dims) for name, dims in prepared.next.items()},
        "plan": None,
        "constants": {},
    }
    if prepared.plan is not None:
        answer["plan"] = _plan(prepared.plan, context)
        answer["constants"] = {n: values.to_value(v) for n, v in prepared.plan.constants.items()}
    return answer


def _plan(plan: Plan | GpuPlan, context: Context) -> dict[str, Any]:
    """A plan as the page gets it: without the texts of shaders that came as they were written, in this same call."""
    if not isinstance(plan, GpuPlan):
        return plan.to_js()
    told, plan.told = plan.told, None
    return plan.to_js(told[1] if told and told[0] is context else None)


def _suggest(args: Any, context: Context) -> dict[str, Any]:
    """{session, shapes, made} → {shapes, highest, reason}: sizes for inputs that are made up."""
    session = _session(args)
    shapes = {str(name): tuple(int(d) for d in dims) for name, dims in args.shapes.to_py().items()}
    given = args.made.to_py().items()  # JavaScript's null is not None here
    made = {str(name): int(n) if isinstance(n, (int, float)) else None for name, n in given}
    found = session.suggest(shapes, made)
    fitted = {name: list(dims) for name, dims in found.shapes.items()}
    return {"shapes": fitted, "highest": found.highest, "reason": found.reason}


def _release(args: Any, context: Context) -> bool:
    FILES.pop(str(args.session), None)
    WALKS.pop(str(args.session), None)
    return SESSIONS.pop(str(args.session), None) is not None


def _host(args: Any, context: Context) -> dict[str, Any]:
    """A host call of the engine: {session, plan, call, inputs} → {outputs}."""
    session = _session(args)
    inputs = [values.from_js(v) for v in args.inputs]
    outputs = session.plan(str(args.plan)).host_call(str(args.call), inputs)
    return {"outputs": [values.to_value(value, dtype) for value, dtype in outputs]}


def _reference(args: Any, context: Context) -> list[dict[str, Any]]:
    """A run of the 'reference' backend: {session, plan, feeds, fetch} → values in the order of fetch."""
    session = _session(args)
    results = session.plan(str(args.plan)).run_reference(_feeds(args.feeds))
    dtypes = {info.name: info.dtype for info in session.model.signature.outputs}
    return [values.to_value(results[name], dtypes.get(name)) for name in map(str, args.fetch)]


def _check(args: Any, context: Context) -> list[dict[str, Any]]:
    session = _session(args)
    expected = session.reference(_feeds(args.feeds))
    dtypes = {info.name: api_name(info.dtype) for info in session.model.signature.outputs}
    return [
        {"name": name, "type": dtypes[name], **compare(value, expected[name])}
        for name, value in _feeds(args.outputs).items()
    ]


def _feeds(entries: Any) -> Mapping[str, Any]:
    return {str(name): values.from_js(value) for name, value in js.Object.entries(entries)}


def _kernel(args: Any, context: Context) -> dict[str, Any]:
    session, key, step = _session(args), str(args.key), int(args.step)
    return {**session.kernel(key, step), **bridge_tuning.before(session, key, step)}


def _stats(args: Any, context: Context) -> dict[str, Any]:
    return {
        "sessions": len(SESSIONS),
        "plans": {name: list(session.plans) for name, session in SESSIONS.items()},
    }


METHODS: dict[str, Callable[[Any, Context], Any]] = {
    "walk": _walk,
    "create": _create,
    "settle": _settle,
    "reads": _reads,
    "prepare": _prepare,
    "suggest": _suggest,
    "release": _release,
    "host": _host,
    "reference": _reference,
    "check": _check,
    "kernel": _kernel,
    "stats": _stats,
    **bridge_tuning.methods(_session),
    **bridge_proof.methods(_session),
}
