"""A model that is still on its way: its graph is read from what is there, and asks for little that is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import ModelFormatError, SessionError
from nnjit.frontend import BytesSource, load
from nnjit.frontend.wire import strip, walk


class Arriving(BytesSource):
    """Bytes of which only some are there: reading another is an error here, and would be waiting in a page."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.upto = 0
        self.pieces: list[tuple[int, int]] = []

    def there(self, start: int, end: int) -> bool:
        return end <= self.upto or any(a <= start and end <= b for a, b in self.pieces)

    def read(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size)
        assert start >= end or self.there(start, end), f"{start} to {end} is not there"
        return super().read(start, length)


def layers(count: int, width: int) -> bytes:
    """A chain of products; weights, small tables and nodes that hold one, as exporters write them."""
    rng = np.random.default_rng(3)
    nodes = [helper.make_node("Identity", ["x"], ["h0"])]
    weights = []
    for i in range(count):
        table = numpy_helper.from_array(rng.normal(size=(width,)).astype(np.float32))
        nodes += [
            helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"]),
            helper.make_node("Constant", [], [f"c{i}"], value=table),
            helper.make_node("Add", [f"m{i}", f"c{i}"], [f"h{i + 1}"]),
        ]
        weights.append(numpy_helper.from_array(rng.normal(size=(width, width)).astype(np.float32), f"w{i}"))
        weights.append(numpy_helper.from_array(np.arange(i + 2), f"unused{i}"))
    shape = ["n", width]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(f"h{count}", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def walked(source: Arriving, come: Callable[[Arriving, int, int], None]) -> tuple[bytes, int]:
    """The stripped model and how often something had to come, by `come`."""
    steps, waits = walk(source), 0
    while True:
        try:
            (start, end), *guesses = next(steps)
        except StopIteration as done:
            return done.value, waits
        assert 0 <= start < end <= source.size
        assert not source.there(start, end)
        come(source, start, end)
        source.pieces += guesses
        assert all(0 <= a < b <= source.size for a, b in guesses)
        waits += 1


def by_piece(source: Arriving, start: int, end: int) -> None:
    source.pieces.append((start, end))


DATA = layers(6, 300)


def test_a_walk_asks_for_little() -> None:
    source = Arriving(DATA)
    stripped, waits = walked(source, by_piece)
    assert stripped == strip(BytesSource(DATA))
    asked = sum(end - start for start, end in source.pieces)
    assert asked < 6 * 3 * 16384 + 2 * 65536  # of 2.1 MB: some blocks for each of six weights
    assert waits <= 40
    model = load(source, stripped=stripped)
    assert [i.name for i in model.signature.inputs] == ["x"]


@given(first=st.integers(0, len(DATA)), each=st.integers(1, 1 << 20), late=st.booleans())
def test_whatever_is_there_gives_the_same(first: int, each: int, late: bool) -> None:
    """Bytes come in order, in steps of any length, with pieces ahead of them or without."""
    source = Arriving(DATA)
    source.upto = first

    def come(source: Arriving, start: int, end: int) -> None:
        source.upto = min(source.upto + each, source.size)
        if late and not source.there(start, end):
            by_piece(source, start, end)
        while not source.there(start, end):
            source.upto = min(source.upto + each + 4096, source.size)

    assert walked(source, come)[0] == strip(BytesSource(DATA))


def test_a_table_that_folding_may_want_comes_with_the_graph() -> None:
    table = np.arange(2000, dtype=np.float32)
    w = numpy_helper.from_array(table, "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2000])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2000])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    source = Arriving(data.SerializeToString())
    model = load(source, stripped=walked(source, by_piece)[0])
    (value,) = model.graph.constants()
    assert value.const is not None and value.const.array is None
    np.testing.assert_array_equal(value.const.numpy(), table)


@pytest.mark.parametrize("keep", [0, 3, 600, 100_000, len(DATA) - 1])
def test_a_file_that_was_cut_is_refused_as_ever(keep: int) -> None:
    def broken(run: Callable[[], object]) -> str:
        with pytest.raises(ModelFormatError) as caught:
            run()
        return str(caught.value)

    cut = DATA[:keep]
    assert broken(lambda: walked(Arriving(cut), by_piece)) == broken(lambda: strip(BytesSource(cut)))


def test_what_is_no_model_is_refused_at_its_first_bytes() -> None:
    source = Arriving(b"<!doctype html>" + bytes(5_000_000))
    with pytest.raises(ModelFormatError, match="HTML"):
        walked(source, by_piece)
    assert sum(end - start for start, end in source.pieces) <= 16384


def test_strip_does_not_wait() -> None:
    with pytest.raises(SessionError, match="not there yet"):
        strip(Arriving(DATA))


def test_the_model_is_what_onnx_says() -> None:
    proto = onnx.ModelProto.FromString(walked(Arriving(DATA), by_piece)[0])
    assert [n.op_type for n in proto.graph.node][:3] == ["Identity", "MatMul", "Constant"]
    assert [t.data_location for t in proto.graph.initializer[:2]] == [
        TensorProto.EXTERNAL,
        TensorProto.DEFAULT,
    ]
