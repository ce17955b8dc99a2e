"""Resizes and grids of samples, recurrent layers, and control flow with bodies: If, Loop, Scan."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.fuzz.builder import Builder, Rejected, Value
from tests.fuzz.sums import image


def resize(b: Builder) -> None:
    x = b.finite(image(b, b.one([1, 2, 2, 2]), "float32"))  # taps of weight 0
    mode = b.one(["nearest", "linear", "cubic"])
    way = b.one(
        "half_pixel asymmetric align_corners pytorch_half_pixel half_pixel_symmetric tf_crop_and_resize".split()
    )
    attrs: dict[str, object] = {"mode": mode, "coordinate_transformation_mode": way}
    if mode == "nearest":
        attrs["nearest_mode"] = b.one(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    elif b.often(0.3):
        attrs["exclude_outside"] = 1
    if mode == "cubic" and b.often(0.3):
        attrs["cubic_coeff_a"] = -0.5
    if mode != "nearest" and b.often(0.3):
        attrs["antialias"] = 1
    spatial = x.rank - 2
    if way == "half_pixel_symmetric" and ((mode == "cubic" and spatial != 2) or b.doubted):
        # by a rounding of 2e-16 the reference takes the neighbours of the place before; onnxruntime has images alone
        raise Rejected
    if way == "pytorch_half_pixel" and b.doubted:
        raise Rejected  # where one place comes out, the reference begins before the first
    roi: Value | None = None
    if way == "tf_crop_and_resize":
        ends = (
            [b.one([-0.25, 0.0, 0.125, 0.25]) for _ in range(spatial)],
            [b.one([0.5, 1.0, 1.25]) for _ in range(spatial)],
        )
        roi = b.leaf(np.array([0.0, 0.0, *ends[0], 1.0, 1.0, *ends[1]], np.float32), True)
        attrs["extrapolation_value"] = b.one([0.0, -3.5])
    if way != "tf_crop_and_resize" and b.often(0.5):  # of lengths that are not whole it makes other steps
        factors = [1.0, 1.0, *(b.one([0.5, 1.0, 1.5, 2.0, 3.0, 0.6]) for _ in range(spatial))]
        b.emit("Resize", [x, roi, b.leaf(np.array(factors, np.float32), True)], **attrs)
    elif way != "tf_crop_and_resize" and b.often(0.4):
        attrs["keep_aspect_ratio_policy"] = b.one(["not_larger", "not_smaller"])
        sizes = [b.one([1, 2, 3, 7, 13]) for _ in range(spatial)]
        b.emit("Resize", [x, None, None, b.ints(*sizes)], axes=list(range(2, x.rank)), **attrs)
    else:
        sizes = [*x.shape[:2], *(b.one([1, 2, 3, 5, 7, 8, 13]) for _ in range(spatial))]
        b.emit("Resize", [x, roi, None, b.ints(*sizes)], **attrs)


def sampled(b: Builder) -> None:
    if b.opset < 20:
        raise Rejected  # its modes had other names
    x = image(b, 2, "float32")
    grid = b.fresh("float32", (x.shape[0], b.one([1, 3, 5]), b.one([2, 4]), 2), -1.2, 1.2)
    b.emit(
        "GridSample", [x, grid], mode=b.one(["nearest", "linear", "cubic"]), align_corners=b.chance.randrange(2),
        padding_mode=b.one(["zeros", "border", "reflection"]),
    )  # fmt: skip


def recurrent(b: Builder) -> None:
    op, gates = b.one([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    time, batch, wide, hidden = b.one([1, 2, 5]), b.one([1, 2, 3]), b.one([1, 4, 7]), b.one([1, 3, 4, 8])
    way = b.one(["forward", "reverse", "bidirectional"])
    d = 2 if way == "bidirectional" else 1
    attrs: dict[str, object] = {"hidden_size": hidden, "direction": way}
    x = b.fresh("float32", (time, batch, wide))
    inputs: list[Value | None] = [x, b.weights("float32", (d, gates * hidden, wide))]
    inputs.append(b.weights("float32", (d, gates * hidden, hidden)))
    inputs.append(b.fresh("float32", (d, 2 * gates * hidden), -0.5, 0.5) if b.often(0.6) else None)
    inputs.append(None)
    if b.often(0.4):
        inputs.append(b.fresh("float32", (d, batch, hidden)))
    if op == "GRU" and b.often(0.5):
        attrs["linear_before_reset"] = 1
    b.emit(op, inputs, 3 if op == "LSTM" else 2, **attrs)


def branch(b: Builder) -> None:
    """If: bodies of one node that read outer values."""
    x = b.of("float32", "int64", low=0, high=3)
    kind = helper.np_dtype_to_tensor_dtype(x.array.dtype)

    def body(name: str, op: str) -> object:
        out = f"{name}{len(b.values)}"
        node = helper.make_node(op, [x.name] * (2 if op in ("Add", "Mul") else 1), [out])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(out, kind, None)])

    cond = b.leaf(np.array(b.often(0.5)))
    b.emit(
        "If",
        [cond],
        then_branch=body("then", b.one(["Add", "Neg"])),
        else_branch=body("else", b.one(["Mul", "Abs"])),
    )


def loop(b: Builder) -> None:
    """Loop: a carried sum of outer values, and what each turn had."""
    x = b.of("float32", low=0, high=2)
    kind, n = TensorProto.FLOAT, len(b.values)
    names = [f"{name}{n}" for name in ("i", "c", "s", "c_out", "s_out", "each")]
    i, c, s, c_out, s_out, each = names
    nodes = [
        helper.make_node("Identity", [c], [c_out]),
        helper.make_node("Add", [s, x.name], [s_out]),
        helper.make_node(b.one(["Neg", "Identity", "Relu"]), [s_out], [each]),
    ]
    inputs = [
        helper.make_tensor_value_info(i, TensorProto.INT64, []),
        helper.make_tensor_value_info(c, TensorProto.BOOL, []),
        helper.make_tensor_value_info(s, kind, x.shape),
    ]
    outputs = [
        helper.make_tensor_value_info(c_out, TensorProto.BOOL, []),
        helper.make_tensor_value_info(s_out, kind, None),
        helper.make_tensor_value_info(each, kind, None),
    ]
    turns = b.leaf(np.array(b.one([1, 2, 4]), np.int64))
    start = b.fresh("float32", x.shape)
    b.emit(
        "Loop",
        [turns, b.constant(True, "bool"), start],
        2,
        body=helper.make_graph(nodes, "turn", inputs, outputs),
    )


def scanned(b: Builder) -> None:
    """Scan along the first dimension: a running sum."""
    x = b.of("float32", low=1, high=3)
    if not x.array.size:
        raise Rejected
    n, kind = len(b.values), TensorProto.FLOAT
    s, row, s_out, each = (f"{name}{n}" for name in ("s", "row", "s_out", "each"))
    nodes = [helper.make_node("Add", [s, row], [s_out]), helper.make_node("Tanh", [s_out], [each])]
    one = [helper.make_tensor_value_info(v, kind, x.shape[1:]) for v in (s, row)]
    out = [helper.make_tensor_value_info(v, kind, None) for v in (s_out, each)]
    start = b.fresh("float32", x.shape[1:])
    b.emit("Scan", [start, x], 2, body=helper.make_graph(nodes, "row", one, out), num_scan_inputs=1)


BODIES = {branch: 1, loop: 1, scanned: 1, recurrent: 2, resize: 3, sampled: 1}
