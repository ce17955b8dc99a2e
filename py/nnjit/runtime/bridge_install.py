"""Puts wheels into the interpreter at boot, and a stand-in where ml_dtypes cannot be had.

Takes a wheel's bytes; unpacks what an import may need and leaves tests, headers and stubs behind.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
import sysconfig
import types
import zipfile
from collections.abc import Callable
from typing import Any

_LEFT_BEHIND = ("onnx/backend/test/data/", "onnx/test/", "numpy/tests/", "numpy/f2py/", "numpy/distutils/")
_ENDINGS = (".h", ".pyi", ".proto", ".cc", ".a", ".md", ".in", ".pxd", ".ini")


def unpack(name: str, wheel: Any) -> None:
    """Extracts a wheel (a JavaScript ArrayBuffer) into site-packages. `name` only serves messages."""
    target = sysconfig.get_path("purelib")
    with zipfile.ZipFile(io.BytesIO(wheel.to_bytes())) as archive:
        wanted = [entry for entry in archive.namelist() if _needed(entry)]
        if not wanted:
            raise ValueError(f"the wheel of {name} is empty")
        archive.extractall(target, wanted)
    importlib.invalidate_caches()


# Operators whose reference implementation imports a package that few models need: (package, module).
NEEDED_BY = {"ImageDecoder": ("pillow", "PIL")}


def for_operators(operators: set[str], fetch: Callable[[str], Any]) -> None:
    """Unpacks what these operators' reference needs. `fetch(package)` gives a wheel at once, or None."""
    for operator in operators & NEEDED_BY.keys():
        package, module = NEEDED_BY[operator]
        if importlib.util.find_spec(module) is None:
            wheel = fetch(package)
            if wheel is not None:  # else onnx.reference says what is missing when it gets there
                unpack(package, wheel)


def _needed(entry: str) -> bool:
    if entry.endswith(_ENDINGS) or "/tests/" in entry:
        return False
    return not entry.startswith(_LEFT_BEHIND)


def stand_ins() -> list[str]:
    """Names of modules stood in for: onnx imports ml_dtypes, whose wheel for Pyodide is not on PyPI."""
    if importlib.util.find_spec("ml_dtypes") is not None:
        return []
    sys.modules["ml_dtypes"] = _ml_dtypes()
    return ["ml_dtypes"]


def _ml_dtypes() -> types.ModuleType:
    """Distinct numpy dtypes under ml_dtypes' names: they hold bits, can be told apart, do no arithmetic."""
    import numpy as np

    widths = {
        "bfloat16": "<u2",
        "float8_e3m4": "u1",
        "float8_e4m3": "u1",
        "float8_e4m3b11fnuz": "u1",
        "float8_e4m3fn": "u1",
        "float8_e4m3fnuz": "u1",
        "float8_e5m2": "u1",
        "float8_e5m2fnuz": "u1",
        "float8_e8m0fnu": "u1",
        "float6_e2m3fn": "u1",
        "float6_e3m2fn": "u1",
        "float4_e2m1fn": "u1",
        "int4": "i1",
        "uint4": "u1",
        "int2": "i1",
        "uint2": "u1",
    }
    module = types.ModuleType("ml_dtypes", "Stand-in: dtypes that carry bits only.")
    for name, width in widths.items():
        setattr(module, name, np.dtype([(name, width)]))
    module.finfo, module.iinfo = np.finfo, np.iinfo  # type: ignore[attr-defined]  # of numpy's own types
    module.__version__ = "0"  # type: ignore[attr-defined]
    module.is_stand_in = True  # type: ignore[attr-defined]
    return module
