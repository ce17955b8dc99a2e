"""Groups of nodes as exporters write them, with random parts: attention, quantised chains, recurrent layers, resizes,
control flow, and casts to f16 and back."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.fuzz.builder import Builder, Rejected, Value
from tests.fuzz.sums import image, window

LOW = -3.4028235e38


def constant(b: Builder, value: object, dtype: str = "float32") -> Value:
    return b.leaf(np.array(value, dtype), True)


# ---- attention ----


def attention(b: Builder) -> None:
    """softmax(q k' * scale + mask) v with heads split off, keys shared by groups, masks of every shape."""
    dtype = b.one(["float32", "float32", "float16"])
    batch, heads, group = b.one([1, 2]), b.one([1, 2, 3]), b.one([1, 1, 2])
    rows, keys = b.one([1, 3, 4, 5, 9, 17]), b.one([1, 3, 4, 7, 12, 17])
    depth, width = b.one([1, 4, 5, 8, 16]), b.one([1, 4, 6, 8])
    q = head_split(b, dtype, batch, heads * group, rows, depth)
    k = head_split(b, dtype, batch, heads, keys, depth)
    v = head_split(b, dtype, batch, heads, keys, width)
    if b.often(0.25):  # past keys and values before the new ones
        past = b.one([1, 4, 9])
        (k,) = b.emit("Concat", [b.fresh(dtype, (batch, heads, past, depth)), k], exact=True, axis=2)
        (v,) = b.emit("Concat", [b.fresh(dtype, (batch, heads, past, width)), v], exact=True, axis=2)
        keys += past
    if group > 1:
        k, v = repeated(b, k, group), repeated(b, v, group)
    scale = constant(b, depth**-0.5, dtype)
    how = b.chance.randrange(4)
    if how == 1:
        (q,) = b.emit("Mul", [q, scale])
    (kt,) = b.emit("Transpose", [k], exact=True, perm=[0, 1, 3, 2])
    if how == 2:
        (kt,) = b.emit("Mul", [kt, scale])
    (s,) = b.emit("MatMul", [q, kt])
    if how == 0:
        (s,) = b.emit("Mul", [s, scale] if b.often(0.5) else [scale, s])
    elif how == 3:
        (s,) = b.emit("Div", [s, constant(b, depth**0.5, dtype)])
    s = masked(b, s, batch, heads * group, rows, keys, dtype)
    (p,) = b.emit("Softmax", [s], axis=b.one([-1, 3]))
    if b.often(0.1):
        (p,) = b.emit("Cast", [p], exact=True, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    (o,) = b.emit("MatMul", [p, v])
    if b.often(0.8):
        (o,) = b.emit("Transpose", [o], exact=True, perm=[0, 2, 1, 3])
        (o,) = b.emit("Reshape", [o, b.ints(0, 0, -1)], exact=True)
        if b.often(0.4):
            b.emit("MatMul", [o, b.weights(dtype, (o.shape[-1], b.size() or 3))])


def head_split(b: Builder, dtype: str, batch: int, heads: int, rows: int, depth: int) -> Value:
    if b.often(0.3):
        return b.fresh(dtype, (batch, heads, rows, depth))
    x = b.fresh(dtype, (batch, rows, heads * depth))
    if b.often(0.4):
        (x,) = b.emit("MatMul", [x, b.weights(dtype, (heads * depth, heads * depth))])
        (x,) = b.emit("Add", [x, b.fresh(dtype, (heads * depth,))])
    (x,) = b.emit("Reshape", [x, b.ints(batch if b.often(0.5) else 0, -1, heads, depth)], exact=True)
    return b.emit("Transpose", [x], exact=True, perm=[0, 2, 1, 3])[0]


def repeated(b: Builder, x: Value, group: int) -> Value:
    n, heads, rows, depth = x.shape
    (x,) = b.emit("Unsqueeze", [x, b.ints(2)], exact=True)
    (x,) = b.emit("Expand", [x, b.ints(n, heads, group, rows, depth)], exact=True)
    return b.emit("Reshape", [x, b.ints(n, heads * group, rows, depth)], exact=True)[0]


def masked(b: Builder, s: Value, batch: int, heads: int, rows: int, keys: int, dtype: str) -> Value:
    low = {"float16": -65504.0}.get(dtype, LOW)
    way = b.chance.randrange(6)
    if way == 0:
        return s
    shape = (b.one([1, batch]), b.one([1, heads]), b.one([1, rows]), keys)
    shape = shape[b.one([0, 0, 0, 2, 3]) :]
    if way == 1:  # any numbers
        return b.emit("Add", [s, b.fresh(dtype, shape)])[0]
    if way == 2 and keys >= rows:  # a triangle, constant, with finite or infinite numbers
        square = np.where(np.tri(rows, keys, keys - rows, dtype=bool), 0, b.one([low, -1e4, -np.inf])).astype(
            dtype
        )
        where = square if b.often(0.5) else square[None, None]
        return b.emit("Add", [s, b.leaf(where, True)])[0]
    if way == 3:  # lengths
        kept = np.arange(keys) < b.numbers.integers(1, keys + 1, (batch, 1, 1, 1))
        return b.emit("Add", [s, b.leaf(np.where(kept, 0, low).astype(dtype))])[0]
    if way == 4:  # bools, chosen
        bools = b.numbers.random(shape) < 0.7
        bools[..., 0] = True
        pair = [s, constant(b, low if b.often(0.5) else -1e4, dtype)]
        if b.often(0.5):
            return b.emit("Where", [b.leaf(bools), *pair])[0]
        return b.emit("Where", [b.leaf(~bools), *pair[::-1]])[0]
    if way == 5 and len(shape) == 4:  # 1 and 0 of integers, as BERT does
        numbers = (b.numbers.random((batch, 1, 1, keys)) < 0.7).astype(np.int64)
        numbers[..., 0] = 1
        (f,) = b.emit(
            "Cast", [b.leaf(numbers)], exact=True, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )
        (f,) = b.emit("Sub", [constant(b, 1, dtype), f], exact=True)
        (f,) = b.emit("Mul", [f, constant(b, -1e4, dtype)], exact=True)
        return b.emit("Add", [s, f])[0]
    return s


def attention_op(b: Builder) -> None:
    """ONNX's own operator: groups of heads, past, causal or not, a cap of the scores, 3 or 4 dimensions."""
    if b.opset < 23:
        raise Rejected
    dtype = b.one(["float32", "float32", "float16"])
    batch, heads, group = b.one([1, 2]), b.one([1, 2]), b.one([1, 1, 2, 3])
    rows, keys, depth, width = b.one([1, 3, 5, 9]), b.one([3, 5, 9, 12]), b.one([4, 5, 8]), b.one([4, 6])
    attrs: dict[str, object] = {}
    if b.often(0.4):
        shapes = [
            (batch, rows, heads * group * depth),
            (batch, keys, heads * depth),
            (batch, keys, heads * width),
        ]
        attrs = {"q_num_heads": heads * group, "kv_num_heads": heads}
    else:
        shapes = [
            (batch, heads * group, rows, depth),
            (batch, heads, keys, depth),
            (batch, heads, keys, width),
        ]
    inputs: list[Value | None] = [b.fresh(dtype, s) for s in shapes]
    past = b.one([2, 4]) if b.often(0.3) else 0
    total = keys + past
    if b.often(0.4):
        mask = b.one(
            [(rows, total), (1, 1, rows, total), (batch, 1, rows, total), (batch, heads * group, rows, total)]
        )
        if b.often(0.5):
            bools = b.numbers.random(mask) < 0.7
            bools[..., 0] = True
            inputs.append(b.leaf(bools))
        else:
            inputs.append(b.fresh(dtype, mask))
    if past:
        inputs += [None] * (4 - len(inputs))
        inputs += [b.fresh(dtype, (batch, heads, past, depth)), b.fresh(dtype, (batch, heads, past, width))]
    if b.often(0.4):
        attrs["is_causal"] = 1
    if b.often(0.3):
        attrs["softcap"] = 2.0
    if b.often(0.3):
        attrs["scale"] = 0.3
    b.emit("Attention", inputs, 3 if past else 1, **attrs)


# ---- quantised chains ----


def scale_zero(b: Builder, kind: str, x: Value, axis: int | None = None) -> tuple[Value, Value]:
    shape = () if axis is None else (x.shape[axis],)
    info = np.iinfo(kind)
    step = np.asarray(b.numbers.uniform(0.02, 0.06, shape), np.float32)
    middle = (info.max + info.min + 1) // 2
    symmetric = kind == "int8" and b.often(0.6)
    zero = (
        np.zeros(shape)
        if symmetric
        else np.clip(middle + b.numbers.integers(-9, 9, shape), info.min, info.max)
    )
    return b.leaf(step, True), b.leaf(np.asarray(zero, kind), True)


def quantised(b: Builder, x: Value, kind: str = "") -> Value:
    """Quantised and back again, exact values only: others may lie at a tie."""
    if not x.exact:
        raise Rejected
    kind = kind or b.one(["uint8", "int8"])
    step, zero = scale_zero(b, kind, x)
    (q,) = b.emit("QuantizeLinear", [x, step, zero], exact=True)
    return b.emit("DequantizeLinear", [q, step, zero], exact=True)[0]


def held(b: Builder, shape: tuple[int, ...], kind: str, axis: int | None) -> Value:
    """A constant of bytes, dequantised: per tensor or per channel."""
    info = np.iinfo(kind)
    q = b.leaf(b.numbers.integers(info.min, info.max + 1, shape).astype(kind), True)
    channel = axis if axis is not None and b.often(0.6) else None
    step, zero = scale_zero(b, kind, q, channel)
    attrs = {} if channel is None else {"axis": channel}
    return b.emit("DequantizeLinear", [q, step, zero], exact=True, **attrs)[0]


def rounded(b: Builder, y: Value) -> None:
    """Quantised at last; not where a value lies at a tie, from where rounding takes it to either side."""
    kind = b.one(["uint8", "int8"])
    step, zero = scale_zero(b, kind, y)
    array = y.array.astype(np.float64) / float(step.array)
    if np.abs(array - np.floor(array) - 0.5).min(initial=1) < 1e-3:
        raise Rejected
    b.emit("QuantizeLinear", [y, step, zero], exact=True)


def quantised_chain(b: Builder) -> None:
    way = b.chance.randrange(4)
    if way == 0:
        x = quantised(b, b.fresh("float32", (b.one([1, 3, 9]), b.one([1, 4, 7, 16, 33]))))
        w = held(b, (x.shape[1], b.one([1, 5, 8, 17])), b.one(["int8", "uint8"]), 1)
        (y,) = b.emit("MatMul", [x, w])
        if b.often(0.5):
            (y,) = b.emit("Add", [y, b.fresh("float32", (y.shape[-1],))])
    elif way == 1:
        c = b.one([1, 3, 4, 8])
        x = quantised(b, b.fresh("float32", (b.one([1, 2]), c, b.one([3, 5, 8]), b.one([4, 7]))))
        group = b.one([1, c])
        out = group * b.one([1, 2, 3])
        w = held(b, (out, c // group, *b.one([(1, 1), (3, 3), (2, 3)])), b.one(["int8", "int8", "uint8"]), 0)
        attrs = window(b, x, list(w.shape[2:]))
        (y,) = b.emit(
            "Conv", [x, w, *([b.fresh("float32", (out,))] if b.often(0.5) else [])], group=group, **attrs
        )
    elif way == 2:
        shape = b.some_shape(1, 4)
        first = quantised(b, b.fresh("float32", shape))
        second = quantised(b, b.fresh("float32", b.spread(shape)))
        (y,) = b.emit(b.one(["Add", "Mul", "Sub"]), [first, second])
    else:
        integer_product(b)
        return
    if b.often(0.4):
        (y,) = b.emit("Relu", [y])
    rounded(b, y)


def integer_product(b: Builder) -> None:
    """MatMulInteger, ConvInteger and the QLinear operators, zero points of every kind."""
    kinds = [b.one(["uint8", "int8"]), b.one(["uint8", "int8"])]
    m, k, n = b.one([1, 3, 9]), b.one([1, 3, 4, 16, 33]), b.one([1, 5, 8, 17])
    way = b.chance.randrange(3)
    if way == 0:
        batch = b.one([(), (2,), (1, 3)])
        x, w = b.fresh(kinds[0], (*batch, m, k)), b.leaf(b.numbers_of(kinds[1], (k, n)), b.often(0.7))
        zeros: list[Value | None] = []
        if b.often(0.7):
            zeros.append(b.leaf(b.numbers_of(kinds[0], ()), b.often(0.7)))
            if b.often(0.6):
                zeros.append(b.leaf(b.numbers_of(kinds[1], (n,) if b.often(0.4) else ()), True))
        b.emit("MatMulInteger", [x, w, *zeros], exact=True)
    elif way == 1:
        c = b.one([1, 3, 4, 8])
        x = b.fresh(kinds[0], (1, c, b.one([3, 5]), b.one([4, 7])))
        w = b.leaf(b.numbers_of(kinds[1], (b.one([2, 5]), c, *b.one([(1, 1), (3, 3)]))), True)
        zeros = [b.leaf(b.numbers_of(kinds[0], ()), True)] if b.often(0.6) else []
        b.emit("ConvInteger", [x, w, *zeros], exact=True, **window(b, x, list(w.shape[2:])))
    else:
        block = b.one([16, 32])
        bits, size = b.one([4, 8]), b.one([block, 2 * block, 2 * block - 5])
        blocks = -(-size // block)
        x = b.fresh("float32", (b.one([1, 2, 9]), size))
        packed = b.leaf(b.numbers_of("uint8", (n, blocks, block * bits // 8)), True)
        steps = b.leaf(b.numbers_of("float32", (n, blocks), 0.01, 0.05), True)
        extra: list[Value | None] = []
        if b.often(0.5):
            extra.append(b.leaf(b.numbers_of("uint8", (n, -(-blocks * bits // 8))), True))
        add_weights(b, x, packed, steps, extra, n, bits, block)


def add_weights(
    b: Builder,
    x: Value,
    packed: Value,
    steps: Value,
    extra: list[Value | None],
    n: int,
    bits: int,
    block: int,
) -> None:
    """com.microsoft's MatMulNBits, which onnx.reference does not know: its value is put together here."""
    q, blocks = packed.array, packed.shape[1]
    codes = q if bits == 8 else np.stack([q & 15, q >> 4], -1).reshape(n, blocks, block)
    zeros = np.full((n, blocks), 1 << (bits - 1))
    if extra and extra[0] is not None:
        z = extra[0].array
        zeros = z if bits == 8 else np.stack([z & 15, z >> 4], -1).reshape(n, -1)[:, :blocks]
    wide = (codes.astype(np.float64) - zeros[..., None]) * steps.array[..., None]
    k = x.shape[1]
    y = (x.array.astype(np.float64) @ wide.reshape(n, -1)[:, :k].T).astype(np.float32)
    name = f"t{len(b.values)}"
    inputs = [x, packed, steps, *extra]
    b.nodes.append(
        helper.make_node(
            "MatMulNBits", ["" if v is None else v.name for v in inputs], [name], domain="com.microsoft",
            K=k, N=n, bits=bits, block_size=block,
        )
    )  # fmt: skip
    b.values[name] = Value(name, y, b.shaken(y), False)


def dynamic(b: Builder) -> None:
    x = b.of("float32", low=1, high=3, exact=True)
    if not x.array.size:
        raise Rejected
    b.emit("DynamicQuantizeLinear", [x], 3)  # a GPU divides to 2.5 ulp


# ---- sizes, sequences, bodies ----


def resize(b: Builder) -> None:
    x = image(b, b.one([1, 2, 2, 2]), "float32")
    mode = b.one(["nearest", "linear", "cubic"])
    attrs: dict[str, object] = {"mode": mode}
    attrs["coordinate_transformation_mode"] = b.one(
        ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
    )
    if mode == "nearest":
        attrs["nearest_mode"] = b.one(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic" and b.often(0.3):
        attrs["exclude_outside"] = 1
        attrs["cubic_coeff_a"] = -0.5
    if mode != "nearest" and b.often(0.3):
        attrs["antialias"] = 1
    spatial = x.rank - 2
    if b.often(0.5):
        factors = [1.0, 1.0, *(b.one([0.5, 1.0, 1.5, 2.0, 3.0, 0.6]) for _ in range(spatial))]
        b.emit("Resize", [x, None, b.leaf(np.array(factors, np.float32), True)], **attrs)
    else:
        sizes = [*x.shape[:2], *(b.one([1, 2, 5, 8, 13]) for _ in range(spatial))]
        b.emit("Resize", [x, None, None, b.ints(*sizes)], **attrs)


def sampled(b: Builder) -> None:
    if b.opset < 20:
        raise Rejected  # its modes had other names
    x = image(b, 2, "float32")
    grid = b.fresh("float32", (x.shape[0], b.one([1, 3, 5]), b.one([2, 4]), 2), -1.2, 1.2)
    b.emit(
        "GridSample", [x, grid], mode=b.one(["linear", "cubic"]), align_corners=b.chance.randrange(2),
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
        [turns, constant(b, True, "bool"), start],
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


ATTENTION = {attention: 3, attention_op: 2}
QUANTISED = {quantised_chain: 4, dynamic: 1, integer_product: 2}
BODIES = {branch: 1, loop: 1, scanned: 1, recurrent: 2, resize: 3, sampled: 1}
