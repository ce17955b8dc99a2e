"""LocalSession takes what a model takes, and says what is wrong with anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from nnjit.errors import FeedError, NnjitError, ShapeError
from nnjit.runtime.local import LocalSession

TEXT = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 2] x) => (float[n, 2] y) { y = Neg(x) }'


@pytest.mark.parametrize(
    ("feeds", "error", "word"),
    [
        ({"x": np.ones((1, 2), np.int32)}, FeedError, "'x' is i32, expected is f32"),
        ({"x": np.ones((1, 2))}, FeedError, "'x' is f64, expected is f32"),
        ({"x": np.ones((1, 3), np.float32)}, ShapeError, "3 in dim 1, expected is 2"),
        ({"X": np.ones((1, 2), np.float32)}, FeedError, "no input 'X'"),
        ({}, FeedError, "no feed for input 'x'"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    feeds: dict[str, Any], error: type[NnjitError], word: str
) -> None:
    session = LocalSession(parser.parse_model(TEXT).SerializeToString())
    with pytest.raises(error, match=word):
        session.run(feeds)
    assert session.run({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[-1, -1]]
