"""Python for the user: code from nnjit.python(), and InferenceSession as Python sees it.

A session here is a handle on one the page made through its own API, so the same checks, plans and engine
serve both: `session = await nnjit.InferenceSession.create(model)`, `await session.run(None, feeds)`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import js
import numpy as np
from pyodide.code import eval_code_async
from pyodide.ffi import JsException, JsProxy

import nnjit

from .. import errors
from ..frontend.source import read_file
from . import bridge_values as values
from .tensor_types import type_of

_call: Callable[[str, Any], Any] | None = None
NAMESPACE: dict[str, Any] = {"__name__": "__main__", "nnjit": nnjit, "np": np}


def connect(call: Callable[[str, Any], Any]) -> None:
    """`call(method, args)` asks the page and returns a promise. Gives `nnjit` its InferenceSession."""
    global _call
    _call = call
    nnjit.InferenceSession = InferenceSession  # type: ignore[attr-defined]


async def run(code: str) -> dict[str, Any]:
    """Value of the code's last expression: {'plain': …} or {'tensor': …}."""
    result = await eval_code_async(code, NAMESPACE)
    if isinstance(result, np.ndarray):
        return {"tensor": values.to_value(result)}
    return {"plain": _plain(result)}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    return repr(value)


async def _ask(method: str, args: dict[str, Any]) -> Any:
    if _call is None:
        raise errors.SessionError("Python is not connected to a page")
    try:
        return await _call(method, values.to_object(args))
    except JsException as error:
        raise _typed(error) from None


def _typed(error: Any) -> errors.NnjitError:
    """The page's NnjitError as Python's class of the same code."""
    code = str(getattr(error, "code", "INTERNAL"))
    kinds = {kind.code: kind for kind in errors.NnjitError.__subclasses__()}
    fields = getattr(error, "fields", None)
    raised = kinds.get(code, errors.NnjitError)(
        str(error.message), hint=str(getattr(error, "hint", "") or "")
    )
    raised.fields = fields.to_py() if isinstance(fields, JsProxy) else {}
    raised.code = code  # type: ignore[misc]
    return raised


class InferenceSession:
    """A model ready to run, from Python. Make one with `await InferenceSession.create(model)`."""

    def __init__(self, handle: int, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self._handle = handle
        self.inputs, self.outputs = inputs, outputs
        self.input_names = [i["name"] for i in inputs]
        self.output_names = [o["name"] for o in outputs]
        self.tuning = Tuning(self)

    @classmethod
    async def create(cls, model: Any, **options: Any) -> InferenceSession:
        """`model`: bytes, an onnx.ModelProto, a path here or a URL. Options as in the JavaScript API."""
        made = (await _ask("python.create", {"model": _model(model), "options": options})).to_py()
        return cls(made["handle"], made["inputs"], made["outputs"])

    async def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """Outputs in the order of `output_names` (all if None), as numpy arrays; lists for sequences."""
        args = {
            "handle": self._handle,
            "feeds": self._values(feeds),
            "fetch": list(output_names) if output_names is not None else self.output_names,
        }
        return [values.from_js(value) for value in await _ask("python.run", args)]

    def _values(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _as_value(value) for name, value in feeds.items()}

    async def check(self, feeds: Mapping[str, Any]) -> Any:
        """Largest absolute and relative error of each output against onnx.reference."""
        return json.loads(await _ask("python.check", {"handle": self._handle, "feeds": self._values(feeds)}))

    async def prepare(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Compiles for these input shapes before the first run."""
        await self._question("prepare", shapes={name: list(dims) for name, dims in shapes.items()})

    async def suggest(self, shapes: Mapping[str, Sequence[int]]) -> Any:
        """Shapes near these that the model's graph takes, and why: {shapes, highest, reason}."""
        return await self._question("suggest", shapes={name: list(dims) for name, dims in shapes.items()})

    async def placement(self) -> Any:
        """Where each node ran."""
        return await self._question("placement")

    async def profile(self, repeats: int = 10) -> Any:
        """Milliseconds of each step."""
        return await self._question("profile", repeats=repeats)

    async def kernel(self, step: int) -> Any:
        """Schedule and listing of one step's kernel."""
        return await self._question("kernel", step=step)

    async def stats(self) -> Any:
        """Times and bytes of the latest plan."""
        return await self._question("stats")

    async def release(self) -> None:
        """Gives the memory back."""
        await _ask("python.release", {"handle": self._handle})

    async def _question(self, question: str, **args: Any) -> Any:
        return json.loads(
            await _ask("python.ask", {"handle": self._handle, "question": question, "args": args})
        )


class Tuning:
    """session.tuning from Python: the page's own tuner."""

    def __init__(self, session: InferenceSession) -> None:
        self._ask = session._question

    async def status(self) -> Any:
        """Counts, times and a row for each kernel."""
        return await self._ask("tuning.status")

    async def start(self, mode: str = "now", budget_ms: float = 0) -> None:
        """Begins, or goes on."""
        await self._ask("tuning.start", mode=mode, budgetMs=budget_ms)

    async def pause(self) -> None:
        """Stops; what was found stays."""
        await self._ask("tuning.pause")

    async def finished(self) -> Any:
        """The status when it has come to its end."""
        return await self._ask("tuning.finished")

    async def reset(self) -> None:
        """The first kernels again; records are forgotten."""
        await self._ask("tuning.reset")

    async def export_records(self) -> Any:
        """What was found, a record a line."""
        return await self._ask("tuning.export")

    async def import_records(self, records: str) -> Any:
        """Records from elsewhere, to be tried first."""
        return await self._ask("tuning.import", records=records)


def _as_value(value: Any) -> dict[str, Any]:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
        return values.to_value(list(value))
    if value is None:
        return values.to_value(None)
    array = np.asarray(value)
    return values.to_value(array, type_of(array))


def _model(model: Any) -> Any:
    if hasattr(model, "SerializeToString"):
        return values.bytes_to_js(model.SerializeToString())
    if isinstance(model, (bytes, bytearray, memoryview)):
        return values.bytes_to_js(model)
    if isinstance(model, os.PathLike) or (isinstance(model, str) and os.path.exists(model)):
        return values.bytes_to_js(read_file(model))
    if isinstance(model, str):
        return js.URL.new(model, js.location.href).href
    raise errors.ArgumentError(
        f"a model is bytes, an onnx.ModelProto, a path or a URL, not {type(model).__name__}",
        hint='InferenceSession.create("model.onnx") or create(bytes)',
        got=type(model).__name__,
    )
