"""Bytecode kept from one visit to the next: wheels hold source, and compiling it is two fifths of all importing.

`install(blob)` makes imports take what the blob has and remember what they had to compile; `take()` gives the
blob to keep. The page pins a blob to the exact files it was made from, so nothing here compares dates.
"""

from __future__ import annotations

import marshal
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

_known: dict[str, bytes] = {}
_counts = {"taken": 0, "compiled": 0}
_kept = 0  # entries of the blob that the page has
_compile = SourceFileLoader.get_code


def install(blob: Any) -> None:
    """`blob`: what take() gave in an earlier visit (a JavaScript ArrayBuffer), or None."""
    global _kept
    if blob is not None:
        _known.update(marshal.loads(blob.to_bytes()))
    _kept = len(_known)
    SourceFileLoader.get_code = _get_code  # type: ignore[method-assign, assignment]


def _get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
    path = self.get_filename(fullname)
    found = _known.get(path)
    if found is not None:
        _counts["taken"] += 1
        code: CodeType = marshal.loads(found)
        return code
    made = _compile(self, fullname)
    _counts["compiled"] += 1
    if made is not None:
        _known[path] = marshal.dumps(made)
    return made


def take() -> Any:
    """Everything known as one Uint8Array, or None when the page has it all already."""
    global _kept
    if len(_known) == _kept:
        return None
    _kept = len(_known)
    from .bridge_values import bytes_to_js

    return bytes_to_js(marshal.dumps(_known))


def leave() -> None:
    """What is known now need not be kept: it stays in memory that is."""
    global _kept
    _kept = len(_known)


def counts() -> dict[str, int]:
    """How many modules came from the blob, and how many had to be compiled."""
    return dict(_counts)
