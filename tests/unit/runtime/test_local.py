"""LocalSession takes what a model takes, and says what is wrong with anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from nnjit.errors import (
    ArgumentError,
    FeedError,
    MissingExternalData,
    ModelFileError,
    ModelFormatError,
    NnjitError,
    ShapeError,
)
from nnjit.runtime import link
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


def test_a_model_is_a_path_bytes_or_a_proto(tmp_path: Path) -> None:
    proto = parser.parse_model(TEXT)
    path = tmp_path / "neg.onnx"
    path.write_bytes(proto.SerializeToString())
    for model in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), proto):
        outputs = LocalSession(model).run({"x": np.ones((1, 2), np.float32)})
        assert outputs["y"].tolist() == [[-1, -1]]


def test_what_is_no_model_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    for name, word in (("nowhere.onnx", "No such file"), ("", "s a directory"), ("zero\0", "null")):
        with pytest.raises(ModelFileError, match=word) as caught:
            LocalSession(tmp_path / name if name else tmp_path)
        assert caught.value.hint and str(tmp_path) in caught.value.fields["file"]
    with pytest.raises(ModelFormatError, match=r"empty\.onnx"):
        LocalSession(tmp_path / "empty.onnx")
    with pytest.raises(ArgumentError, match="not int"):
        LocalSession(3)  # type: ignore[arg-type]


def test_weights_in_another_file_are_found_beside_the_path_and_nowhere_else(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Add(x, w) }'
    proto = parser.parse_model(text)
    weight = proto.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2])
    weight.data_location = onnx.TensorProto.EXTERNAL
    where = weight.external_data.add(key="location", value="w.bin")
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "add.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(MissingExternalData):
        LocalSession(path)
    for place in (folder, tmp_path):
        (place / "w.bin").write_bytes(np.float32([1, 2]).tobytes())
    assert LocalSession(path).run({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 3]
    for outside in ("../w.bin", str(tmp_path / "w.bin")):
        where.value = outside
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(MissingExternalData):
            LocalSession(path)


def test_constants_are_told_apart_whatever_their_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python in a browser has hashes of 32 bits, the same for floats that differ in two signs."""
    monkeypatch.setattr(link, "hash", lambda _: 7, raising=False)
    a = np.float32([-1.5, 2.5, -3, 4])
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[4] x) => (float[4] y, float[4] z) { y = Add(x, a)  z = Mul(x, b) }"""
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(
        [onnx.numpy_helper.from_array(a, "a"), onnx.numpy_helper.from_array(np.abs(a), "b")]
    )
    found = LocalSession(proto.SerializeToString()).run({"x": np.ones(4, np.float32)})
    assert found["y"].tolist() == (1 + a).tolist() and found["z"].tolist() == np.abs(a).tolist()
