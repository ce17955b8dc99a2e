"""Winograd convolution: its matrices exactly, whole convolutions against onnxruntime, what `auto` chooses."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nnjit.codegen.expr import Expr, reg
from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import Build
from nnjit.lower.ops import winograd_choice, winograd_tiles
from nnjit.lower.ops.cooktoom import Matrix, applied, matrices, parts
from nnjit.runtime.local import LocalSession
from tests.support.single import native, on_kernels

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SIZES = [(1, 1), (2, 3), (4, 3), (6, 3), (2, 5), (3, 2), (1, 3), (4, 5)]


STEPS = [(2, 3), (4, 3), (2, 5), (1, 1), (3, 3), (3, 2), (1, 5)]


def times(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((c * v for c, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_the_matrices_filter_exactly(m: int, r: int) -> None:
    t = matrices(m, r)
    rng = np.random.default_rng(m * r)
    taps = [Fraction(int(v)) for v in rng.integers(-9, 10, r)]
    data = [Fraction(int(v)) for v in rng.integers(-9, 10, m + r - 1)]
    inner = [a * b for a, b in zip(times(t.taps, taps), times(t.inputs, data), strict=True)]
    direct = [sum(data[j + k] * taps[k] for k in range(r)) for j in range(m)]
    assert times(t.outputs, inner) == direct


@pytest.mark.parametrize(("m", "r"), STEPS)
@pytest.mark.parametrize("step", [2, 3])
def test_filters_that_move_on_by_several_inputs(m: int, r: int, step: int) -> None:
    t = matrices(m, r, step)
    n = step * (m - 1) + r
    if step > r:  # inputs between the windows that nothing reads
        assert len(t.inputs) == m * r and all(len(row) == n for row in t.inputs)
    else:
        assert {len(row) for row in (*t.inputs, *t.outputs)} == {n} and len(t.inputs) == n
    rng = np.random.default_rng(m * r)
    taps = [Fraction(int(v)) for v in rng.integers(-9, 10, r)]
    data = [Fraction(int(v)) for v in rng.integers(-9, 10, n)]
    inner = [a * b for a, b in zip(times(t.taps, taps), times(t.inputs, data), strict=True)]
    direct = [sum(data[step * j + k] * taps[k] for k in range(r)) for j in range(m)]
    assert times(t.outputs, inner) == direct
    for part in parts(m, r, step):
        rows = t.taps[part.first : part.first + part.count]
        assert part.alike == (len(rows) > 1 and len(set(rows)) == 1)


@pytest.mark.parametrize(("m", "r", "step"), [(m, r, s) for m, r in SIZES for s in (1, 2) if s <= r])
def test_shared_parts_change_nothing(m: int, r: int, step: int) -> None:
    """`applied` is the product with the matrix, in fewer operations than term by term."""
    arithmetic = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
                  "fma": lambda a, b, c: a * b + c}  # fmt: skip
    t = matrices(m, r, step)
    for matrix in (t.outputs, t.taps, t.inputs):
        n = len(matrix[0])
        values = np.random.default_rng(n).normal(size=n)

        def value(e: Expr, values: Any = values) -> float:
            if e.op in ("reg", "const"):
                return float(values[int(e.attr)]) if e.op == "reg" else float(e.attr)
            return float(arithmetic[e.op](*map(value, e.args)))

        found = [value(e) for e in applied(matrix, [reg(str(i), "f32") for i in range(n)])]
        np.testing.assert_allclose(found, np.array(matrix, float) @ values, rtol=1e-12, atol=1e-12)


def fused(x: Any, w: Any, attrs: dict[str, Any], residual: bool) -> bytes:
    """Conv, Relu and perhaps a second input added."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], **attrs),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, x.shape)]
    if residual:
        nodes[1].output[0] = "r"
        nodes.append(helper.make_node("Add", ["r", "more"], ["y"]))
        inputs.append(helper.make_tensor_value_info("more", 1, None))
    bias = np.linspace(-1, 1, len(w), dtype=np.float32)
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


@SETTINGS
@given(st.data(), st.sampled_from([2, 4]), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_convolutions(data: Any, tile: int, small_bands: bool, residual: bool, seed: int) -> None:
    """Any size around the tiles, any pads, one to three dimensions, strides, dilations, bands of one row of tiles."""
    rng, draw = np.random.default_rng(seed), data.draw
    n = draw(st.integers(1, 3))
    kernel = [draw(st.sampled_from([3, 3, 5, 1])) for _ in range(n)]
    assume(3 in kernel or 5 in kernel)
    # with tiles of four, three dimensions of which two have strides make thousands of frequencies
    steps = [draw(st.sampled_from([1, 2])) if n * tile < 12 and draw(st.booleans()) else 1 for _ in range(n)]
    dilations = [1] * n if 2 in steps else [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(n)]
    pads = [draw(st.integers(0, 2)) for _ in range(2 * n)]
    side = st.integers(1, 14 if n < 3 else 6)
    extents = [draw(side) for _ in range(n)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    assume(all(e + pads[d] + pads[d + n] >= r for d, (e, r) in enumerate(zip(extents, reach, strict=True))))
    ins, outs = draw(st.sampled_from([1, 3, 4, 8, 9])), draw(st.sampled_from([1, 2, 4, 7, 8]))
    x = rng.normal(size=(draw(st.integers(1, 2)), ins, *extents)).astype(np.float32)
    w = rng.normal(size=(outs, ins, *kernel)).astype(np.float32)
    model = fused(x, w, {"pads": pads, "dilations": dilations, "strides": steps}, residual)
    feeds = {"x": x}
    if residual:
        out = [(e + pads[d] + pads[d + n] - reach[d]) // steps[d] + 1 for d, e in enumerate(extents)]
        feeds["more"] = rng.normal(size=(len(x), outs, *out)).astype(np.float32)
    whole, tiles = winograd_tiles.WHOLE, winograd_choice.TILES
    try:
        winograd_choice.TILES = (tile, tile)
        if small_bands:
            winograd_tiles.WHOLE = winograd_tiles.BAND = winograd_tiles.MIN_TILES = 1
        found = on_kernels(model, feeds, "winograd")["y"]
    finally:
        winograd_tiles.WHOLE, winograd_choice.TILES, winograd_tiles.BAND, winograd_tiles.MIN_TILES = (
            whole,
            tiles,
            2 << 20,
            36,
        )
    # rounding grows with the coefficients of the transforms, at most a hundred times that of one product
    np.testing.assert_allclose(found, native(model, feeds)["y"], rtol=1e-4, atol=1e-4)


def kernels_of(shape: tuple[int, ...], out: int, convolution: str, **attrs: Any) -> list[str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    w = rng.normal(size=(out, shape[1], 3, 3)).astype(np.float32)
    session = LocalSession(fused(x, w, {"pads": [1] * 4, **attrs}, False), convolution=convolution)
    session.run({"x": x})
    assert session.last is not None
    return [s.name for s in session.last.steps if "winograd" in s.name]


def test_auto_takes_it_where_it_is_faster() -> None:
    assert kernels_of((1, 64, 28, 28), 64, "auto")
    assert not kernels_of((1, 64, 28, 28), 64, "direct")
    assert not kernels_of((1, 3, 32, 32), 8, "auto"), "few channels: the transforms cost more than they save"
    assert kernels_of((1, 128, 28, 28), 128, "auto", strides=[2, 2])
    assert not kernels_of((1, 3, 32, 32), 8, "auto", strides=[2, 2])
    assert not kernels_of((1, 64, 28, 28), 64, "winograd", strides=[3, 3])
    assert not kernels_of((1, 64, 29, 29), 64, "winograd", strides=[2, 2], dilations=[2, 2])
    assert kernels_of((1, 64, 28, 28), 64, "winograd", dilations=[2, 2])
    assert not kernels_of((1, 64, 28, 28), 64, "winograd", dilations=[4, 4]), "phases of different lengths"


@pytest.mark.parametrize("step", [1, 2])
def test_accuracy_over_many_channels(step: int) -> None:
    """512 channels of unit variance, as behind a normalisation: a fifth of what a model is held to, at most."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 512, 14, 14)).astype(np.float32)
    w = (rng.normal(size=(32, 512, 3, 3)) * (2 / (512 * 9)) ** 0.5).astype(np.float32)
    model = fused(x, w, {"pads": [1] * 4, "strides": [step] * 2}, False)
    found, expected = on_kernels(model, {"x": x}, "winograd")["y"], native(model, {"x": x})["y"]
    assert np.abs(found - expected).max() < 2e-5


def chain(sizes: list[tuple[int, int, int]]) -> tuple[bytes, Any]:
    """3x3 convolutions one after the other: channels, side of the image, stride."""
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(b[0], a[0], 3, 3)).astype(np.float32) / 48 for a, b in pairwise(sizes)]
    nodes = [
        helper.make_node(
            "Conv", [f"x{k}", f"w{k}"], [f"x{k + 1}"], pads=[1] * 4, strides=[sizes[k + 1][2]] * 2
        )
        for k in range(len(weights))
    ]
    x = rng.normal(size=(1, sizes[0][0], sizes[0][1], sizes[0][1])).astype(np.float32)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x0", 1, x.shape)],
        [helper.make_tensor_value_info(f"x{len(weights)}", 1, None)],
        [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString()), x


def test_bytes_go_where_they_save_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in the graph, the layer that saves most for each byte is the last to lose its transform."""
    model, x = chain([(128, 14, 1), (256, 14, 1), (256, 7, 2), (64, 7, 1), (64, 7, 1)])
    graph = load(BytesSource(model, "m")).bind(shapes={"x0": x.shape})
    found = []
    for allowed in (0, 100 << 10, 1 << 20, 16 << 20, 64 << 20):
        monkeypatch.setattr(winograd_choice, "allowance", lambda _, allowed=allowed: allowed)
        build = Build(graph, Target())
        tiles = winograd_choice.budgeted(build)
        shapes = {n: winograd_choice.possible(n) for n in tiles}
        assert build.grown == sum(winograd_choice.growth(c, tiles[n]) for n, c in shapes.items() if c)
        assert build.grown <= allowed
        for n, c in shapes.items():
            assert c and winograd_choice.winograd_time(c, tiles[n]) < winograd_choice.direct_time(c)
        found.append(sum(winograd_choice.direct_time(c) - winograd_choice.winograd_time(c, tiles[n])
                         for n, c in shapes.items() if c))  # fmt: skip
    assert found[0] == 0 and found == sorted(found) and len(set(found)) >= 3
    assert len(tiles) >= 2


def test_weights_grow_by_a_part_only() -> None:
    """A layer with most of a model's weights keeps them as they are; one with few takes the larger tile."""
    widths = [64, 64, 256, 256, 256, 256, 256, 256, 256]
    model, x = chain([(n, 24, 1) for n in widths])
    session = LocalSession(model)
    session.run({"x0": x})
    assert session.last is not None
    size = sum(4 * 9 * i * o for i, o in pairwise(widths))
    constants = session.last.stats["constantBytes"]
    small = winograd_choice.Shape((1, 64, 24, 24), (64, 64, 3, 3), (1, 1), (1, 1))
    assert size + winograd_choice.growth(small, 4) <= constants
    # panels hold whole tiles: 256 columns in tiles of 24 take the room of 264, in any form of the weights
    held = -(-256 // 24) * 24 / 256
    assert constants <= held * ((1 + winograd_choice.MODEL_SHARE) * size + winograd_choice.SMALL) + (64 << 10)


def test_what_a_transform_takes_at_load_is_memory_too() -> None:
    """Layers of 512 channels, whose weights and their transform take 26 MB where 0.8 MB of activations lie later."""
    model, x = chain([(512, 14, 1)] * 4)
    session = LocalSession(model)
    session.run({"x0": x})
    size = 3 * 4 * 9 * 512 * 512
    taken = session.memory.data_len(session.store)
    assert size <= taken <= (1 + winograd_choice.MODEL_SHARE) * size + winograd_choice.SMALL + (1 << 20)
