"""Values across the border: a tensor is {type, dims, data} in JavaScript and a numpy array here.

Numbers cross as bytes in a Uint8Array (one copy each way), strings as a list, a sequence as
{type: 'sequence', data: [values]}, a map (a result only) as {type: 'map', data: [keys, values]}, an absent optional as
{type: 'none'}. No proxy outlives a call.
"""

from __future__ import annotations

from typing import Any

import js
import numpy as np
from pyodide.ffi import JsProxy, to_js

from . import tensor_types


def from_js(value: Any) -> Any:
    """A JavaScript value as numpy (strings: object array), list or None."""
    kind = str(value.type)
    if kind == "none":
        return None
    if kind == "sequence":
        return [from_js(item) for item in value.data]
    dims = tuple(int(d) for d in value.dims)
    if kind == "string":
        return tensor_types.strings([str(s) for s in value.data], dims)
    return tensor_types.from_bytes(kind, value.data.to_bytes(), dims)


def to_value(value: Any, short: str | None = None) -> dict[str, Any]:
    """A result as {type, dims, data}, for `to_object`. `short` names the element type where it is known."""
    if value is None:
        return {"type": "none", "dims": [], "data": None}
    if isinstance(value, (list, tuple)):
        return {"type": "sequence", "dims": [len(value)], "data": [to_value(item) for item in value]}
    if isinstance(value, dict):
        pairs = [to_value(_labels(value)), to_value(np.asarray(list(value.values())))]
        return {"type": "map", "dims": [len(value)], "data": pairs}
    array = np.asarray(value)
    kind = (
        short if short is not None and short not in ("sequence", "optional") else tensor_types.type_of(array)
    )
    dims = list(array.shape)
    if kind == "string":
        return {"type": "string", "dims": dims, "data": [_text(s) for s in array.reshape(-1)]}
    return {
        "type": tensor_types.api_name(kind),
        "dims": dims,
        "data": bytes_to_js(tensor_types.to_bytes(array, kind)),
    }


def _labels(value: dict[Any, Any]) -> Any:
    keys = list(value)
    return (
        tensor_types.strings(keys, [len(keys)]) if any(isinstance(k, str) for k in keys) else np.asarray(keys)
    )


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def bytes_to_js(data: Any) -> JsProxy:
    """A Uint8Array with its own buffer, which can be transferred."""
    view = memoryview(data)
    out = js.Uint8Array.new(view.nbytes)
    if view.nbytes:
        out.assign(view)
    return out


def to_object(value: Any) -> Any:
    """Dicts and lists as plain JavaScript objects and arrays; Uint8Arrays inside stay what they are."""
    return to_js(value, dict_converter=js.Object.fromEntries)
