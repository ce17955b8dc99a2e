"""Operators that move, pick, place and resize elements, against onnxruntime on random shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nnjit.runtime.local import LocalSession
from nnjit.tune.spectext import check_text, public_text
from tests.support.single import model_of, native, on_kernels
from tests.unit.lower.test_windows import check

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**31)
SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 5, 8, 13]), min_size=1, max_size=4)
TYPES = st.sampled_from([np.float32, np.int32, np.uint8, np.int64, np.float64, np.float16, np.int8, np.bool_])


def numbers(seed: int, shape: Any, dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 100, shape) if dtype != np.bool_ else rng.random(shape) < 0.5).astype(dtype)


@SETTINGS
@given(SHAPES, st.sampled_from(["constant", "reflect", "edge", "wrap"]), TYPES, SEEDS)
def test_pad(shape: list[int], mode: str, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = numbers(seed, shape, dtype)
    most = [n - 1 if mode == "reflect" else n if mode == "wrap" else 3 for n in shape] * 2
    pads = np.array([rng.integers(0, m + 1) for m in most])
    model = model_of("Pad", {"x": x}, [("y", dtype)], {"mode": mode}, {"pads": pads.astype(np.int64)})
    expected = np.pad(x, pads.reshape(2, -1).T, mode=mode)
    np.testing.assert_array_equal(on_kernels(model, {"x": x})["y"], expected)


@SETTINGS
@given(SHAPES, TYPES, SEEDS)
def test_tile_slice_transpose(shape: list[int], dtype: Any, seed: int) -> None:
    """Each against numpy."""
    rng = np.random.default_rng(seed)
    x = numbers(seed, shape, dtype)
    repeats = rng.integers(1, 4, len(shape))
    got = on_kernels(
        model_of("Tile", {"x": x}, [("y", dtype)], {}, {"r": repeats.astype(np.int64)}), {"x": x}
    )
    np.testing.assert_array_equal(got["y"], np.tile(x, repeats))
    perm = [int(p) for p in rng.permutation(len(shape))]
    got = on_kernels(model_of("Transpose", {"x": x}, [("y", dtype)], {"perm": perm}), {"x": x})
    np.testing.assert_array_equal(got["y"], x.transpose(perm))
    d, step = int(rng.integers(len(shape))), int(rng.choice([-2, -1, 1, 2]))
    start, end = (-1, -99) if step < 0 else (0, 99)
    of = {n: np.array([v]) for n, v in (("s", start), ("e", end), ("a", d), ("t", step))}
    got = on_kernels(model_of("Slice", {"x": x}, [("y", dtype)], {}, of), {"x": x})
    np.testing.assert_array_equal(
        got["y"], x[tuple(slice(None, None, step if n == d else 1) for n in range(x.ndim))]
    )


@SETTINGS
@given(SHAPES, st.integers(0, 3), TYPES, SEEDS)
def test_gathers(shape: list[int], axis: int, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis %= len(shape)
    x = numbers(seed, shape, dtype)
    n = shape[axis]
    rows = rng.integers(-n, n, (2, 3)).astype(np.int64)
    got = on_kernels(
        model_of("Gather", {"x": x, "i": rows}, [("y", dtype)], {"axis": axis}), {"x": x, "i": rows}
    )
    np.testing.assert_array_equal(got["y"], np.take(x, rows % n, axis))
    places = rng.integers(-n, n, shape).astype(np.int32)
    model = model_of("GatherElements", {"x": x, "i": places}, [("y", dtype)], {"axis": axis})
    got = on_kernels(model, {"x": x, "i": places})
    np.testing.assert_array_equal(got["y"], np.take_along_axis(x, places % n, axis))


@SETTINGS
@given(SHAPES, st.sampled_from(["none", "add", "mul", "max", "min"]), SEEDS)
def test_scatters(shape: list[int], reduction: str, seed: int) -> None:
    """Repeated places too, but for reduction none, where the last of them is not defined."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    count = 1 if reduction == "none" else 3
    places = np.stack([rng.integers(0, n, count) for n in shape[:2]], -1).astype(np.int64)
    updates = rng.normal(size=(count, *shape[2:])).astype(np.float32)
    feeds = {"x": x, "i": places, "u": updates}
    check("ScatterND", feeds, {"reduction": reduction})
    indices = rng.permuted(
        np.broadcast_to(np.arange(shape[0])[(...,) + (None,) * (len(shape) - 1)], shape), axis=0
    )
    check(
        "ScatterElements",
        {"x": x, "i": indices.astype(np.int64), "u": -x},
        {"axis": 0, "reduction": reduction},
    )


@SETTINGS
@given(SHAPES, st.booleans(), st.booleans(), st.integers(0, 3), SEEDS)
def test_scans_and_ranks(shape: list[int], first: bool, second: bool, axis: int, seed: int) -> None:
    axis %= len(shape)
    x = numbers(seed, shape)  # with equal numbers among them
    attrs = {"exclusive": int(first), "reverse": int(second)}
    check("CumSum", {"x": x}, attrs, {"axis": np.int64(axis)})
    k = np.array([1 + seed % shape[axis]])
    attrs = {"axis": axis, "largest": int(first), "sorted": 1}
    check("TopK", {"x": x}, attrs, {"k": k}, (("y", np.float32), ("i", np.int64)))
    attrs = {"axis": axis, "keepdims": int(first), "select_last_index": int(second)}
    check("ArgMax", {"x": x}, attrs, outputs=(("y", np.int64),))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@SETTINGS
@given(
    h=st.integers(1, 12),
    w=st.integers(1, 12),
    to=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=SEEDS,
)
def test_resize(mode: str, transform: str, h: int, w: int, to: tuple[int, int], seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(1, 4, h, w)).astype(np.float32)
    sizes = {
        "roi": np.zeros(0, np.float32),
        "scales": np.zeros(0, np.float32),
        "sizes": np.array([1, 4, *to]),
    }
    attrs = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        attrs["nearest_mode"] = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"][seed % 4]
    model = model_of("Resize", {"x": x}, [("y", np.float32)], attrs, sizes)
    got, expected = on_kernels(model, {"x": x})["y"], native(model, {"x": x})["y"]
    if mode == "nearest":
        # onnxruntime finds places in f32: it may take the neighbour where a place is half way or whole
        assume(got.size >= 64)
        assert np.mean(got != expected) <= 0.34 if got.size < 400 else np.mean(got != expected) <= 0.2
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(op: str, mode: str) -> None:
    x = numbers(1, (2, 12, 6, 4))
    attrs: dict[str, Any] = {"blocksize": 2} | ({"mode": mode} if op == "DepthToSpace" else {})
    check(op, {"x": x}, attrs)


@SETTINGS
@given(
    shape=st.lists(st.integers(1, 23), min_size=1, max_size=3), axis=st.integers(0, 2), exclusive=st.booleans(),
    reverse=st.booleans(), dtype=st.sampled_from((np.float32, np.int32, np.int64, np.float64)), seed=SEEDS,
)  # fmt: skip
def test_running_totals(
    shape: list[int], axis: int, exclusive: bool, reverse: bool, dtype: Any, seed: int
) -> None:
    """Lanes across rows or along columns, whole and with tails: bit for bit, since terms are added in order."""
    axis %= len(shape)
    x = np.random.default_rng(seed).integers(-50, 50, shape).astype(dtype)
    attrs = {"exclusive": int(exclusive), "reverse": int(reverse)}
    model = model_of("CumSum", {"x": x}, [("y", dtype)], attrs, {"axis": np.int64(axis)})
    np.testing.assert_array_equal(on_kernels(model, {"x": x})["y"], native(model, {"x": x})["y"])


@SETTINGS
@given(
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=3), axis=st.integers(0, 2), k=st.integers(1, 14),
    largest=st.booleans(), dtype=st.sampled_from((np.float32, np.int32, np.int64)), seed=SEEDS,
)  # fmt: skip
def test_the_few_best(shape: list[int], axis: int, k: int, largest: bool, dtype: Any, seed: int) -> None:
    """Few out of many: one after the other, the earlier of equal ones first; infinities count."""
    axis %= len(shape)
    shape[axis] += 2 * k
    _few_best(shape, axis, k, largest, dtype, seed, 9)


def _few_best(shape: list[int], axis: int, k: int, largest: bool, dtype: Any, seed: int, values: int) -> None:
    x = np.random.default_rng(seed).integers(-values, values, shape).astype(dtype)
    if dtype is np.float32 and seed % 2:
        x[x == values // 3], x[x == -(values // 3)] = np.inf, -np.inf
    attrs = {"axis": axis, "largest": int(largest), "sorted": 1}
    model = model_of("TopK", {"x": x}, [("y", dtype), ("i", np.int64)], attrs, {"k": np.array([k])})
    got, expected = on_kernels(model, {"x": x}), native(model, {"x": x})
    np.testing.assert_array_equal(got["y"], expected["y"])
    np.testing.assert_array_equal(got["i"], expected["i"])


@SETTINGS
@given(
    rest=st.lists(st.integers(1, 7), max_size=2), axis=st.integers(0, 2), n=st.integers(64, 700), k=st.integers(1, 40),
    largest=st.booleans(), dtype=st.sampled_from((np.float32, np.int32, np.int64)),
    values=st.sampled_from((2, 9, 100_000)), seed=SEEDS,
)  # fmt: skip
def test_the_few_best_of_blocks(
    rest: list[int], axis: int, n: int, k: int, largest: bool, dtype: Any, values: int, seed: int
) -> None:
    """Rows long enough for blocks: whole ones and a shorter one at the end; one block holding all the best, or equal
    values everywhere, as a masked row has."""
    axis %= len(rest) + 1
    _few_best([*rest[:axis], n, *rest[axis:]], axis, k, largest, dtype, seed, values)


@pytest.mark.parametrize("largest", [False, True])
def test_the_best_all_in_one_block(largest: bool) -> None:
    """A block that gives all k but one, in a row where nothing else is finite, then equal values of later blocks."""
    x = np.full((1, 1030), -np.inf if largest else np.inf, np.float32)
    x[0, 40:70] = np.arange(30) % 7
    attrs = {"axis": 1, "largest": int(largest), "sorted": 1}
    model = model_of("TopK", {"x": x}, [("y", np.float32), ("i", np.int64)], attrs, {"k": np.array([31])})
    got, expected = on_kernels(model, {"x": x}), native(model, {"x": x})
    np.testing.assert_array_equal(got["y"], expected["y"])
    np.testing.assert_array_equal(got["i"], expected["i"])


@pytest.mark.parametrize(("n", "k"), [(1030, 9), (203, 5), (23, 3)])
def test_nans_are_not_among_the_best(n: int, k: int) -> None:
    x = np.random.default_rng(3).normal(size=(2, n)).astype(np.float32)
    x[:, ::5] = np.nan
    attrs = {"axis": 1, "largest": 1, "sorted": 1}
    model = model_of("TopK", {"x": x}, [("y", np.float32), ("i", np.int64)], attrs, {"k": np.array([k])})
    got = on_kernels(model, {"x": x})
    clean = np.where(np.isnan(x), -np.inf, x)
    places = np.argsort(-clean, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(got["i"], places)
    np.testing.assert_array_equal(got["y"], np.take_along_axis(x, places, 1))


@SETTINGS
@given(
    parts=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("krvct")), min_size=1, max_size=5),
    axis=st.integers(0, 2), used=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_parts_of_a_concat(parts: list[tuple[int, str]], axis: int, used: bool, seed: int) -> None:
    """Parts that kernels make, that are read elsewhere too, views, constants and feeds, and one twice."""
    rng = np.random.default_rng(seed)
    feeds, weights, nodes, names = {}, {}, [], []
    for n, (size, how) in enumerate(parts):
        shape = [3, 5, 4]
        shape[axis] = size
        x = rng.normal(size=shape if how != "v" else shape[::-1]).astype(np.float32)
        (weights if how == "c" else feeds)[f"x{n}"] = x
        name = f"x{n}"
        if how in "kr":
            nodes.append(helper.make_node("Mul", [name, name], [f"k{n}"]))
            name = f"k{n}"
        elif how == "v":
            nodes.append(helper.make_node("Transpose", [name], [f"v{n}"], perm=[2, 1, 0]))
            name = f"v{n}"
        if how == "r":
            nodes.append(helper.make_node("ReduceSum", [name], [f"r{n}"], keepdims=0))
        names += [name, name] if how == "t" else [name]
    nodes.append(helper.make_node("Concat", names, ["y"], axis=axis))
    nodes.append(helper.make_node("Relu", ["y"], ["z"]))
    outputs = ["z", *(f"r{n}" for n, (_, how) in enumerate(parts) if how == "r"), *(["y"] if used else [])]
    if not feeds:
        return
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, 1, list(v.shape)) for n, v in feeds.items()],
        [helper.make_tensor_value_info(n, 1, None) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = made.SerializeToString()
    got, expected = on_kernels(model, feeds), native(model, feeds)
    for name in outputs:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_kernels_write_where_a_concat_has_it(axis: int) -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Neg", ["x"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=axis),
        helper.make_node("Softmax", ["c"], ["y"]),
    ]
    x = np.random.default_rng(1).normal(size=(3, 5, 8)).astype(np.float32)
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, [3, 5, 8])],
                              [helper.make_tensor_value_info("y", 1, None)])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = LocalSession(model.SerializeToString())
    got = session.run({"x": x})
    assert session.last is not None and len(session.last.steps) == 3
    np.testing.assert_allclose(
        got["y"], native(model.SerializeToString(), {"x": x})["y"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_a_kernel_writes_into_the_middle_of_what_is_padded(mode: str) -> None:
    x, pads = np.random.default_rng(2).normal(size=(2, 5, 7)).astype(np.float32), [0, 2, 3, 1, 0, 4]
    nodes = [helper.make_node("Exp", ["x"], ["a"]), helper.make_node("Pad", ["a", "p"], ["y"], mode=mode)]
    if mode == "reflect":
        pads[0] = pads[3] = 1
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, list(x.shape))],
                              [helper.make_tensor_value_info("y", 1, None)],
                              [numpy_helper.from_array(np.array(pads, np.int64), "p")])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    got = on_kernels(model.SerializeToString(), {"x": x})["y"]
    expected = np.pad(np.exp(x), np.array(pads).reshape(2, -1).T, mode=mode)  # type: ignore[call-overload]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_running_totals_have_a_text_for_records() -> None:
    x = np.ones((5, 6), np.float32)
    for exclusive, word in ((0, "%after"), (1, "%before")):
        model = model_of(
            "CumSum", {"x": x}, [("y", np.float32)], {"exclusive": exclusive}, {"axis": np.int64(1)}
        )
        session = LocalSession(model)
        session.run({"x": x})
        assert session.last is not None
        text = public_text(session.last.kernel_of(0).spec.describe())
        check_text(text)
        assert word in text
