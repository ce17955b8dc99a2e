"""What docs/numbers.md says of values at the edge of their types, on Wasm."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from nnjit.errors import InvalidGraph
from nnjit.frontend.load import load
from nnjit.frontend.source import BytesSource
from nnjit.graph.reference import run_graph
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


@pytest.mark.parametrize("source", ["float32", "float64", "float16"])
@pytest.mark.parametrize("to", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_a_constant_is_cast_as_what_is_fed(source: str, to: str) -> None:
    """numpy made of it what its processor does, another thing in the page than on CPython."""
    beyond = [
        np.nan,
        np.inf,
        -np.inf,
        -1.5,
        7.9,
        300,
        -300,
        70000,
        2**31,
        -(2**31),
        2**32,
        9.2e18,
        9.3e18,
        -9.3e18,
        1e30,
    ]
    with np.errstate(over="ignore"):
        x = np.array(beyond, source)
    attrs = {"to": onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to))}
    fed = model_of("Cast", {"x": x}, [("y", np.dtype(to))], attrs)
    held = model_of("Cast", {}, [("y", np.dtype(to))], attrs, {"x": x})
    np.testing.assert_array_equal(on_kernels(held, {})["y"], on_kernels(fed, {"x": x})["y"])


@pytest.mark.parametrize("to", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("scale", [0.5, np.inf, np.nan, 0.0, -1.0, 1e-40])
def test_a_constant_is_quantised_as_what_is_fed_and_on_the_reference(to: str, scale: float) -> None:
    """Infinities are the ends of the type, NaN its least; the same of a scale that is no number."""
    x = np.array([[1, -2, 3e15], [np.inf, -np.inf, np.nan]], np.float32)
    kept = {"s": np.float32(scale), "z": np.array(3, to)}
    fed = model_of("QuantizeLinear", {"x": x}, [("y", np.dtype(to))], {}, kept)
    held = model_of("QuantizeLinear", {}, [("y", np.dtype(to))], {}, {"x": x, **kept})
    found = on_kernels(held, {})["y"]
    np.testing.assert_array_equal(found, on_kernels(fed, {"x": x})["y"])
    graph = load(BytesSource(fed, "quantised.onnx"), {}).bind({"x": x.shape})
    np.testing.assert_array_equal(found, run_graph(graph, {"x": x})["y"])
    if scale == 0.5:
        ends = np.iinfo(to)
        np.testing.assert_array_equal(found[1], [ends.max, ends.min, ends.min])


@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_zeros_have_a_scale_to_divide_by(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    model = model_of("DynamicQuantizeLinear", {"x": x}, [("y", np.uint8), ("s", np.float32), ("z", np.uint8)])
    wanted = ReferenceEvaluator(model).run(None, {"x": x})
    for found, want in zip(on_kernels(model, {"x": x}).values(), wanted, strict=True):
        np.testing.assert_array_equal(found, want)


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


GRIDS = [-1.0, -0.5, 0.0, 0.3, 1.0, 1.5, -2.2]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_a_place_outside_of_an_image_takes_nothing_of_its_border(
    mode: str, padding: str, aligned: int
) -> None:
    """The border is infinite: zeros around it are 0 and not 0 times that; elsewhere NaN stands only where it stands
    in onnx.reference or onnxruntime too, which differ in what a tap of weight 0 does."""
    rng = np.random.default_rng(3)
    x = np.full((1, 2, 5, 7), np.inf, np.float32)
    x[:, :, 1:-1, 1:-1] = rng.standard_normal((1, 2, 3, 5))
    y, z = np.meshgrid(GRIDS, GRIDS)
    grid = np.stack([y, z], -1)[None].astype(np.float32)
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    model = model_of("GridSample", {"x": x, "grid": grid}, [("y", np.float32)], attrs)
    feeds = {"x": x, "grid": grid}
    found, theirs = on_kernels(model, feeds)["y"], native(model, feeds)["y"]
    with np.errstate(all="ignore"):
        wanted = ReferenceEvaluator(model).run(None, feeds)[0]
    agreed = (
        (wanted == theirs) | (np.isnan(wanted) & np.isnan(theirs)) | np.isclose(wanted, theirs, 1e-4, 1e-5)
    )
    np.testing.assert_allclose(found[agreed], wanted[agreed], rtol=1e-4, atol=1e-5)
    assert agreed.mean() > 0.6 and not (np.isnan(found) & ~np.isnan(wanted) & ~np.isnan(theirs)).any()


def resized(x: Any, attrs: dict[str, Any], **given: Any) -> tuple[Any, bytes]:
    """What Resize's kernels answer, and the model."""
    order = ["x", "", *(["scales"] if "scales" in given else ["", "sizes"])]
    model = model_of("Resize", {"x": x}, [("y", np.float32)], attrs, given, order)
    return on_kernels(model, {"x": x})["y"], model


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("given", [{"scales": [1, 1, 0.2, 0.3]}, {"sizes": [1, 1, 1, 3]}])
def test_pytorch_half_pixel_to_one_place_is_the_first(mode: str, antialias: int, given: Any) -> None:
    """As the specification has it and onnxruntime; the reference takes -1/2 of a length that is exactly 1."""
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 10)).astype(np.float32)
    attrs = {"coordinate_transformation_mode": "pytorch_half_pixel", "mode": mode, "antialias": antialias}
    kept = {n: np.array(v, np.float32 if n == "scales" else np.int64) for n, v in given.items()}
    found, model = resized(x, attrs, **kept)
    np.testing.assert_allclose(found, native(model, {"x": x})["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_a_resized_image_keeps_an_infinity_to_its_neighbours(mode: str) -> None:
    """Every other output lies on a pixel: that one has no part of the next one, infinite or not."""
    x = np.array([1, np.inf, 3, 4, 5, 6, np.nan, 8, -np.inf], np.float32).reshape(1, 1, 9)
    attrs = {"coordinate_transformation_mode": "asymmetric", "mode": mode}
    found, _ = resized(x, attrs, scales=np.float32([1, 1, 2]))
    np.testing.assert_array_equal(found[..., ::2], x)


def test_what_lies_outside_with_all_its_taps_is_nothing() -> None:
    """The last row of four lies past the image; all its weights were 0, and their sum was divided by."""
    x = np.random.default_rng(0).standard_normal((1, 1, 13, 7)).astype(np.float32)
    attrs = {
        "mode": "linear",
        "coordinate_transformation_mode": "align_corners",
        "keep_aspect_ratio_policy": "not_larger",
        "exclude_outside": 1,
        "axes": [2, 3],
    }
    found, model = resized(x, attrs, sizes=np.int64([13, 2]))
    np.testing.assert_allclose(found, ReferenceEvaluator(model).run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)
    assert not found[0, 0, 3].any()


X = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
NINE = np.full((1, 3), 9, np.float32)
OUTSIDE: list[tuple[str, dict[str, int], list[Any], list[Any], list[Any]]] = [
    ("Gather", {"axis": 0}, [0, 7, -9, 1], [], [[1, 2, 3], [4, 5, 6], [1, 2, 3], [4, 5, 6]]),
    ("Gather", {"axis": 1}, [0, 3], [], [[1, 3], [4, 6]]),
    ("GatherElements", {"axis": 0}, [[0, 7, -5]], [], [[1, 5, 3]]),
    ("GatherND", {}, [[0, 1], [1, 9]], [], [2, 6]),
    ("GatherND", {}, [[-7]], [], [[1, 2, 3]]),
    ("ScatterElements", {"axis": 0}, [[0, 7, -5]], [NINE], [[9, 2, 9], [4, 9, 6]]),
    ("ScatterND", {}, [[5]], [NINE], [[1, 2, 3], [9, 9, 9]]),
]


@pytest.mark.parametrize(("op", "attrs", "indices", "updates", "wanted"), OUTSIDE)
def test_an_index_that_is_no_elements(
    op: str, attrs: dict[str, int], indices: list[Any], updates: list[Any], wanted: list[Any]
) -> None:
    """Of a constant it is an error that says which; one that is fed is brought inside, nothing else is touched."""
    feeds = {"x": X, **{f"u{i}": u for i, u in enumerate(updates)}}
    order, at = ["x", "i", *list(feeds)[1:]], np.array(indices, np.int64)
    model = model_of(op, {**feeds, "i": at}, [("y", np.float32)], attrs, {}, order)
    np.testing.assert_array_equal(on_kernels(model, {**feeds, "i": at})["y"], wanted)
    held = model_of(op, feeds, [("y", np.float32)], attrs, {"i": at}, order)
    with pytest.raises(InvalidGraph, match=rf"{op} asks for element -?\d+ of an axis that has \d") as caught:
        on_kernels(held, feeds)
    assert caught.value.fields["op"] == op and caught.value.fields["value"] == "i"


def test_a_sequence_is_no_longer_than_it_is() -> None:
    """Of one that says it is, the places before its first step are none."""
    x, lengths = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([9, 2])
    model = model_of("ReverseSequence", {"x": x, "n": lengths}, [("y", np.float32)])
    found = on_kernels(model, {"x": x, "n": lengths})["y"]
    np.testing.assert_array_equal(found, [[4, 3], [2, 1], [0, 5]])
