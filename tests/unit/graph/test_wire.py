"""Reading bytes: big tensors stay in the file; what is no ONNX model is refused by name and offset."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import MissingExternalData, ModelFormatError
from nnjit.frontend import BytesSource, load
from nnjit.frontend.wire import strip
from nnjit.graph.reference import run_graph
from tests.unit.graph.tools import randn


class Counting(BytesSource):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, start: int, length: int) -> bytes:
        self.taken += length
        return super().read(start, length)


def big_model(form: str = "raw") -> tuple[onnx.ModelProto, np.ndarray]:
    w = randn(300, 500)
    if form == "raw":
        tensor = numpy_helper.from_array(w, "w")
    else:
        tensor = helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.reshape(-1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 300])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 500])
    if form == "constant":
        nodes = [
            helper.make_node("Constant", [], ["w"], value=tensor),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "g", [x], [y])
    else:
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), w


@pytest.mark.parametrize("form", ["raw", "float_data", "constant"])
def test_large_weights_stay_in_the_file(form: str) -> None:
    model, w = big_model(form)
    data = model.SerializeToString()
    source = Counting(data)
    assert len(strip(source)) < 1000
    loaded = load(source)
    assert source.taken < 100_000  # of 600,000
    graph = loaded.bind(dims={"n": 2})
    (value,) = graph.constants()
    assert value.const is not None and value.const.range is not None and value.const.array is None
    where = value.const.range
    assert data[where.start : where.start + where.length] == w.tobytes()
    x = randn(2, 300)
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], x @ w, rtol=1e-4, atol=1e-4)


def test_window_skips_what_it_strips() -> None:
    model, _ = big_model()
    model.graph.initializer[0].raw_data = b""
    model.graph.initializer[0].dims[:] = [3000, 5000]
    source = Counting(model.SerializeToString())
    strip(source)
    small = source.taken
    model.graph.initializer[0].raw_data = bytes(60_000_000)
    source = Counting(model.SerializeToString())
    strip(source)
    assert source.taken < small + 50_000


@pytest.mark.parametrize("keep", [1, 7, 40, 200, 5000, 599_000])
def test_truncated_bytes_name_an_offset(keep: int) -> None:
    data = big_model()[0].SerializeToString()[:keep]
    with pytest.raises(ModelFormatError) as caught:
        load(BytesSource(data, "cut.onnx"))
    error = caught.value.to_dict()
    assert error["code"] == "MODEL_FORMAT" and error["fields"]["file"] == "cut.onnx"
    assert 0 <= error["fields"].get("offset", 0) <= keep and error["hint"]


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.onnx", b"x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\n\n  <html>", "HTML"),
        (zipped(), "zip"),
        (gzip.compress(b"x" * 100), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b'{"a": 1}', "JSON"),
        (b"\x1c\x00\x00\x00TFL3aaaa", "TensorFlow Lite"),
        ((50).to_bytes(8, "little") + b'{"weight":' + b" " * 60, "safetensors"),
        (np.random.default_rng(1).bytes(4096), "not an ONNX model"),
        (
            b"hello world, this is text",
            "is text, not an ONNX model: it begins with 'hello world, this is text'",
        ),
        ("Zürich liegt am See\n".encode() * 99, "begins with 'Zürich liegt am See Zürich"),
        (b"B\x7f is no text\x01", "ends too early"),
        (b"\x00" * 100, "not an ONNX model"),
    ],
)
def test_other_files_are_named(data: bytes, word: str) -> None:
    with pytest.raises(ModelFormatError, match=word) as caught:
        load(BytesSource(data, "thing"))
    assert caught.value.hint


def test_random_bytes_never_escape() -> None:
    rng = np.random.default_rng(7)
    data = big_model()[0].SerializeToString()
    for _ in range(200):
        broken = bytearray(data[:2000])
        for at in rng.integers(0, 300, 3):
            broken[at] = rng.integers(0, 256)
        with pytest.raises(ModelFormatError):
            load(BytesSource(bytes(broken)))


def test_a_tensor_file_is_not_a_model() -> None:
    with pytest.raises(ModelFormatError):
        load(BytesSource(numpy_helper.from_array(randn(3), "x").SerializeToString()))


def external_model(size: int) -> tuple[bytes, bytes]:
    model, w = big_model()
    tensor = model.graph.initializer[0]
    tensor.raw_data = b""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "sub/weights.bin", "offset": "64", "length": str(w.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString(), (bytes(64) + w.tobytes())[:size]


@pytest.mark.parametrize("name", ["sub/weights.bin", "weights.bin", "./sub/weights.bin"])
def test_external_data(name: str) -> None:
    data, weights = external_model(10**9)
    model = load(BytesSource(data), {name: BytesSource(weights)})
    graph = model.bind(dims={"n": 1})
    (value,) = graph.constants()
    assert value.const is not None and value.const.range is not None
    assert (value.const.range.file, value.const.range.start) == (1, 64)
    np.testing.assert_array_equal(value.const.numpy(), big_model()[1])


def test_missing_external_data_names_file_and_weight() -> None:
    with pytest.raises(MissingExternalData) as caught:
        load(BytesSource(external_model(0)[0]))
    assert caught.value.fields == {"file": "sub/weights.bin", "initializer": "w"}


def test_short_external_data() -> None:
    data, weights = external_model(1000)
    with pytest.raises(ModelFormatError, match="has 1000"):
        load(BytesSource(data), {"weights.bin": BytesSource(weights)})


def test_tensor_whose_data_does_not_fit_its_shape() -> None:
    model, _ = big_model()
    model.graph.initializer[0].dims[:] = [300, 499]
    with pytest.raises(ModelFormatError, match="'w'"):
        load(BytesSource(model.SerializeToString()))
