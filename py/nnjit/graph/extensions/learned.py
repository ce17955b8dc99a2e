"""ai.onnx.ml: linear models, scalers and encoders, as scikit-learn's converters write them.

Numbers become ONNX's own operators; where text is looked up, onnx.reference stays. What onnxruntime answers for two
classes with one score is followed where the standard leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi
from typing import Any

import numpy as np

from ..ir import Value
from .body import Body
from .declare import EXPANSIONS, Expansion, Outputs

ML = "ai.onnx.ml"
_NUMBERS = ("f32", "f64", "i64", "i32")


def expands(name: str) -> Callable[[Expansion], Expansion]:
    """Registers the expansion of an operator whose schema onnx has."""

    def register(function: Expansion) -> Expansion:
        EXPANSIONS[ML, name] = function
        return function

    return register


def rows(b: Body, x: Value) -> Value:
    """[n, features] as floats; a vector is one row."""
    shape = b.dims(x, 1, 2)
    x = b.reshape(x, (1, *shape)) if len(shape) == 1 else x
    return x if x.dtype in ("f32", "f64") else b.cast(x, "f32")


# ---- scores and labels ----


def transformed(b: Body, x: Value, name: str) -> Value:
    """post_transform of scores [n, classes]"""
    if name == "LOGISTIC":
        return b("Sigmoid", x)
    if name == "SOFTMAX":
        return b("Softmax", x, axis=1)
    if name == "SOFTMAX_ZERO":  # zeros stay zeros, and count for nothing
        live = b("Greater", b("Abs", x), b.const(1e-7, x.dtype))
        shifted = b("Exp", b("Sub", x, b("ReduceMax", x, b.const([1]))))
        e = b("Where", live, shifted, b("Mul", x, b("Exp", b("Neg", b("ReduceMax", x, b.const([1]))))))
        return b("Div", e, b("ReduceSum", e, b.const([1])))
    if name == "PROBIT":
        return _probit(b, x)
    if name != "NONE":
        b.refuse(f"post_transform {name!r}", "known are NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO and PROBIT")
    return x


def _probit(b: Body, p: Value) -> Value:
    """√2 erf⁻¹(2p - 1), by Winitzki's approximation (2008)"""

    def number(v: float) -> Value:
        return b.const(v, p.dtype)

    z = b("Sub", b("Mul", p, number(2)), number(1))
    log = b("Log", b("Sub", number(1), b("Mul", z, z)))
    half = b("Add", b("Mul", log, number(0.5)), number(2 / (pi * 0.147)))
    root = b("Sqrt", b("Sub", b("Mul", half, half), b("Mul", log, number(1 / 0.147))))
    return b("Mul", b("Mul", b("Sign", z), b("Sqrt", b("Sub", root, half))), number(2**0.5))


def labels_of(b: Body, which: Value) -> Value:
    """The labels with numbers `which`."""
    texts = b.attr("classlabels_strings")
    numbers = b.attr("classlabels_ints") or b.attr("classlabels_int64s")
    known = b.const(texts, "string") if texts else b.const(numbers or [0, 1])
    return b("Gather", known, which, axis=0)


def label_count(b: Body) -> int:
    """How many labels the node names."""
    names = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")
    return max(len(b.attr(n) or []) for n in names)


def _linear(b: Body, x: Value, outputs: int) -> Value:
    """x W' + c, [n, outputs]"""
    features = b.shape(x)[1]
    weights = np.asarray(b.attr("coefficients"), np.float32)
    if weights.size != outputs * features:
        b.fail("the coefficients do not fit the features", outputs * features, weights.size)
    y = b("MatMul", x, b.const(weights.reshape(outputs, features).T, x.dtype))
    bias = b.attr("intercepts")
    return b("Add", y, b.const(bias, x.dtype)) if bias else y


@expands("LinearRegressor")
def linear_regressor(b: Body) -> Value:
    """X W' + c"""
    y = _linear(b, rows(b, b.given("X")), b.attr("targets", 1))
    return b.cast(transformed(b, y, b.attr("post_transform", "NONE")), "f32")


@expands("LinearClassifier")
def linear_classifier(b: Body) -> Outputs:
    """The labels of the highest scores; with one score, of its sign"""
    x = rows(b, b.given("X"))
    classes = len(b.attr("coefficients")) // max(1, b.shape(x)[1])
    scores = _linear(b, x, classes)
    transform = b.attr("post_transform", "NONE")
    if classes > 1:
        best = b("ArgMax", scores, axis=1, keepdims=0)
        return [labels_of(b, best), b.cast(transformed(b, scores, transform), "f32")]
    if label_count(b) != 2:
        return None
    flat = b.reshape(scores, (b.shape(x)[0],))
    best = b.cast(b("Greater", flat, b.const(0, x.dtype)), "i64")
    if transform in ("LOGISTIC", "PROBIT"):
        scores = transformed(b, scores, transform)
    both = b("Concat", b("Sub", b.const(1, x.dtype), scores), scores, axis=1)
    return [labels_of(b, best), b.cast(both, "f32")]


# ---- scalers ----


@expands("Scaler")
def scaler(b: Body) -> Value:
    """(x - offset) * scale"""
    x = b.given("X")
    x = x if x.dtype in ("f32", "f64") else b.cast(x, "f32")
    y = b("Sub", x, b.const(b.attr("offset") or [0.0], x.dtype))
    return b.cast(b("Mul", y, b.const(b.attr("scale") or [1.0], x.dtype)), "f32")


@expands("Normalizer")
def normalizer(b: Body) -> Value:
    """Rows over their largest element, the sum of their magnitudes, or their length"""
    given = b.given("X")
    x, axis, norm = rows(b, given), b.const([1]), b.attr("norm", "MAX")
    if norm == "MAX":
        size = b("ReduceMax", x, axis)
    else:
        size = b("ReduceL1" if norm == "L1" else "ReduceL2", x, axis)
    one = b("Where", b("Equal", size, b.const(0, x.dtype)), b.const(1, x.dtype), size)
    return b.cast(b.reshape(b("Div", x, one), b.shape(given)), "f32")


@expands("Binarizer")
def binarizer(b: Body) -> Value:
    """1 above the threshold, else 0"""
    x = b.given("X")
    return b.cast(b("Greater", x, b.const(b.attr("threshold", 0.0), x.dtype)), x.dtype)


@expands("Imputer")
def imputer(b: Body) -> Value | None:
    """One value of each column, or of all, in the place of what is missing"""
    x = b.given("X")
    whole = x.dtype in ("i64", "i32")
    values = b.attr("imputed_value_int64s" if whole else "imputed_value_floats")
    absent = b.attr("replaced_value_int64", 0) if whole else b.attr("replaced_value_float", 0.0)
    if not values or x.dtype not in _NUMBERS:
        return None
    gone = b("IsNaN", x) if absent != absent else b("Equal", x, b.const(absent, x.dtype))
    return b("Where", gone, b.const(values, x.dtype), x)


# ---- features ----


@expands("ArrayFeatureExtractor")
def array_feature_extractor(b: Body) -> Value | None:
    """Columns by their numbers; of a vector, as one row"""
    x, which = b.given("X"), b.given("Y")
    if x.dtype not in _NUMBERS:
        return None
    y = b("Gather", x, b.reshape(which, (which.size or 0,)), axis=-1)
    return b.reshape(y, (1, which.size or 0)) if len(b.shape(x)) == 1 else y


@expands("FeatureVectorizer")
def feature_vectorizer(b: Body) -> Value:
    """Features beside each other, as floats"""
    parts = [b.cast(rows(b, x), "f32") for x in b.node.inputs if x is not None]
    sizes = b.attr("inputdimensions") or [b.shape(p)[1] for p in parts]
    return b("Concat", *(b.slice(p, 1, 0, n) for p, n in zip(parts, sizes, strict=True)), axis=1)


@expands("OneHotEncoder")
def one_hot_encoder(b: Body) -> Value | None:
    """[…] → […, categories], all zeros for what is none of them"""
    x, known = b.given("X"), b.attr("cats_int64s")
    if not known or x.dtype not in _NUMBERS:
        return None
    apart = b.reshape(b.cast(x, "i64"), (*b.shape(x), 1))
    return b.cast(b("Equal", apart, b.const(known)), "f32")


@expands("LabelEncoder")
def label_encoder(b: Body) -> Outputs:
    """As of version 1, which counted a list of classes; the reference has the later ones"""
    classes = b.attr("classes_strings")
    return None if not classes else _encoded(b, classes, list(range(len(classes))), -1)


@expands("CategoryMapper")
def category_mapper(b: Body) -> Outputs:
    """Texts as numbers, or numbers as texts; a LabelEncoder does it"""
    return _encoded(b, b.attr("cats_strings") or [], b.attr("cats_int64s") or [], -1)


def _encoded(b: Body, texts: Sequence[str], numbers: Sequence[int], default: int) -> Value:
    """Texts become numbers, numbers texts."""
    attrs: dict[str, Any]
    if b.given("X").dtype == "string":
        attrs = {
            "keys_strings": texts,
            "values_int64s": numbers,
            "default_int64": b.attr("default_int64", default),
        }
    else:
        attrs = {"keys_int64s": numbers, "values_strings": texts}
        attrs["default_string"] = b.attr("default_string", "_Unused")
    return b("LabelEncoder", b.given("X"), domain=ML, **attrs)
