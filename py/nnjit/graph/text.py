"""Values and attributes as words: what print(graph) is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .ir import Value


def operand(value: Value | None) -> str:
    if value is None:
        return "_"
    if value.const is None:
        return f"%{value.name}"
    array = value.const.array
    if array is not None and array.size <= 8 and array.dtype.kind in "fiub":
        return f"{value.dtype}{array.tolist()}"
    return f"%{value.name}:{value.text()}"


def short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 16:
        return f"<{value.dtype}{list(value.shape)}>"
    if hasattr(value, "node") and hasattr(value, "name"):
        return f"<graph {value.name}: {len(value.node)} nodes>"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
