"""What docs/numbers.md says of values at the edge of their types, on Wasm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.single import model_of, native, on_kernels

TO = {"int32": 6, "int64": 7, "int8": 3, "uint8": 2, "bool": 9}


def cast(x: Any, to: str) -> Any:
    return on_kernels(model_of("Cast", {"x": x}, [("y", np.dtype(to))], {"to": TO[to]}), {"x": x})["y"]


@pytest.mark.parametrize("source", ["float32", "float64", "float16"])
@pytest.mark.parametrize("to", ["int32", "int64"])
def test_casts_out_of_range_stay_at_the_ends(source: str, to: str) -> None:
    ends = np.iinfo(to)
    x = np.array([np.nan, np.inf, -np.inf, -1.5, 7.9, 0] * 3, source)
    np.testing.assert_array_equal(cast(x, to), [0, ends.max, ends.min, -1, 7, 0] * 3)
    if source != "float16":
        x = np.array([1e30, -1e30] * 5, source)
        np.testing.assert_array_equal(cast(x, to), [ends.max, ends.min] * 5)


def test_a_number_that_is_none_is_true() -> None:
    x = np.array([np.nan, np.inf, 0, -0.0, 1e-30], np.float32)
    found = cast(x, "bool")
    np.testing.assert_array_equal(found, [True, True, False, False, True])
    model = model_of("Cast", {"x": x}, [("y", np.bool_)], {"to": 9})
    np.testing.assert_array_equal(found, native(model, {"x": x})["y"])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"])
@pytest.mark.parametrize("held", [False, True])
def test_division_by_nothing(dtype: str, held: bool) -> None:
    """0, and the smallest integer by -1 is itself: no trap, whether the divisor is known or not."""
    a = np.array([7, 100, 0, np.iinfo(dtype).min, 9], dtype)
    b = np.array([0, 0, 0, -1 if dtype.startswith("i") else 1, 2], dtype)
    feeds, constants = ({"a": a}, {"b": b}) if held else ({"a": a, "b": b}, {})
    for op, wanted in (("Div", [0, 0, 0, np.iinfo(dtype).min, 4]), ("Mod", [0, 0, 0, 0, 1])):
        model = model_of(op, feeds, [("y", np.dtype(dtype))], {}, constants, ["a", "b"])
        np.testing.assert_array_equal(on_kernels(model, feeds)["y"], np.array(wanted, dtype))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (1, 3), (2, 3), (2, 4), (3, 5)])
def test_strides_past_the_window(auto_pad: str, kernel: int, stride: int) -> None:
    """SAME with a stride that leaves elements out: no padding is less than none."""
    x = np.arange(1, 12, dtype=np.float32).reshape(1, 1, 11)
    attrs = {"auto_pad": auto_pad, "kernel_shape": [kernel], "strides": [stride]}
    found = {}
    for op in ("AveragePool", "LpPool", "MaxPool"):
        more = {"p": 1} if op == "LpPool" else {}
        model = model_of(op, {"x": x}, [("y", np.float32)], {**attrs, **more})
        found[op] = on_kernels(model, {"x": x})["y"]
        if op != "MaxPool":  # onnxruntime refuses some of these
            np.testing.assert_allclose(found[op], native(model, {"x": x})["y"], rtol=1e-6)
    assert found["MaxPool"].shape == found["AveragePool"].shape
    if kernel == 1:
        np.testing.assert_array_equal(found["MaxPool"], found["AveragePool"])
