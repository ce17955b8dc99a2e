"""What goes into a run of the public API and comes out: every type, sequences, optionals, defaults."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from .api_page import BACKENDS, Api, identity, model

TYPES = {
    "float32": (TensorProto.FLOAT, [0.5, -2]),
    "float64": (TensorProto.DOUBLE, [0.1, -2]),
    "float16": (TensorProto.FLOAT16, [0.5, -2]),
    "bfloat16": (TensorProto.BFLOAT16, [0x3F80, 0xC000]),
    "int8": (TensorProto.INT8, [-128, 127]),
    "uint8": (TensorProto.UINT8, [0, 255]),
    "int16": (TensorProto.INT16, [-32768, 3]),
    "uint16": (TensorProto.UINT16, [65535, 3]),
    "int32": (TensorProto.INT32, [-(2**31), 3]),
    "uint32": (TensorProto.UINT32, [2**32 - 1, 3]),
    "int64": (TensorProto.INT64, [-(2**53), 3]),
    "uint64": (TensorProto.UINT64, [2**53, 3]),
    "bool": (TensorProto.BOOL, [1, 0]),
    "string": (TensorProto.STRING, ["Grüße", ""]),
    "complex64": (TensorProto.COMPLEX64, [1, 2, 3, 4]),
    "complex128": (TensorProto.COMPLEX128, [1, 2, 3, 4]),
    "float8e4m3fn": (TensorProto.FLOAT8E4M3FN, [0x38, 0xC0]),
    "float8e5m2": (TensorProto.FLOAT8E5M2, [0x3C, 0xC0]),
    "uint4": (TensorProto.UINT4, [0x2F]),
    "int4": (TensorProto.INT4, [0x2F]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_goes_in_and_comes_out(api: Api, kind: str, backend: str) -> None:
    number, data = TYPES[kind]
    got = api.run(
        """async ({ path, kind, data, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const packed = kind.endsWith('int4');
          const { y } = await session.run({ x: T(kind, packed ? Uint8Array.from(data) : data, [2]) });
          await session.release();
          return plain(y);
        }""",
        {
            "path": api.put(f"identity-{kind}.onnx", identity(number)),
            "kind": kind,
            "data": data,
            "backend": backend,
        },
    )
    want = [str(v) for v in data] if kind in ("int64", "uint64") else data
    assert got == {"type": kind, "dims": [2], "data": want}


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_and_optionals(api: Api, backend: str) -> None:
    made = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("SequenceInsert", ["s", "x"], ["t"]),
                helper.make_node("OptionalHasElement", ["o"], ["has"]),
                helper.make_node("ConcatFromSequence", ["t"], ["all"], axis=0),
            ],
            "sequences",
            [
                helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None),
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
                helper.make_value_info(
                    "o",
                    helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1])),
                ),
            ],
            [
                helper.make_tensor_sequence_value_info("t", TensorProto.FLOAT, None),
                helper.make_tensor_value_info("all", TensorProto.FLOAT, ["n"]),
                helper.make_tensor_value_info("has", TensorProto.BOOL, []),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const kinds = session.inputMetadata.map((m) => m.kind);
          const s = [T('float32', [1]), T('float32', [2, 3])];
          const out = await session.run({ s, x: T('float32', [4]) });
          const again = await session.run({ s: s.slice(0, 1), x: T('float32', [4]), o: T('float32', [9]) });
          await session.release();
          return { kinds, out: plainAll(out), again: plainAll(again) };
        }""",
        {"path": api.put("sequences.onnx", made), "backend": backend},
    )
    assert got["kinds"] == ["sequence", "tensor", "optional"]
    assert [t["data"] for t in got["out"]["t"]] == [[1], [2, 3], [4]]
    assert got["out"]["all"]["data"] == [1, 2, 3, 4] and got["out"]["has"]["data"] == [0]
    assert got["again"]["all"]["data"] == [1, 4] and got["again"]["has"]["data"] == [1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_of_labels_to_scores(api: Api, backend: str) -> None:
    """A classifier as converters of scikit-learn models write it: labels, and a map of every row's scores."""
    made = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(
                    "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, 2.0],
                    intercepts=[0.5], classlabels_ints=[4, 7], post_transform="LOGISTIC",
                ),
                helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[4, 7]),
            ],
            "classifier",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
            [
                helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
                helper.make_value_info(
                    "maps",
                    helper.make_sequence_type_proto(
                        helper.make_map_type_proto(
                            TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
                        )
                    ),
                ),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=8,
    )  # fmt: skip
    got = api.run(
        """async ({ path, backend }) => {
          const session = await create(path, { executionProviders: [backend] });
          const { label, maps } = await session.run({ x: T('float32', [1, 2, -3, 0], [2, 2]) });
          await session.release();
          return { label: plain(label), maps: maps.map((m) => (m instanceof Map ? [...m] : null)) };
        }""",
        {"path": api.put("classifier.onnx", made), "backend": backend},
    )
    shares = [1 / (1 + np.exp(-s)) for s in (5.5, -2.5)]
    assert got["label"]["data"] == ["7", "4"]
    for pairs, share in zip(got["maps"], shares, strict=True):
        assert [key for key, _ in pairs] == [4, 7]
        np.testing.assert_allclose([score for _, score in pairs], [1 - share, share], rtol=1e-5, atol=1e-6)


def test_an_input_with_a_default_may_be_left_out(api: Api) -> None:
    made = model(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        {"x": (TensorProto.FLOAT, [2]), "b": (TensorProto.FLOAT, [2])},
        {"y": (TensorProto.FLOAT, [2])},
        {"b": np.float32([10, 20])},
    )
    got = api.run(
        """async (path) => {
          const session = await create(path);
          const x = T('float32', [1, 2]);
          const given = { x, b: T('float32', [5, 5]) };
          const runs = [await session.run({ x }), await session.run(given), await session.run({ x })];
          await session.release();
          return { names: session.inputNames, ys: runs.map(({ y }) => [...y.data]) };
        }""",
        api.put("default.onnx", made),
    )
    assert got == {"names": ["x"], "ys": [[11, 22], [6, 7], [11, 22]]}


def test_weights_that_differ_in_signs_only_are_two(api: Api) -> None:
    """The browser's Python hashes bytes to 32 bits, which two signs leave as they are: one weight stood for both."""
    a = np.array([-1.5, 2.5, -3, 4], np.float32)
    nodes = [helper.make_node("Add", ["x", "a"], ["y"]), helper.make_node("Mul", ["x", "b"], ["z"])]
    of = (TensorProto.FLOAT, [4])
    made = model(nodes, {"x": of}, {"y": of, "z": of}, {"a": a, "b": np.abs(a)})
    got = api.run(
        """async (path) => {
          const session = await create(path);
          const { y, z } = await session.run({ x: T('float32', new Float32Array(4).fill(1), [4]) });
          await session.release();
          return [[...y.data], [...z.data]];
        }""",
        api.put("signs.onnx", made),
    )
    assert got == [(1 + a).tolist(), np.abs(a).tolist()]
