"""Bytecode that need not be compiled again: wheels hold source, and compiling it is half of a first start.

`install` makes imports take what serve.py has compiled (devtools/bytecode.py) and what the page kept of earlier visits,
and remember what they had to compile; `take()` gives the blob to keep. The page pins a blob to the exact files it was
made from, so nothing here compares dates.
"""

from __future__ import annotations

import marshal
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
from types import CodeType
from typing import Any

_served: dict[str, bytes] = {}
_own: dict[str, bytes] = {}
"""Compiled in this browser."""
_counts = {"taken": 0, "compiled": 0}
_kept = 0  # entries of _own that the page has
_compile = SourceFileLoader.get_code
_DAMAGED = (EOFError, MemoryError, TypeError, ValueError)
"""What marshal says of bytes that it cannot read."""
_SITE = "/lib/python3.14/site-packages/"
_PACKAGES = (
    "/home/pyodide/nnjit/",
    *(_SITE + name for name in ("numpy/", "google/protobuf/", "typing_extensions.py", "ml_dtypes/", "onnx/")),
)
"""Whose sources the page's pin covers. A module that the page's own code has written may be another next time."""


def install(kept: Any, served: Any = ()) -> None:
    """`kept`: what take() gave in an earlier visit (a JavaScript ArrayBuffer), or None; `served`: ArrayBuffers that
    serve.py has made, or None for what it has not."""
    global _kept
    if kept is not None:
        _own.update(_modules(kept))
    _kept = len(_own)
    for blob in served:
        if blob is None:
            continue
        found = _modules(blob)
        if found.pop("", None) == MAGIC_NUMBER:  # else it was made for another Python
            _served.update(found)
    SourceFileLoader.get_code = _get_code  # type: ignore[method-assign, assignment]


def _modules(blob: Any) -> dict[str, bytes]:
    """A blob's entries; none of a damaged one, so that imports compile."""
    try:
        found = marshal.loads(blob.to_bytes())
    except _DAMAGED:
        return {}
    return found if isinstance(found, dict) else {}


def _get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
    path = self.get_filename(fullname)
    for known in (_served, _own):
        try:
            code = marshal.loads(known[path])
        except (KeyError, *_DAMAGED):
            continue
        if isinstance(code, CodeType):
            _counts["taken"] += 1
            return code
    made = _compile(self, fullname)
    _counts["compiled"] += 1
    if made is not None and path.startswith(_PACKAGES):
        _own[path] = marshal.dumps(made)
    return made


def take() -> Any:
    """What this browser has compiled as one Uint8Array, or None when the page has it all already."""
    global _kept
    if len(_own) == _kept:
        return None
    _kept = len(_own)
    from .bridge_values import bytes_to_js

    return bytes_to_js(marshal.dumps(_own))


def leave() -> None:
    """What is known now need not be kept: it stays in memory that is, where nothing is imported twice."""
    global _kept
    _served.clear()
    _kept = len(_own)


def counts() -> dict[str, int]:
    """How many modules came from blobs, and how many had to be compiled."""
    return dict(_counts)
