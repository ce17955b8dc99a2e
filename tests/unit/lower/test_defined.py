"""Operators that ONNX defines by others, at sizes of one and of none, where those definitions fail."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.single import model_of, native, on_kernels

SIZES = [
    (1, 1, 3, 4),
    (2, 1, 1, 4),
    (1, 3, 4, 1),
    (3, 2, 1, 1),
    (1, 2, 2, 3, 4),
    (2, 1, 1, 3, 1),
    (0, 1, 2, 3),
    (1, 1, 0, 3),
]


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("size", SIZES)
def test_grids_of_one_and_of_none(size: tuple[int, ...], aligned: int) -> None:
    """ONNX's function body fails for one matrix, and its height or width of 1 is NaN at aligned corners."""
    rank = len(size) - 2
    theta = np.random.default_rng(0).normal(size=(size[0], rank, rank + 1)).astype(np.float32)
    model = model_of("AffineGrid", {"t": theta}, [("y", np.float32)], {"align_corners": aligned},
                     {"size": np.int64(size)}, opset=20)  # fmt: skip
    found = on_kernels(model, {"t": theta})["y"]
    ends = [1.0 if aligned else (n - 1) / max(n, 1) for n in size[2:]]
    places = [
        np.linspace(-e, e, n) if n != 1 or not aligned else np.array([-1.0])
        for e, n in zip(ends, size[2:], strict=True)
    ]
    grid = np.stack([*np.meshgrid(*places, indexing="ij")[::-1], np.ones(size[2:])], -1)
    np.testing.assert_allclose(found, np.einsum("nkj,...j->n...k", theta, grid), rtol=1e-5, atol=1e-6)
    if all(n > 1 for n in size[2:]):
        np.testing.assert_allclose(found, native(model, {"t": theta})["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 4), (2, 3, 1, 2), (2, 5, 0)])
def test_cross_entropy_of_one_and_of_none(shape: tuple[int, ...], weighed: bool, outputs: int) -> None:
    """ONNX's function body puts a batch of none into a shape that has no answer."""
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=shape).astype(np.float32), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    feeds = {"x": x, "labels": labels} | ({"w": rng.random(shape[1]).astype(np.float32)} if weighed else {})
    model = model_of(
        "SoftmaxCrossEntropyLoss",
        feeds,
        [("y", np.float32), ("log", np.float32)][:outputs],
        {"reduction": "none"},
    )
    found = on_kernels(model, feeds)
    log = x - np.log(np.exp(x).sum(1, keepdims=True))
    weights = feeds.get("w", np.ones(shape[1], np.float32))[labels]
    np.testing.assert_allclose(
        found["y"], -np.take_along_axis(log, labels[:, None], 1)[:, 0] * weights, rtol=1e-5, atol=1e-6
    )
    if outputs == 2:
        np.testing.assert_allclose(found["log"], log, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 8), (2, 0, 8), (2, 3, 8)])
def test_rotations_of_none(shape: tuple[int, ...]) -> None:
    """Three dimensions become four by a Reshape to -1, which has no answer where there is nothing."""
    rng = np.random.default_rng(2)
    feeds = {
        "x": rng.normal(size=shape),
        "c": rng.normal(size=(*shape[:2], 2)),
        "s": rng.normal(size=(*shape[:2], 2)),
    }
    feeds = {n: a.astype(np.float32) for n, a in feeds.items()}
    model = model_of("RotaryEmbedding", feeds, [("y", np.float32)], {"num_heads": 2}, opset=23)
    np.testing.assert_allclose(on_kernels(model, feeds)["y"], native(model, feeds)["y"], rtol=1e-5, atol=1e-6)


def test_attention_of_no_rows_under_a_mask() -> None:
    q, k, mask = np.ones((2, 2, 0, 4), np.float32), np.ones((2, 2, 3, 4), np.float32), np.zeros((0, 3), bool)
    feeds = {"q": q, "k": k, "v": k, "mask": mask}
    model = model_of("Attention", feeds, [("y", np.float32)], opset=23)
    assert on_kernels(model, feeds)["y"].shape == (2, 2, 0, 4)
