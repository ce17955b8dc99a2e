"""Made-up sizes are brought to what the graph takes: tables of positions, fixed reshapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import ShapeError
from nnjit.frontend import BytesSource, load
from nnjit.graph import fitting as module
from nnjit.graph.fitting import PROBES, Fitting, fitting

F, INT = TensorProto.FLOAT, TensorProto.INT64
ROWS = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
IDS, MASK = {"ids": (INT, ["batch", "sequence"])}, {"mask": (INT, ["batch", "sequence"])}


def n(op: str, reads: str, writes: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), [writes], name=f"make-{writes}", **attrs)


def fit(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]],
    weights: dict[str, np.ndarray],
    shapes: dict[str, tuple[int, ...]],
    made: dict[str, int | None] | None = None,
) -> Fitting:
    infos = [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()]
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_tensor_value_info("y", F, None)], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = load(BytesSource(proto.SerializeToString()))
    found = fitting(model, shapes, made or {})
    if found.reason:
        model.bind(found.shapes)  # it does take them
    return found


WORDS = [n("Gather", "words ids", "x"), n("Gather", "table p", "e"), n("Add", "x e", "y")]
ONE = np.int64(1)
POSITIONS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], int]] = {
    "range": (
        [n("Shape", "ids", "s", start=1, end=2), n("Squeeze", "s", "n"), n("Range", "zero n one", "p")],
        {"zero": np.int64(0), "one": ONE},
        77,
    ),
    "slice": (
        [n("Shape", "ids", "s", start=1, end=2), n("Slice", "all z s o", "p")],
        {"all": np.arange(77)[None], "z": np.int64([0]), "o": np.int64([1])},
        77,
    ),
    "mask": ([n("CumSum", "mask one", "c"), n("Sub", "c one", "p")], {"one": ONE}, 77),
    # as RoBERTa has them: positions begin behind the one that stands for padding
    "padding": (
        [
            n("Equal", "ids one", "eq"),
            n("Not", "eq", "ne"),
            n("Cast", "ne", "is", to=INT),
            n("CumSum", "is one", "c"),
            n("Mul", "c is", "q"),
            n("Add", "q one", "p"),
        ],
        {"one": ONE},
        75,
    ),
}


@pytest.mark.parametrize("kind", list(POSITIONS))
def test_sentences_are_as_long_as_the_table_of_positions(kind: str) -> None:
    nodes, weights, longest = POSITIONS[kind]
    inputs = IDS | (MASK if kind == "mask" else {})
    weights = {**weights, "words": ROWS, "table": ROWS[:77]}
    made = {"ids": 99, "mask": 1}
    for wanted in (128, 77, 16):
        shapes = dict.fromkeys(inputs, (1, wanted))
        found = fit([*nodes, *WORDS], inputs, weights, shapes, made)
        assert found.shapes == dict.fromkeys(inputs, (1, min(wanted, longest))), wanted
        assert bool(found.reason) == (wanted > longest) and found.highest["ids"] == 199
        assert not found.reason or "77" in found.reason


def test_positions_that_are_fed_count_no_further_than_their_table() -> None:
    nodes = [n("Gather", "words ids", "x"), n("Gather", "table pos", "e"), n("Add", "x e", "y")]
    inputs = IDS | {"pos": (INT, ["batch", "sequence"])}
    weights = {"words": ROWS[:50], "table": ROWS[:40]}
    found = fit(nodes, inputs, weights, {"ids": (1, 128), "pos": (1, 128)}, {"ids": 99, "pos": None})
    assert found.shapes == {"ids": (1, 40), "pos": (1, 40)}
    assert found.highest == {"ids": 49, "pos": 39}


def picture(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], size: int = 224, c: int = 3) -> Any:
    inputs = {"x": (F, ["batch", c, "height", "width"])}
    found = fit(nodes, inputs, weights, {"x": (1, c, size, size)})
    return found.shapes["x"][2:], found.reason


def patches(size: int, patch: int, token: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """A vision transformer's beginning: patches, a class token before them, a table of positions."""
    rows = (size // patch) ** 2 + token
    nodes = [
        n("Conv", "x k", "c", strides=[patch, patch]),
        n("Reshape", "c s", "f"),
        n("Transpose", "f", "t", perm=[0, 2, 1]),
        n("Concat", "cls t" if token else "t", "all", axis=1),
        n("Add", "all pos", "y"),
    ]
    weights = {"k": np.ones((8, 3, patch, patch), np.float32), "s": np.int64([0, 8, -1])}
    weights |= {"pos": np.ones((1, rows, 8), np.float32), "cls": np.ones((1, 1, 8), np.float32)}
    return nodes, weights


@pytest.mark.parametrize("token", [0, 1])
@pytest.mark.parametrize(("size", "patch"), [(384, 32), (96, 16), (224, 16), (518, 14), (32, 4)])
def test_pictures_have_as_many_patches_as_positions(size: int, patch: int, token: int) -> None:
    (height, width), _ = picture(*patches(size, patch, token))
    assert height == width and height // patch == size // patch


def test_what_is_flattened_into_a_matrix_has_its_rows() -> None:
    weights = {"w": np.ones((784, 10), np.float32), "s": np.int64([-1, 784])}
    gemm = [n("Flatten", "x", "f"), n("Gemm", "f w", "y")]
    turned = [n("Flatten", "x", "f"), n("Gemm", "f v", "y", transB=1)]
    assert picture(gemm, weights, c=1)[0] == (28, 28)
    assert picture(turned, {"v": weights["w"].T.copy()}, c=1)[0] == (28, 28)
    assert picture([n("Reshape", "x s", "f"), n("MatMul", "f w", "y")], weights, 225, c=1)[0] == (28, 28)


def test_a_network_of_steps_down_and_up_gets_a_multiple() -> None:
    """Halved five times and doubled again: 200 does not come back to itself."""
    down = [
        n("MaxPool", f"x{i}" if i else "x", f"x{i + 1}", kernel_shape=[2, 2], strides=[2, 2])
        for i in range(5)
    ]
    up = helper.make_node("Resize", ["x5", "", "scales"], ["up"])
    nodes = [*down, up, n("Add", "up x", "y")]
    sizes, reason = picture(nodes, {"scales": np.float32([1, 1, 32, 32])}, 200)
    assert sizes == (192, 192) and "make-y" in reason


def test_where_nothing_near_fits_sizes_stay_and_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = module._probe
    monkeypatch.setattr(module, "_probe", lambda *given: asked.append(1) or real(*given))
    weights = {"w": np.ones((3, 5), np.float32), "v": np.ones((7, 2), np.float32)}
    nodes = [n("MatMul", "x w", "h"), n("MatMul", "h v", "y")]
    found = fit(nodes, {"x": (F, ["a", "b"])}, weights, {"x": (4, 6)})
    assert found.shapes == {"x": (4, 6)} and not found.reason and len(asked) <= PROBES
    with pytest.raises(ShapeError, match="expected is 4"):
        fit([n("Neg", "x", "y")], {"x": (F, ["a", 4])}, {}, {"x": (2, 3)})


ODD: dict[str, tuple[str, Any]] = {
    "less an infinity": ("Sub", np.float32(np.inf)),
    "less what is no number": ("Sub", np.float32(np.nan)),
    "less nothing": ("Sub", np.zeros(0, np.float32)),
    "a sum along an axis that is not there": ("CumSum", np.int64(1)),
    "a sum along an axis that an input says": ("CumSum", None),
}


@pytest.mark.parametrize("case", list(ODD))
def test_bounds_of_odd_integers_are_not_known(case: str) -> None:
    """No such graph makes sense or is common; asking for its sizes must not end in an error of Python's own."""
    op, operand = ODD[case]
    nodes = [
        n("Cast", "x", "f", to=F),
        n(op, "f odd", "d"),
        n("Cast", "d", "i", to=INT),
        n("Gather", "t i", "y"),
    ]
    inputs: dict[str, tuple[int, list[Any]]] = {"x": (INT, ["n"])}
    shapes: dict[str, tuple[int, ...]] = {"x": (1,)}
    weights = {"t": ROWS[:7]}
    if operand is None:
        inputs["odd"], shapes["odd"] = (INT, []), ()
    else:
        weights["odd"] = operand
    assert fit(nodes, inputs, weights, shapes, {"x": 5, "odd": 9}) == Fitting(shapes)


def test_a_table_of_no_rows_says_nothing_of_its_indices() -> None:
    nodes = [n("Gather", "t x", "y")]
    shapes: dict[str, tuple[int, ...]] = {"x": (4,)}
    assert fit(nodes, {"x": (INT, ["n"])}, {"t": ROWS[:0]}, shapes, {"x": 5}) == Fitting(shapes)
