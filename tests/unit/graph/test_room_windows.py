"""Strided windows, statistics over time and whole factors with room, one and two lengths at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nnjit.graph.model import Model
from nnjit.graph.room import NoRoom, Room, make_room, moved
from nnjit.runtime.host import WholeGraph
from nnjit.runtime.local import LocalSession
from tests.support.single import native
from tests.unit.graph.test_room import Feeds, N, agree, as_bytes, built, node, normal, shapes_of


def frames(n: int) -> Feeds:
    return {"x": normal(2, 3, n)}


def images(n: int, m: int) -> Feeds:
    return {"x": normal(1, 3, n, m)}


def in_box(
    model: Model,
    feeds_of: Callable[[int, int], Feeds],
    at: tuple[int, int] = (9, 12),
    cap: Sequence[int] = (24, 32),
) -> Room:
    """Two lengths: the room against the exact graph at the corners, at what was asked for, and beside them."""
    asked = feeds_of(*at)
    growing = moved(shapes_of(feeds_of(at[0] + 1, at[1] + 3)), shapes_of(asked))
    assert growing is not None
    both: tuple[list[Any] | None, ...] = ([], None)
    for passes in both:
        room = make_room(model, shapes_of(asked), growing, cap, passes=passes)
        run, here = WholeGraph(room.graph), room.n_of(shapes_of(asked))
        assert here is not None
        (a, b), (c, d) = room.least, room.most
        for n in {(a, b), (a, d), (c, b), (c, d), here, ((a + c) // 2, (b + d) // 2 + 1), (a + 1, d - 1)}:
            feeds = feeds_of(*(at[i] + n[i] - here[i] for i in range(2)))
            assert room.n_of(shapes_of(feeds)) == n
            want = WholeGraph(model.bind(shapes=shapes_of(feeds), passes=passes)).run(feeds)
            found = run.run(room.pad(feeds, n))
            for name, value in want.items():
                cut = room.cut(name, found[name], n)
                assert cut.shape == value.shape, (n, name)
                np.testing.assert_allclose(cut, value, rtol=2e-4, atol=2e-5, err_msg=f"{name} at {n}")
    return room


WINDOWS = [
    {"kernel_shape": [3], "strides": [2]},
    {"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
    {"kernel_shape": [10], "strides": [5]},
    {"kernel_shape": [2], "strides": [3], "pads": [0, 1]},
    {"kernel_shape": [1], "strides": [2]},
    {"kernel_shape": [4], "strides": [3], "pads": [2, 1], "dilations": [2]},
    {"kernel_shape": [3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [4], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3], "auto_pad": "VALID", "strides": [2]},
    *(
        {"kernel_shape": [k], "auto_pad": f"SAME_{where}", "strides": [s], "dilations": [d]}
        for k, s, d in [
            (3, 2, 1),
            (2, 2, 1),
            (1, 2, 1),
            (7, 2, 1),
            (5, 3, 1),
            (3, 4, 1),
            (3, 2, 2),
            (2, 5, 1),
        ]
        for where in ("UPPER", "LOWER")
    ),
]


@pytest.mark.parametrize("attrs", [a for a in WINDOWS if "SAME" in a.get("auto_pad", "")], ids=str)
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_padding_that_depends_on_the_length(op: str, attrs: dict[str, Any]) -> None:
    """On kernels, against plans of these shapes, at every remainder; images whose two sides grow. Where a window is at
    least as long as a step, native onnxruntime too: elsewhere it pads by less than nothing, or refuses."""
    rank = 2
    attrs = {name: value if isinstance(value, str) else value * rank for name, value in attrs.items()}
    if op != "Conv" and max(attrs.get("dilations", [1])) > 1:
        return  # onnxruntime takes none there
    weight = [] if op != "Conv" else ["w"]
    nodes = [node(op, ["x", *weight], ["y"], **attrs)]
    data = as_bytes(
        nodes, images(9, 12), {"w": normal(4, 3, *attrs["kernel_shape"])} if weight else {}, ["y"]
    )
    exact, session = LocalSession(data), LocalSession(data, room=True)
    wide = attrs["kernel_shape"][0] >= attrs.get("strides", [1])[0] and attrs.get("dilations", [1])[0] == 1
    session.run(images(10, 13))
    for n, m in [(9, 12), (9, 11), (8, 10), (7, 9), (6, 8), (5, 7), (4, 5), (3, 4), (1, 2), (2, 1), (9, 13)]:
        feeds = images(n, m)
        wanted = [exact.run(feeds)["y"], *([native(data, feeds)["y"]] if wide else [])]
        found = session.run(feeds)["y"]
        for want in wanted:
            np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5, err_msg=f"{n}, {m}")
    assert len(session.plans) <= 4


@pytest.mark.parametrize("attrs", WINDOWS, ids=str)
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_steps_of_a_window(op: str, attrs: dict[str, Any]) -> None:
    """What is infinite beyond n is looked at by no window that counts."""
    if op == "MaxPool" and "SAME" in attrs.get("auto_pad", ""):
        return  # onnx.reference fails
    if op == "AveragePool" and "SAME" in attrs.get("auto_pad", "") and "strides" in attrs:
        return  # so it does where steps are longer than windows: see below
    weight = [] if op != "Conv" else ["w"]
    nodes = [node("Reciprocal", ["x"], ["a"]), node(op, ["a", *weight], ["y"], **attrs)]
    model = built(nodes, frames(14), {"w": normal(4, 3, *attrs["kernel_shape"])}, ["y"])

    def feeds(n: int) -> Feeds:
        return {"x": np.abs(normal(2, 3, n)) + np.float32(0.5)}

    room = agree(model, feeds, n=14, capacity=40)
    assert room.most[0] >= 36


@pytest.mark.parametrize("count", [0, 1])
def test_padding_that_counts_or_not(count: int) -> None:
    pool = node(
        "AveragePool",
        ["x"],
        ["y"],
        kernel_shape=[3, 4],
        strides=[2, 3],
        pads=[1, 2, 1, 1],
        count_include_pad=count,
    )
    in_box(built([pool], images(9, 12), {}, ["y"]), images)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_last_window_that_hangs_over(op: str) -> None:
    pool = node(op, ["x"], ["y"], kernel_shape=[3], strides=[2], ceil_mode=1)
    agree(built([pool], frames(9), {}, ["y"]), frames, n=9)
    wide = node(op, ["x"], ["y"], kernel_shape=[2], strides=[3], ceil_mode=1)
    with pytest.raises(NoRoom, match="last window"):
        agree(built([wide], frames(9), {}, ["y"]), frames, n=9)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("width", range(7, 12))
def test_a_last_window_that_hangs_over_a_fixed_axis(op: str, width: int) -> None:
    """Rows grow, columns do not: their ceil_mode holds as well."""
    pool = node(op, ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 3], pads=[0, 1, 0, 1], ceil_mode=1)
    agree(
        built([pool], {"x": normal(1, 2, 9, width)}, {}, ["y"]), lambda n: {"x": normal(1, 2, n, width)}, n=9
    )


def test_an_image_of_any_size() -> None:
    """Steps of two along both axes, a shortcut beside them, means over all places."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "v"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["b", "u"], ["d"], strides=[2, 2]),
        node("Add", ["c", "d"], ["e"]),
        node("MaxPool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["f"], ["g"]),
        node("GlobalMaxPool", ["e"], ["h"]),
        node("Flatten", ["g"], ["y"]),
    ]
    weights = {"w": normal(4, 3, 3, 3), "v": normal(5, 4, 3, 3), "u": normal(5, 4, 1, 1)}
    room = in_box(built(nodes, images(9, 12), weights, ["y", "h", "e", "a"]), images)
    assert room.outputs["a"] == [(2, (N + 1) // 2), (3, room.outputs["a"][1][1])] and room.least == (5, 5)


def test_what_is_halved_and_doubled_is_the_same_for_whole_steps_only() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Resize", ["a", "", "two"], ["b"], mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Concat", ["x", "b"], ["y"], axis=1),
    ]  # fmt: skip
    weights = {"w": normal(4, 3, 3, 3), "two": np.array([1, 1, 2, 2], np.float32)}
    model = built(nodes, images(8, 12), weights, ["y"])
    with pytest.raises(NoRoom, match="other lengths"):
        in_box(model, images, (8, 12))
    shapes = {"x": (1, 3, 8, 12)}
    room = make_room(model, shapes, {"x": {2: N * 2, 3: N * 2 + 4}}, (16,), passes=[])
    run = WholeGraph(room.graph)
    for n in (1, 4, *room.most):
        feeds = images(2 * n, 2 * n + 4)
        want = WholeGraph(model.bind(shapes=shapes_of(feeds), passes=[])).run(feeds)["y"]
        np.testing.assert_allclose(
            room.cut("y", run.run(room.pad(feeds, (n,)))["y"], (n,)), want, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("place", ["half_pixel", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"])
@pytest.mark.parametrize("rounded", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_a_whole_factor(mode: str, place: str, rounded: str) -> None:
    if mode != "nearest" and rounded != "floor":
        return
    nodes = [
        node("Reciprocal", ["x"], ["a"]),
        node(
            "Resize",
            ["a", "", "by"],
            ["y"],
            mode=mode,
            coordinate_transformation_mode=place,
            nearest_mode=rounded,
        ),
        node("Shape", ["x"], ["dims"]),
        node("Mul", ["dims", "times"], ["sizes"]),
        node(
            "Resize",
            ["a", "", "", "sizes"],
            ["z"],
            mode=mode,
            coordinate_transformation_mode=place,
            nearest_mode=rounded,
        ),
    ]
    weights = {"by": np.array([1, 1, 3], np.float32), "times": np.array([1, 1, 2])}

    def feeds(n: int) -> Feeds:
        return {"x": np.abs(normal(1, 2, n)) + np.float32(0.5)}

    agree(built(nodes, feeds(7), weights, ["y", "z"]), feeds, n=7)


def test_groups_over_time() -> None:
    """What wav2vec 2 begins with, in both forms."""
    nodes = [
        node("Reciprocal", ["x"], ["r"]),
        node("InstanceNormalization", ["r", "scale", "bias"], ["a"]),
        node("GroupNormalization", ["r", "scale", "bias"], ["b"], num_groups=2),
        node("Shape", ["r"], ["dims"]),
        node("Reshape", ["r", "cut"], ["c"]),
        node("InstanceNormalization", ["c", "two", "nil"], ["d"]),
        node("Reshape", ["d", "dims"], ["e"]),
    ]
    weights = {
        "scale": normal(4), "bias": normal(4), "cut": np.array([0, 4, -1]), "two": np.ones(4, np.float32),
        "nil": np.zeros(4, np.float32),
    }  # fmt: skip

    def feeds(n: int) -> Feeds:
        """The same whatever was drawn before: of two numbers that are nearly one, rounding would be what is left."""
        return {"x": np.random.default_rng(n).uniform(0.5, 2.5, (2, 4, n)).astype(np.float32)}

    agree(built(nodes, feeds(7), weights, ["a", "b", "e"]), feeds, n=7)


def test_lengths_are_counted_as_exporters_count_them() -> None:
    """(L - 10) / 5 + 1 of integers beside a convolution; a mask made from it."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], strides=[5]),
        node("Shape", ["x"], ["dims"]),
        node("Gather", ["dims", "last"], ["length"]),
        node("Sub", ["length", "ten"], ["b"]),
        node("Div", ["b", "five"], ["c"]),
        node("Add", ["c", "one"], ["count"]),
        node("Range", ["zero", "count", "one"], ["places"]),
        node("Cast", ["places"], ["numbers"], to=1),
        node("Add", ["a", "numbers"], ["y"]),
        node("Mod", ["length", "five"], ["left"]),
        node("Slice", ["x", "from", "end", "axis", "two"], ["z"]),
    ]
    weights = {
        "w": normal(4, 3, 10), "last": np.array(2), "ten": np.array(10), "five": np.array(5), "one": np.array(1),
        "zero": np.array(0), "from": np.array([1]), "end": np.array([2**40]), "axis": np.array([2]),
        "two": np.array([2]),
    }  # fmt: skip
    room = agree(built(nodes, frames(33), weights, ["y", "left", "z"]), frames, n=33, capacity=100)
    assert room.outputs["y"] == [(2, N // 5 - 1)] and room.least == (10,)


def test_two_lengths_in_attention() -> None:
    """Queries and keys of their own lengths, a batch that grows with neither."""
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Softmax", ["s"], ["p"]),
        node("MatMul", ["p", "k"], ["a"]),
        node("ReduceMean", ["s", "both"], ["m"], keepdims=0),
        node("Concat", ["q", "k"], ["c"], axis=1),
        node("ReduceSum", ["c", "one"], ["t"]),
    ]
    weights = {"both": np.array([1, 2]), "one": np.array([1])}

    def feeds(n: int, m: int) -> Feeds:
        return {"q": normal(2, n, 4), "k": normal(2, m, 4)}

    in_box(built(nodes, feeds(9, 12), weights, ["a", "m", "t", "c", "p"]), feeds)
