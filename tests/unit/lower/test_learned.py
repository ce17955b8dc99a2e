"""ai.onnx.ml against native onnxruntime: trees, linear models, scalers and encoders, with what runs on kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import NnjitError
from nnjit.runtime.local import LocalSession
from tests.support.contrib import MICROSOFT, agree
from tests.support.learned_models import DOUBLE, FLOAT, INT, ML, TEXT, features, grown, model_of
from tests.support.single import native

Array = Any
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def check(
    op: str, feeds: Mapping[str, Array], outputs: Sequence[int], attrs: Mapping[str, Any], since: int = 3,
    slow: Sequence[str] = (), only: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """`slow`: operators that stay on the reference; `only`: the outputs to compare."""
    model = model_of(op, feeds, outputs, attrs, since)
    wanted, session = native(model, feeds), LocalSession(model)
    found = session.run(feeds)
    for i in range(len(outputs)) if only is None else only:
        if outputs[i] == TEXT:
            assert found[f"y{i}"].tolist() == wanted[f"y{i}"].tolist()
        else:
            agree(found[f"y{i}"], wanted[f"y{i}"], rtol=1e-4, atol=1e-5)
    on = [row["op"] for row in session.placement() if row["backend"] == "reference"]
    assert set(on) <= set(slow), f"{on} ran on the reference"


# ---- trees ----


MIXED = ["BRANCH_GT", "BRANCH_GTE", "BRANCH_NEQ"]


@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regression_trees(how: str) -> None:
    rng = np.random.default_rng([*how.encode()])
    some = str(rng.choice(np.array(TRANSFORMS[:4])))
    for targets, transform, modes in (
        (1, "NONE", ["BRANCH_LEQ"]),
        (2, some, ["BRANCH_LT"]),
        (2, "NONE", MIXED),
    ):
        nodes, leaves = grown(rng, 4, 3, 5, modes)
        said = [(leaf, k) for leaf in leaves for k in range(targets)]
        attrs = nodes | {
            "target_treeids": [leaf[0] for leaf, _ in said], "target_nodeids": [leaf[1] for leaf, _ in said],
            "target_ids": [k for _, k in said], "target_weights": rng.random(len(said)).astype(np.float32).tolist(),
            "n_targets": targets, "aggregate_function": how, "post_transform": transform,
            "base_values": [0.25] * targets,
        }  # fmt: skip
        check("TreeEnsembleRegressor", {"x": features(rng, missing=True)}, [FLOAT], attrs)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
@pytest.mark.parametrize("ways", ["all", "one each", "first", "shares of first", "second", "first and base"])
def test_classification_trees(ways: str, transform: str) -> None:
    """Each leaf says something of all classes, of one, or of one of two classes only."""
    rng = np.random.default_rng([*ways.encode(), *transform.encode()])
    classes = 3 if ways in ("all", "one each") else 2
    nodes, leaves = grown(rng, 5, 3, 5, ["BRANCH_LEQ"])
    if ways == "all":
        said = [(leaf, k) for leaf in leaves for k in range(classes)]
    elif ways == "one each":
        said = [(leaf, i % classes) for i, leaf in enumerate(leaves)]
    else:
        said = [(leaf, int(ways == "second")) for leaf in leaves]
    weights = rng.normal(size=len(said)).astype(np.float32)
    weights = np.abs(weights) / 4 if ways.startswith("shares") else weights
    attrs = nodes | {
        "class_treeids": [leaf[0] for leaf, _ in said], "class_nodeids": [leaf[1] for leaf, _ in said],
        "class_ids": [k for _, k in said], "class_weights": weights.tolist(), "post_transform": transform,
    }  # fmt: skip
    if ways == "first and base":
        attrs["base_values"] = [0.5]
    labels = {"classlabels_int64s": [7, 3, 5][:classes]}
    check("TreeEnsembleClassifier", {"x": features(rng)}, [INT, FLOAT], attrs | labels)
    texts = {"classlabels_strings": ["a", "b", "c"][:classes]}
    check(
        "TreeEnsembleClassifier",
        {"x": features(rng)},
        [TEXT, FLOAT],
        attrs | texts,
        slow=["TreeEnsembleClassifier", "Gather"],
    )


@pytest.mark.parametrize("how", range(4))
def test_trees_whose_leaves_are_apart(how: int) -> None:
    rng = np.random.default_rng(how)
    nodes, leaves = grown(rng, 4, 3, 5, ["BRANCH_LEQ"])
    keys = list(zip(nodes["nodes_treeids"], nodes["nodes_nodeids"], strict=True))
    inner = [i for i, mode in enumerate(nodes["nodes_modes"]) if mode != "LEAF"]
    place = {keys[i]: n for n, i in enumerate(inner)} | {leaf: n for n, leaf in enumerate(leaves)}
    ends = {s: [(keys[i][0], nodes[f"nodes_{s}nodeids"][i]) for i in inner] for s in ("true", "false")}
    for dtype in (np.float32, np.float64):
        attrs = {
            "n_targets": 2, "aggregate_function": how, "post_transform": 0,  # of its numbers onnxruntime takes 1 for 2
            "nodes_modes": numpy_helper.from_array(np.zeros(len(inner), np.uint8)),
            "nodes_splits": numpy_helper.from_array(np.array(nodes["nodes_values"], dtype)[inner]),
            "nodes_featureids": [nodes["nodes_featureids"][i] for i in inner],
            "nodes_missing_value_tracks_true": [nodes["nodes_missing_value_tracks_true"][i] for i in inner],
            "tree_roots": [place[tree, 0] for tree in range(4)],
            "leaf_targetids": rng.integers(0, 2, len(leaves)).tolist(),
            "leaf_weights": numpy_helper.from_array(rng.random(len(leaves)).astype(dtype)),
        }  # fmt: skip
        for side, to in ends.items():
            attrs[f"nodes_{side}nodeids"] = [place[key] for key in to]
            attrs[f"nodes_{side}leafs"] = [int(key in leaves) for key in to]
        kind = FLOAT if dtype is np.float32 else DOUBLE
        check("TreeEnsemble", {"x": features(rng, missing=True).astype(dtype)}, [kind], attrs, 5)


def test_trees_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(1)
    nodes, leaves = grown(rng, 1, 2, 5, ["BRANCH_LEQ"])
    attrs = nodes | {
        "target_treeids": [t for t, _ in leaves], "target_nodeids": [n for _, n in leaves],
        "target_ids": [0] * len(leaves), "target_weights": [1.0] * len(leaves), "n_targets": 1,
    }  # fmt: skip
    few = {"x": features(rng)[:, :1]}
    deep = attrs | {"nodes_featureids": [4] * len(nodes["nodes_treeids"])}
    with pytest.raises(NnjitError, match="fewer features"):
        LocalSession(model_of("TreeEnsembleRegressor", few, [FLOAT], deep, 3)).run(few)
    astray = attrs | {"target_nodeids": [99] * len(leaves)}
    with pytest.raises(NnjitError, match="node 99 of tree 0"):
        LocalSession(model_of("TreeEnsembleRegressor", {"x": features(rng)}, [FLOAT], astray, 3)).run(
            {"x": features(rng)}
        )


# ---- linear models ----


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_linear_classifiers(classes: int, transform: str) -> None:
    rng = np.random.default_rng([classes, *transform.encode()])
    attrs = {
        "coefficients": rng.normal(size=5 * classes).tolist(), "intercepts": rng.normal(size=classes).tolist(),
        "post_transform": transform, "multi_class": int(rng.integers(2)),
    }  # fmt: skip
    count = max(2, classes)
    check(
        "LinearClassifier",
        {"x": features(rng)},
        [INT, FLOAT],
        attrs | {"classlabels_ints": [4, 9, 2][:count]},
    )
    texts = {"classlabels_strings": ["u", "v", "w"][:count]}
    check(
        "LinearClassifier",
        {"x": features(rng)},
        [TEXT, FLOAT],
        attrs | texts,
        slow=["LinearClassifier", "Gather"],
    )


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_regressors(transform: str) -> None:
    rng = np.random.default_rng([*transform.encode()])
    size = 0.02 if transform == "PROBIT" else 1.0  # of shares between 0 and 1 only
    attrs = {
        "coefficients": (size * rng.normal(size=10)).tolist(), "intercepts": [0.4, 0.6], "targets": 2,
        "post_transform": transform,
    }  # fmt: skip
    check("LinearRegressor", {"x": features(rng)}, [FLOAT], attrs)


# ---- scalers and encoders ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_scalers_and_normalizers(dtype: Any) -> None:
    x = (5 * features(np.random.default_rng(3))).astype(dtype)
    x[3] = 0
    check(
        "Scaler", {"x": x}, [FLOAT], {"offset": [0.1, 0.2, 0.3, 0.4, 0.5], "scale": [1.0, 2.0, 3.0, 4.0, 5.0]}
    )
    check("Scaler", {"x": x}, [FLOAT], {"offset": [0.1], "scale": [2.0]})
    for norm in ("MAX", "L1", "L2"):
        check("Normalizer", {"x": x}, [FLOAT], {"norm": norm})


def test_features() -> None:
    rng = np.random.default_rng(4)
    x, gone = features(rng), features(rng, missing=True)
    many = {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0, 5.0], "replaced_value_float": float("nan")}
    check("Imputer", {"x": gone}, [FLOAT], many)
    numbers = np.array([[1, 2], [3, 9]])
    check("Imputer", {"x": numbers}, [INT], {"imputed_value_int64s": [100], "replaced_value_int64": 9})
    check("Binarizer", {"x": x}, [FLOAT], {"threshold": 0.2})
    check("ArrayFeatureExtractor", {"x": x, "which": np.array([3, 1])}, [FLOAT], {})
    check("ArrayFeatureExtractor", {"x": x[0], "which": np.array([3, 1])}, [FLOAT], {})
    check("FeatureVectorizer", {"x": x, "z": x[:, :2]}, [FLOAT], {"inputdimensions": [5, 2]})
    check("OneHotEncoder", {"x": numbers}, [FLOAT], {"cats_int64s": [1, 2, 3]})


def test_texts_and_numbers() -> None:
    """Where text is looked up, the reference stays."""
    texts = np.array([["a", "b"], ["c", "zz"]], dtype=object)
    numbers = np.array([0, 1, 7])
    names = ["a", "b", "c"]
    slow = ["LabelEncoder", "OneHotEncoder", "CategoryMapper"]
    check("LabelEncoder", {"x": texts}, [INT], {"classes_strings": names}, 1, slow)
    check("LabelEncoder", {"x": numbers}, [TEXT], {"classes_strings": names}, 1, slow)
    known = {"keys_strings": names, "values_int64s": [3, 4, 5], "default_int64": -7}
    check("LabelEncoder", {"x": texts}, [INT], known, 2, slow)
    known = {"keys_int64s": [0, 1], "values_strings": ["x", "y"], "default_string": "?"}
    check("LabelEncoder", {"x": numbers}, [TEXT], known, 2, slow)
    check("OneHotEncoder", {"x": texts}, [FLOAT], {"cats_strings": names}, 1, slow)
    pairs = {"cats_strings": names, "cats_int64s": [1, 2, 3]}
    check("CategoryMapper", {"x": texts}, [INT], pairs, 1, slow)
    check("CategoryMapper", {"x": numbers}, [TEXT], pairs, 1, slow)


def test_maps_of_labels_to_scores() -> None:
    rng = np.random.default_rng(5)
    x = rng.random((3, 2)).astype(np.float32)
    for attrs, key in (({"classlabels_int64s": [4, 7]}, INT), ({"classlabels_strings": ["n", "p"]}, TEXT)):
        node = helper.make_node("ZipMap", ["x"], ["y"], "node", domain=ML, **attrs)
        entry = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, []))
        graph = helper.make_graph(
            [node], "maps", [helper.make_tensor_value_info("x", FLOAT, x.shape)],
            [helper.make_value_info("y", helper.make_sequence_type_proto(entry))],
        )  # fmt: skip
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
        wanted = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        assert LocalSession(model).run({"x": x})["y"] == wanted


def test_words_of_texts() -> None:
    texts = np.array([["The cat sat"], ["a, b"]], dtype=object)
    ways: list[dict[str, Any]] = [
        {"separators": [" ", ","], "mincharnum": 1}, {"separators": [" "], "mincharnum": 2, "mark": 1},
        {"separators": [""], "mincharnum": 1}, {"tokenexp": "[a-zA-Z]+", "mincharnum": 2},
    ]  # fmt: skip
    for attrs in ways:
        node = helper.make_node(
            "Tokenizer", ["x"], ["y"], domain=MICROSOFT, **{"mark": 0, "pad_value": "#"} | attrs
        )
        graph = helper.make_graph(
            [node], "words", [helper.make_tensor_value_info("x", TEXT, [2, 1])],
            [helper.make_tensor_value_info("y", TEXT, None)],
        )  # fmt: skip
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
        found, wanted = LocalSession(model).run({"x": texts})["y"], native(model, {"x": texts})["y"]
        assert found.shape == wanted.shape and found.tolist() == wanted.tolist()


def test_rows_whose_number_is_known_at_run_time_only() -> None:
    """The reference does by the same definitions what no kernel can be made for."""
    rng = np.random.default_rng(6)
    x = features(rng)
    nodes, leaves = grown(rng, 3, 3, 5, ["BRANCH_LEQ"])
    attrs = nodes | {
        "class_treeids": [t for t, _ in leaves], "class_nodeids": [n for _, n in leaves],
        "class_ids": [0] * len(leaves), "class_weights": rng.normal(size=len(leaves)).astype(np.float32).tolist(),
    }  # fmt: skip
    numbers, texts = {"classlabels_int64s": [7, 3]}, {"classlabels_strings": ["n", "p"]}
    for labels, kind in ((numbers, INT), (texts, TEXT)):
        trees = helper.make_node("TreeEnsembleClassifier", ["some"], ["l", "p"], domain=ML, **attrs, **labels)
        graph = helper.make_graph(
            [helper.make_node("Compress", ["x", "which"], ["some"], axis=0), trees], "some",
            [helper.make_tensor_value_info("x", FLOAT, x.shape),
             helper.make_tensor_value_info("which", TensorProto.BOOL, [9])],
            [helper.make_tensor_value_info("l", kind, None), helper.make_tensor_value_info("p", FLOAT, None)],
        )  # fmt: skip
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
        feeds = {"x": x, "which": rng.random(9) < 0.6}
        found, wanted = LocalSession(model).run(feeds), native(model, feeds)
        assert found["l"].tolist() == wanted["l"].tolist()
        agree(found["p"], wanted["p"], atol=1e-5)
