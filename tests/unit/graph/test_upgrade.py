"""Old operator versions mean in the newest form what they meant: onnxruntime runs the old model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest

from nnjit.errors import UnsupportedOpset
from nnjit.graph import schemas
from nnjit.graph.reference import run_graph
from tests.unit.graph.tools import bound, model_of, ops, randn

X = randn(2, 3, 4)
IMAGE = randn(1, 2, 4, 6)
VEC = np.array([0.5, -1.0, 2.0], np.float32)

# (opset, body of y = …, feeds): each is run as it is by onnxruntime and, upgraded, by the reference.
CASES: dict[str, tuple[int, str, dict[str, np.ndarray[Any, Any]]]] = {
    "softmax default": (11, "y = Softmax(x)", {"x": X}),
    "softmax axis 0": (11, "y = Softmax<axis = 0>(x)", {"x": X}),
    "softmax axis 2": (11, "y = Softmax<axis = 2>(x)", {"x": X}),
    "softmax axis -1": (11, "y = Softmax<axis = -1>(x)", {"x": X}),
    "softmax axis -2": (11, "y = Softmax<axis = -2>(x)", {"x": X}),
    "logsoftmax": (9, "y = LogSoftmax(x)", {"x": X}),
    "hardmax": (11, "y = Hardmax(x)", {"x": X}),
    "squeeze": (11, "y = Squeeze<axes = [0]>(x)", {"x": X[:1]}),
    "squeeze all": (11, "y = Squeeze(x)", {"x": X[:1]}),
    "unsqueeze": (11, "y = Unsqueeze<axes = [0, 3]>(x)", {"x": X}),
    "reduce sum": (11, "y = ReduceSum<axes = [-1], keepdims = 0>(x)", {"x": X}),
    "reduce mean": (13, "y = ReduceMean<axes = [0, 2]>(x)", {"x": X}),
    "reduce max all": (13, "y = ReduceMax(x)", {"x": X}),
    "reduce l2": (11, "y = ReduceL2<axes = [1]>(x)", {"x": X}),
    "slice": (9, "y = Slice<starts = [0, 1], ends = [2, 100], axes = [1, 2]>(x)", {"x": X}),
    "slice negative": (9, "y = Slice<starts = [-2], ends = [-1]>(x)", {"x": X}),
    "split": (11, "y, z = Split<axis = 2, split = [1, 3]>(x)", {"x": X}),
    "split equal": (11, "y, z = Split<axis = 2>(x)", {"x": X}),
    "split equal 13": (13, "y, z = Split<axis = 2>(x)", {"x": X}),
    "topk": (9, "y, i = TopK<k = 2>(x)", {"x": X}),
    "clip": (10, "y = Clip<min = -0.5, max = 0.25>(x)", {"x": X}),
    "clip one side": (10, "y = Clip<max = 0.25>(x)", {"x": X}),
    "clip no side": (10, "y = Clip(x)", {"x": X}),
    "pad": (10, "y = Pad<pads = [0, 1, 2, 0, 0, 1], value = 3.0>(x)", {"x": X}),
    "pad reflect": (10, 'y = Pad<pads = [0, 1, 2, 0, 1, 1], mode = "reflect">(x)', {"x": X}),
    "upsample 7": (7, "y = Upsample<scales = [1.0, 1.0, 2.0, 3.0]>(x)", {"x": IMAGE}),
    "upsample linear": (7, 'y = Upsample<scales = [1.0, 1.0, 2.0, 2.0], mode = "linear">(x)', {"x": IMAGE}),
    "upsample 9": (9, "s = Constant<value = float[4] {1.0, 1.0, 1.5, 2.0}>() "
    "y = Upsample(x, s)", {"x": IMAGE}),
    "resize 10": (10, "s = Constant<value = float[4] {1.0, 1.0, 0.6, 2.5}>() y = Resize(x, s)", {"x": IMAGE}),
    "resize 10 smaller": (10, "s = Constant<value = float[4] {1.0, 1.0, 0.6, 0.5}>() "
    "y = Resize(x, s)", {"x": IMAGE}),
    "resize 11": (
        11,
        "r = Constant<value = float[0] {}>() s = Constant<value = float[4] {1.0, 1.0, 2.0, 0.5}>() "
        'y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, r, s)',
        {"x": IMAGE},
    ),
    "resize tf nearest": (
        11,
        "r = Constant<value = float[0] {}>() s = Constant<value = float[4] {1.0, 1.0, 2.0, 0.5}>() y = Resize"
        '<coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">(x, r, s)',
        {"x": IMAGE},
    ),
    "resize sizes": (
        12,
        "r = Constant<value = float[0] {}>() e = Constant<value = float[0] {}>() "
        "s = Constant<value_ints = [1, 2, 7, 3]>() y = Resize(x, r, e, s)",
        {"x": IMAGE},
    ),
    "batchnorm": (
        9,
        "y = BatchNormalization(x, s, b, m, v)",
        {"x": randn(2, 3, 5), "s": VEC, "b": VEC + 1, "m": VEC * 2, "v": np.abs(VEC) + 1},
    ),
    "dropout": (7, "y = Dropout<ratio = 0.9>(x)", {"x": X}),
    "scatter": (
        10,
        "y = Scatter<axis = 1>(x, i, u)",
        {"x": X[0], "i": np.array([[1, 3], [0, 2]]), "u": randn(2, 2)},
    ),
    "gridsample": (
        16,
        'y = GridSample<mode = "bilinear">(x, g)',
        {"x": IMAGE, "g": np.tanh(randn(1, 3, 3, 2))},
    ),
    "roialign": (
        10,
        "y = RoiAlign<output_height = 2, output_width = 2>(x, r, b)",
        {"x": IMAGE, "r": np.array([[0, 0, 4, 3]], np.float32), "b": np.array([0])},
    ),
    "gemm": (7, "y = Gemm<transB = 1>(x, w, b)", {"x": randn(2, 3), "w": randn(4, 3), "b": randn(4)}),
    "dft": (17, "y = DFT<axis = 1>(x)", {"x": randn(2, 5, 1)}),
    "groupnorm": (
        18,
        "y = GroupNormalization<num_groups = 2>(x, s, b)",
        {"x": randn(2, 4, 3), "s": VEC[:2], "b": VEC[1:]},
    ),
}  # fmt: skip


def old_model(body: str, feeds: dict[str, np.ndarray[Any, Any]], opset: int) -> onnx.ModelProto:
    """The model of `body`, whose last statement makes the outputs."""
    kinds = {"f": "float", "i": "int64"}
    ins = ", ".join(f"{kinds[v.dtype.kind]}[{','.join(map(str, v.shape))}] {k}" for k, v in feeds.items())
    names = re.findall(r"(?:^|\)\s+)([\w, ]+?) = ", body)[-1].split(", ")
    outs = ", ".join(f"{'int64' if n == 'i' else 'float'}[1] {n}" for n in names)
    model = model_of(f"g ({ins}) => ({outs}) {{ {body} }}", opset)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("name", CASES)
def test_upgraded_node_gives_what_the_old_one_gave(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    opset, body, feeds = CASES[name]
    model = old_model(body, feeds, opset)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, feeds)
    for passes in ([], None):  # as imported, and after the canonical passes
        graph = bound(model, feeds, passes=passes)
        assert all(n.version == schemas.NEWEST for n in graph.nodes)
        found = run_graph(graph, {v.name: feeds[v.name] for v in graph.inputs})
        for output, value, array in zip(graph.output_names, graph.outputs, wanted, strict=True):
            assert value.shape == array.shape
            np.testing.assert_allclose(found[output], array, rtol=1e-4, atol=1e-5)


def ran(body: str, feeds: dict[str, np.ndarray[Any, Any]], opset: int) -> np.ndarray[Any, Any]:
    graph = bound(old_model(body, feeds, opset), feeds)
    result: np.ndarray[Any, Any] = run_graph(graph, {v.name: feeds[v.name] for v in graph.inputs})["y"]
    return result


def test_broadcast_along_an_axis() -> None:
    """Opset 6; onnxruntime starts at 7, the formula is the specification's."""
    b = randn(3)
    np.testing.assert_allclose(
        ran("y = Add<broadcast = 1, axis = 1>(x, b)", {"x": X, "b": b}, 6), X + b[:, None]
    )
    b = randn(3, 4)
    np.testing.assert_allclose(ran("y = Mul<broadcast = 1>(x, b)", {"x": X, "b": b}, 6), X * b)
    b = randn(2, 3)
    np.testing.assert_allclose(
        ran("y = Sub<broadcast = 1, axis = -3>(x, b)", {"x": X, "b": b}, 6), X - b[..., None]
    )


def test_old_prelu_slopes_are_per_channel() -> None:
    slope = np.array([0.1, 0.2, 0.3], np.float32)
    wanted = np.where(X < 0, X * slope[:, None], X)
    np.testing.assert_allclose(ran("y = PRelu(x, s)", {"x": X, "s": slope}, 6), wanted)


def test_oldest_forms() -> None:
    np.testing.assert_allclose(ran("y = Reshape<shape = [4, 6]>(x)", {"x": X}, 1), X.reshape(4, 6))
    np.testing.assert_allclose(ran("y = Pad<paddings = [0, 0, 1, 0, 0, 0]>(x)", {"x": X}, 1)[:, :, 1:], X)
    np.testing.assert_allclose(ran("y = Concat(x, x)", {"x": X}, 3), np.concatenate([X, X], 1))


def test_batchnorm_per_activation() -> None:
    m, v, s, b = randn(3, 4), np.abs(randn(3, 4, seed=1)) + 0.5, randn(3, 4, seed=2), randn(3, 4, seed=3)
    feeds = {"x": X, "s": s, "b": b, "m": m, "v": v}
    found = ran("y = BatchNormalization<spatial = 0>(x, s, b, m, v)", feeds, 7)
    np.testing.assert_allclose(found, (X - m) / np.sqrt(v + 1e-5) * s + b, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_said_in_new_words_is_refused() -> None:
    body = (
        "r = Constant<value = float[0] {}>() s = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}>() y = Resize"
        '<mode = "linear", coordinate_transformation_mode = "tf_half_pixel_for_nn">(x, r, s)'
    )
    with pytest.raises(UnsupportedOpset, match="tf_half_pixel_for_nn") as caught:
        ran(body, {"x": IMAGE}, 11)
    assert caught.value.fields["op"] == "Resize"


def test_upgrade_of_nodes_inside_bodies() -> None:
    text = """
    g (bool c, float[2,3] x) => (float[2,3] y) {
      y = If (c) <then_branch = a () => (float[2,3] r) { r = Clip<min = 0.0, max = 0.5>(x) },
                  else_branch = b () => (float[2,3] s) { s = Neg(x) }>
    }
    """
    x = randn(2, 3)
    graph = bound(model_of(text, 10), {"c": np.array(True), "x": x})
    assert ops(graph) == ["If"]
    np.testing.assert_allclose(run_graph(graph, {"c": np.array(True), "x": x})["y"], np.clip(x, 0, 0.5))
