"""Language models: BERT, DeBERTa, T5, GPT-2, Llama, Gemma, Phi, Qwen, GPT-NeoX, Bloom, Mistral, a mixture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tests.fuzz.families import parts as p
from tests.fuzz.families.net import Net

FAR = np.iinfo(np.int64).max


def lowest(n: Net) -> str:
    return n.constant(np.asarray(np.finfo(n.dtype).min, n.dtype))


def bert(
    opset: int = 14, batch: int = 2, length: int = 9, dtype: str = "float32", pooled: bool = True
) -> Net:
    """Embeddings of words, places and kinds; the mask as (1 - mask) * lowest; a pooler, or the mean of what is seen."""
    n = Net(opset, dtype)
    wide = 32
    ids = n.feed("input_ids", n.numbers.integers(0, 60, (batch, length)), ["batch", "sequence"])
    kept = (np.arange(length) < n.numbers.integers(2, length + 1, (batch, 1))).astype(np.int64)
    mask = n.feed("attention_mask", kept, ["batch", "sequence"])
    kinds = n.feed("token_type_ids", np.zeros((batch, length), np.int64), ["batch", "sequence"])
    bias = n.cast(n.unsqueeze(mask, 1, 2), dtype)
    bias = n.Mul(n.Sub(1.0, bias), lowest(n))
    y = n.Add(n.Gather(n.weight(60, wide, scale=0.5), ids), n.Gather(n.weight(2, wide, scale=0.5), kinds))
    until = n.unsqueeze(n.dim(ids, 1), 0)
    places = n.Slice(n.hold(np.arange(40)[None]), [0], until, [1])
    y = p.layer_norm(n, n.Add(y, n.Gather(n.weight(40, wide, scale=0.5), places)), wide, 1e-12)
    for _ in range(2):
        y = p.layer_norm(n, n.Add(p.self_attention(n, y, wide, 4, bias), y), wide, 1e-12)
        y = p.layer_norm(n, n.Add(p.mlp(n, y, wide, 64), y), wide, 1e-12)
    if pooled:
        n.output(y, n.Tanh(p.linear(n, n.Gather(y, 0, axis=1), wide, wide, form="gemm")))
        return n
    seen = n.cast(n.Expand(n.unsqueeze(mask, -1), n.Shape(y)), dtype)
    total = n.Div(n.reduce("ReduceSum", n.Mul(y, seen), [1], 0),
                  n.Clip(n.reduce("ReduceSum", seen, [1], 0), n.constant(np.asarray(1e-9, dtype))))  # fmt: skip
    norm = n.Expand(
        n.Clip(n.reduce("ReduceL2", total, [1]), n.constant(np.asarray(1e-12, dtype))), n.Shape(total)
    )
    n.output(n.Div(total, norm))
    return n


def deberta(opset: int = 15, length: int = 8) -> Net:
    """Disentangled attention: content to position and back, gathered by relative places with GatherElements."""
    n = Net(opset)
    wide, heads, depth, span = 32, 4, 8, 6
    ids = n.feed("input_ids", n.numbers.integers(0, 60, (2, length)), ["batch", "sequence"])
    mask = n.feed(
        "attention_mask",
        (np.arange(length) < [[length], [length - 3]]).astype(np.int64),
        ["batch", "sequence"],
    )
    y = p.layer_norm(n, n.Gather(n.weight(60, wide, scale=0.5), ids), wide, 1e-7)
    y = n.Mul(y, n.cast(n.unsqueeze(mask, 2), "float32"))
    both = n.Mul(n.unsqueeze(mask, 1, 2), n.unsqueeze(n.squeeze(n.unsqueeze(n.unsqueeze(mask, 1, 2), -1), -3), 1)
                 if False else n.unsqueeze(n.unsqueeze(mask, 1), -1))  # fmt: skip
    gone = n.Not(n.cast(both, "bool"))
    q, k, v = (p.heads_of(n, p.linear(n, y, wide, wide), heads, depth) for _ in range(3))
    root = float((3 * depth) ** 0.5)
    s = n.Div(n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2])), root)
    line = n.Range(n.constant(0), n.dim(ids, 1), n.constant(1))
    apart = n.Sub(n.unsqueeze(line, 1), n.unsqueeze(line, 0))
    rel = p.layer_norm(n, n.weight(2 * span, wide, scale=0.5), wide)
    pk = n.Transpose(n.Reshape(p.linear(n, rel, wide, wide), [1, 2 * span, heads, depth]), perm=[0, 2, 1, 3])
    pq = n.Transpose(n.Reshape(p.linear(n, rel, wide, wide), [1, 2 * span, heads, depth]), perm=[0, 2, 1, 3])
    for product, at in ((n.MatMul(q, n.Transpose(pk, perm=[0, 1, 3, 2])), apart),
                        (n.MatMul(k, n.Transpose(pq, perm=[0, 1, 3, 2])), n.Neg(apart))):  # fmt: skip
        place = n.Clip(n.Add(at, n.constant(span)), n.constant(0), n.constant(2 * span - 1))
        dims = n.Shape(s)
        found = n.GatherElements(product, n.Expand(n.unsqueeze(place, 0, 1), dims), axis=3)
        if at != apart:
            found = n.Transpose(found, perm=[0, 1, 3, 2])
        s = n.Add(s, n.Div(found, root))
    w = n.Softmax(n.Where(gone, lowest(n), s), axis=-1)
    w = n.Where(gone, n.constant(np.float32(0)), w)
    y = p.layer_norm(n, n.Add(y, p.linear(n, p.joined(n, n.MatMul(w, v), wide), wide, wide)), wide)
    n.output(y)
    return n


def t5(opset: int = 13, length: int = 11, decoder: bool = False) -> Net:
    """Buckets of relative positions by Log, Min, Where; RMS norms; no scale of the scores; relu or gated gelu."""
    n = Net(opset)
    wide, heads, depth, buckets = 32, 4, 8, 16
    ids = n.feed("input_ids", n.numbers.integers(0, 60, (2, length)), ["batch", "sequence"])
    mask = n.feed(
        "attention_mask",
        (np.arange(length) < [[length], [length - 4]]).astype(np.int64),
        ["batch", "sequence"],
    )
    y = n.Gather(n.weight(60, wide, scale=1), ids)
    line = n.Range(n.constant(0), n.dim(ids, 1), n.constant(1))
    apart = n.Sub(n.unsqueeze(line, 0), n.unsqueeze(line, 1))
    half = buckets if decoder else buckets // 2
    if decoder:
        far, first = n.Neg(n.Min(apart, n.constant(0))), n.constant(0)
    else:
        first = n.Mul(n.cast(n.Greater(apart, n.constant(0)), "int64"), n.constant(half))
        far = n.Abs(apart)
    near = n.Less(far, n.constant(half // 2))
    logs = n.Div(n.Log(n.Div(n.cast(far, "float32"), float(half // 2))), float(np.log(32 / (half // 2))))
    large = n.Add(n.cast(n.Mul(logs, float(half - half // 2)), "int64"), n.constant(half // 2))
    large = n.Min(large, n.ConstantOfShape(n.Shape(large), value=_ints(half - 1)))
    bucket = n.Add(first, n.Where(near, far, large))
    bias = n.unsqueeze(n.Transpose(n.Gather(n.weight(buckets, heads, scale=1), bucket), perm=[2, 0, 1]), 0)
    seen = n.cast(n.unsqueeze(mask, 1, 2), "float32")
    if decoder:
        rows = n.LessOrEqual(n.unsqueeze(n.unsqueeze(line, 0), 0), n.unsqueeze(n.unsqueeze(line, 0), 2))
        seen = n.Mul(n.unsqueeze(n.cast(rows, "float32"), 1), seen)
    bias = n.Add(bias, n.Mul(n.Sub(1.0, seen), lowest(n)))
    for gated in (False, True):
        z = p.rms_norm(n, y, wide)
        q, k, v = (p.heads_of(n, p.linear(n, z, wide, wide, False), heads, depth) for _ in range(3))
        s = n.Add(n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2])), bias)
        a = n.MatMul(n.cast(n.Softmax(n.cast(s, "float32"), axis=-1), "float32"), v)
        y = n.Add(y, p.linear(n, p.joined(n, a, wide), wide, wide, False))
        z = p.rms_norm(n, y, wide)
        if gated:
            z = n.Mul(p.gelu(n, p.linear(n, z, wide, 64, False), "tanh"), p.linear(n, z, wide, 64, False))
        else:
            z = n.Relu(p.linear(n, z, wide, 64, False))
        y = n.Add(y, p.linear(n, z, 64, wide, False))
    n.output(p.rms_norm(n, y, wide))
    return n


def _ints(number: int) -> object:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([number]))


def gpt2(opset: int = 13, past: int = 4, steps: int = 3, form: str = "where", dtype: str = "float32") -> Net:
    """c_attn as a Gemm between Reshapes, Split, a triangle sliced by lengths; past keys joined by Concat."""
    n = Net(opset, dtype)
    wide, heads, depth = 32, 4, 8
    ids = n.feed("input_ids", n.numbers.integers(0, 60, (2, steps)), ["batch", "steps"])
    mask = n.feed(
        "attention_mask", (np.arange(past + steps) >= [[0], [2]]).astype(np.int64), ["batch", "all"]
    )
    old = [n.feed(f"past_key_values.0.{t}", (2, heads, past, depth), ["batch", heads, "past", depth])
           for t in ("key", "value")]  # fmt: skip
    place = n.Sub(n.CumSum(mask, n.constant(np.int64(1))), n.constant(1))
    place = n.Where(n.Equal(mask, n.constant(0)), n.constant(1), place)
    place = n.Slice(place, n.unsqueeze(n.dim(old[0], 2), 0), [FAR], [1])
    table = n.weight(60, wide, scale=0.5)
    y = n.Add(n.Gather(table, ids), n.Gather(n.weight(40, wide, scale=0.5), place))
    z = p.layer_norm(n, y, wide)
    flat = n.Reshape(z, [-1, wide])
    flat = n.Gemm(flat, n.weight(wide, 3 * wide, scale=wide**-0.5), n.weight(3 * wide, scale=0.1))
    z = n.reshape_by(flat, n.dim(z, 0), n.dim(z, 1), 3 * wide)
    q, k, v = (p.heads_of(n, t, heads, depth) for t in n.split(z, [wide] * 3, 2))
    k, v = n.Concat(old[0], k, axis=-2), n.Concat(old[1], v, axis=-2)
    s = n.Div(n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2])), float(depth**0.5))
    rows, all_ = n.dim(q, 2), n.dim(k, 2)
    triangle = n.hold(np.tri(40, dtype=bool)[None, None])
    begin = n.unsqueeze(n.Sub(all_, rows), 0)
    part = n.Slice(n.Slice(triangle, begin, n.unsqueeze(all_, 0), [2]), [0], n.unsqueeze(all_, 0), [3])
    if form == "where":
        s = n.Where(part, s, lowest(n))
    else:  # as older exports: s * b - 1e4 * (1 - b)
        b = n.cast(part, dtype)
        s = n.Sub(n.Mul(s, b), n.Mul(n.Sub(1.0, b), 1e4))
    s = n.Add(
        s, n.Mul(n.Sub(1.0, n.cast(n.unsqueeze(mask, 1, 2), dtype)), lowest(n) if form == "where" else -1e4)
    )
    y = n.Add(p.linear(n, p.joined(n, n.MatMul(n.Softmax(s, axis=-1), v), wide), wide, wide), y)
    y = n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 96, "tanh"))
    n.output(n.MatMul(p.layer_norm(n, y, wide), n.Transpose(table, perm=[1, 0])), k, v)
    return n


def rope(n: Net, x: str, cos: str, sin: str, depth: int, form: str = "half", part: int = 0) -> str:
    """x [B, H, S, D]. form: 'half' (rotate_half by Slice, Neg, Concat), 'split', 'pairs' (even and odd), 'complex'
    (real and imaginary by Reshape). part: only so many of the depth are turned."""
    rest = None
    if part:
        x, rest = n.Slice(x, [0], [part], [3]), n.Slice(x, [part], [FAR], [3])
        depth = part
    half = depth // 2
    if form == "pairs":
        even, odd = n.Slice(x, [0], [FAR], [3], [2]), n.Slice(x, [1], [FAR], [3], [2])
        turned = n.Concat(n.unsqueeze(n.Neg(odd), -1), n.unsqueeze(even, -1), axis=-1)
        turned = n.Reshape(turned, n.Shape(x))
    elif form == "split":
        a, b = n.split(x, [half, half], 3)
        turned = n.Concat(n.Neg(b), a, axis=-1)
    elif form == "complex":
        y = n.Reshape(x, [0, 0, 0, half, 2])
        re, im = n.Gather(y, 0, axis=4), n.Gather(y, 1, axis=4)
        c, s = n.Slice(cos, [0], [half], [3]), n.Slice(sin, [0], [half], [3])
        pair = n.Sub(n.Mul(re, c), n.Mul(im, s)), n.Add(n.Mul(re, s), n.Mul(im, c))
        y = n.Reshape(n.Concat(*(n.unsqueeze(t, -1) for t in pair), axis=-1), n.Shape(x))
        return str(y if rest is None else n.Concat(y, rest, axis=-1))
    else:
        a, b = n.Slice(x, [0], [half], [3]), n.Slice(x, [half], [FAR], [3])
        turned = n.Concat(n.Neg(b), a, axis=-1)
    y = n.Add(n.Mul(x, cos), n.Mul(turned, sin))
    return str(y if rest is None else n.Concat(y, rest, axis=-1))


def angles(n: Net, place: str, depth: int, doubled: str = "concat") -> tuple[str, str]:
    """cos and sin [B, 1, S, D] of positions [B, S]: a product of the speeds with the places, in f32."""
    speeds = n.hold((1e4 ** (-np.arange(0, depth, 2) / depth)).astype(np.float32)[None, :, None])
    many = n.Concat(n.unsqueeze(n.dim(place, 0), 0), n.constant([-1, 1]), axis=0)
    grown = n.Expand(speeds, n.Where(n.Equal(many, n.constant([-1, -1, -1])), n.constant([1, 1, 1]), many))
    turn = n.Transpose(n.MatMul(grown, n.cast(n.unsqueeze(place, 1), "float32")), perm=[0, 2, 1])
    if doubled == "concat":
        turn = n.Concat(turn, turn, axis=-1)
    else:
        turn = n.Reshape(n.Tile(n.unsqueeze(turn, -1), n.constant([1, 1, 1, 2])), [0, 0, depth])
    out = [n.unsqueeze(f(turn), 1) for f in (n.Cos, n.Sin)]
    cos, sin = (n.cast(t, n.dtype) if n.dtype != "float32" else t for t in out)
    return cos, sin


def llama(
    opset: int = 17,
    past: int = 5,
    steps: int = 3,
    dtype: str = "float32",
    kind: str = "llama",
    groups: int = 2,
) -> Net:
    """Keys and values shared by Expand. kind: 'llama'; 'gemma' (softcap, norms of 1 + w, gelu, norms after, embeddings
    times sqrt); 'qwen' (biases, norms of q and k); 'phi' (attention and MLP side by side, a part of the depth turned);
    'mistral' (a window); 'neox' (pairs, fused qkv)."""
    n = Net(opset, dtype)
    wide, heads, depth, batch = 32, 4, 8, 2
    shared = heads // groups
    ids = n.feed("input_ids", n.numbers.integers(0, 60, (batch, steps)), ["batch", "steps"])
    mask = n.feed(
        "attention_mask", (np.arange(past + steps) >= [[0], [2]]).astype(np.int64), ["batch", "all"]
    )
    place = np.maximum(np.arange(past, past + steps) - np.array([[0], [2]]), 0)
    place = n.feed("position_ids", place, ["batch", "steps"])
    old = [n.feed(f"past_key_values.0.{t}", (batch, groups, past, depth), ["batch", groups, "past", depth])
           for t in ("key", "value")]  # fmt: skip
    table = n.weight(60, wide, scale=0.5)
    y = n.Gather(table, ids)
    gemma = kind == "gemma"
    if gemma:
        y = n.Mul(y, float(wide**0.5))
    form = {"neox": "pairs", "qwen": "split", "mistral": "complex"}.get(kind, "half")
    part = 4 if kind == "phi" else 0
    cos, sin = angles(n, place, part or depth, "repeat" if form == "pairs" else "concat")
    z = p.layer_norm(n, y, wide) if kind in ("phi", "neox") else p.rms_norm(n, y, wide, plus_one=gemma)
    bias = kind in ("qwen", "phi", "neox")
    if kind == "neox":
        groups, shared = heads, 1
        qkv = n.reshape_by(p.linear(n, z, wide, 3 * wide), n.dim(z, 0), n.dim(z, 1), heads, 3 * depth)
        qkv = n.Transpose(qkv, perm=[0, 2, 1, 3])
        q, k, v = n.split(qkv, [depth] * 3, 3)
    else:
        q = p.heads_of(n, p.linear(n, z, wide, wide, bias), heads, depth)
        k, v = (p.heads_of(n, p.linear(n, z, wide, groups * depth, bias), groups, depth) for _ in range(2))
    if kind == "qwen":
        q, k = p.rms_norm(n, q, depth), p.rms_norm(n, k, depth)
    q, k = (rope(n, t, cos, sin, depth, form, part) for t in (q, k))
    k, v = n.Concat(old[0], k, axis=2), n.Concat(old[1], v, axis=2)
    present = k, v
    if shared > 1:
        b, s = n.dim(k, 0), n.dim(k, 2)
        five = n.Concat(
            n.unsqueeze(b, 0), n.constant([groups, shared]), n.unsqueeze(s, 0), n.constant([depth]), axis=0
        )
        k, v = (n.reshape_by(n.Expand(n.unsqueeze(t, 2), five), b, heads, s, depth) for t in (k, v))
    allowed = causal(n, mask, ids, past, 3 if kind == "mistral" else 0)
    s = n.Mul(n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2])), float(depth**-0.5))
    if gemma:
        s = n.Mul(n.Tanh(n.Div(s, 5.0)), 5.0)
    s = n.Add(s, allowed)
    if dtype == "float16":
        w = n.cast(n.Softmax(n.cast(s, "float32"), axis=-1), "float16")
    else:
        w = n.Softmax(s, axis=-1)
    a = p.linear(n, p.joined(n, n.MatMul(w, v), wide), wide, wide, False)
    if kind == "phi":
        y = n.Add(n.Add(a, p.mlp(n, z, wide, 64, "tanh")), y)
    elif kind == "neox":
        y = n.Add(n.Add(a, p.mlp(n, p.layer_norm(n, y, wide), wide, 64)), y)
    else:
        a = p.rms_norm(n, a, wide, plus_one=True) if gemma else a
        y = n.Add(y, a)
        z = p.rms_norm(n, y, wide, plus_one=gemma)
        g = p.linear(n, z, wide, 64, False)
        g = p.gelu(n, g, "tanh") if gemma else p.silu(n, g)
        z = p.linear(n, n.Mul(g, p.linear(n, z, wide, 64, False)), 64, wide, False)
        y = n.Add(y, p.rms_norm(n, z, wide, plus_one=True) if gemma else z)
    logits = n.MatMul(p.rms_norm(n, y, wide, plus_one=gemma), n.Transpose(table, perm=[1, 0]))
    if gemma:
        logits = n.Mul(n.Tanh(n.Div(logits, 30.0)), 30.0)
    n.output(n.cast(logits, "float32"), *present)
    return n


def causal(n: Net, mask: str, ids: str, past: int, window: int) -> str:
    """The additive mask as transformers builds it: a triangle by Trilu and Greater, the padding put in by Where."""
    low = lowest(n)
    all_, steps = n.dim(mask, 1), n.dim(ids, 1)
    full = n.Expand(low, n.Concat(n.unsqueeze(steps, 0), n.unsqueeze(all_, 0), axis=0))
    cols = n.Range(n.constant(0), all_, n.constant(1))
    rows = n.unsqueeze(n.Range(n.Sub(all_, steps), all_, n.constant(1)), 1)
    later = n.cast(n.Greater(cols, rows), n.dtype)
    if window:
        early = n.cast(n.LessOrEqual(cols, n.Sub(rows, n.constant(window))), n.dtype)
        later = n.Add(later, early)
    square = n.unsqueeze(n.Mul(n.Trilu(full, n.constant(-past - 99), upper=1), later), 0, 1)
    square = n.Expand(square, n.Concat(n.unsqueeze(n.dim(mask, 0), 0), n.constant([1, 1, 1]), axis=0))
    seen = n.Add(square, n.cast(n.unsqueeze(mask, 1, 2), n.dtype))
    return str(n.Where(n.Equal(seen, n.constant(np.asarray(0, n.dtype))), low, square))


def bloom(opset: int = 13, length: int = 10) -> Net:
    """Slopes by head times places as a bias, baddbmm, a packed qkv of [heads, 3, depth], Where of a bool triangle."""
    n = Net(opset)
    wide, heads, depth = 32, 4, 8
    ids = n.feed("input_ids", n.numbers.integers(0, 60, (2, length)), ["batch", "sequence"])
    mask = n.feed("attention_mask", (np.arange(length) >= [[0], [2]]).astype(np.int64), ["batch", "sequence"])
    y = p.layer_norm(n, n.Gather(n.weight(60, wide, scale=0.5), ids), wide)
    slopes = n.hold((2.0 ** (-2.0 * np.arange(1, heads + 1))).astype(np.float32)[:, None])
    place = n.Mul(n.Sub(n.CumSum(mask, n.constant(np.int64(-1))), n.constant(1)), mask)
    alibi = n.Mul(n.unsqueeze(slopes, 0), n.cast(n.unsqueeze(place, 1), "float32"))
    qkv = n.reshape_by(
        p.linear(n, p.layer_norm(n, y, wide), wide, 3 * wide), n.dim(y, 0), n.dim(y, 1), heads, 3, depth
    )
    q, k, v = (n.Gather(qkv, i, axis=3) for i in range(3))
    q, k, v = (n.Transpose(t, perm=[0, 2, 1, 3]) for t in (q, k, v))
    s = n.Add(n.unsqueeze(alibi, 2), n.Mul(n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2])), depth**-0.5))
    line = n.Range(n.constant(0), n.dim(ids, 1), n.constant(1))
    later = n.Less(n.unsqueeze(line, 1), n.unsqueeze(line, 0))
    gone = n.Or(n.unsqueeze(later, 0, 1), n.Not(n.cast(n.unsqueeze(mask, 1, 2), "bool")))
    w = n.Softmax(n.Where(gone, lowest(n), s), axis=-1)
    y = n.Add(y, p.linear(n, p.joined(n, n.MatMul(w, v), wide), wide, wide))
    n.output(n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 64, "tanh")))
    return n


def experts(opset: int = 18, tokens: int = 7) -> Net:
    """A mixture: the two best of four experts by TopK, their weights put in place by ScatterElements; all run."""
    n = Net(opset)
    wide, many = 24, 4
    x = n.feed("hidden", (1, tokens, wide), [1, "tokens", wide])
    flat = n.Reshape(x, [-1, wide])
    chance = n.Softmax(p.linear(n, flat, wide, many, False), axis=-1)
    best, at = n.TopK(chance, [2], outputs=2, axis=-1)
    best = n.Div(best, n.reduce("ReduceSum", best, [-1]))
    gates = n.ScatterElements(n.ConstantOfShape(n.Shape(chance)), at, best, axis=1)
    total = None
    for k in range(many):
        z = p.silu(n, p.linear(n, flat, wide, 40, False))
        z = p.linear(n, n.Mul(z, p.linear(n, flat, wide, 40, False)), 40, wide, False)
        z = n.Mul(z, n.Slice(gates, [k], [k + 1], [1]))
        total = z if total is None else n.Add(total, z)
    n.output(n.Reshape(total, n.Shape(x)), at)
    return n


def operators(opset: int = 24, dtype: str = "float32") -> Net:
    """The newest opset's own operators: RMSNormalization, RotaryEmbedding, Attention with past, Swish, Gelu."""
    n = Net(opset, dtype)
    wide, heads, groups, depth, past, steps = 32, 4, 2, 8, 5, 3
    x = n.feed("x", (2, steps, wide))
    old = [n.feed(t, (2, groups, past, depth)) for t in ("past_key", "past_value")]
    place = n.feed("position_ids", np.arange(past, past + steps)[None].repeat(2, 0))
    turn = np.outer(np.arange(40), 1e4 ** (-np.arange(0, depth, 2) / depth))
    cos, sin = (n.hold(f(turn).astype(dtype)) for f in (np.cos, np.sin))
    z = n.RMSNormalization(x, n.weight(wide, scale=0.1, middle=1), axis=-1, epsilon=1e-6)
    q = p.linear(n, z, wide, wide, False)
    k, v = (p.linear(n, z, wide, groups * depth, False) for _ in range(2))
    q = n.RotaryEmbedding(q, cos, sin, place, num_heads=heads)
    k = n.RotaryEmbedding(k, cos, sin, place, num_heads=groups)
    y, key, value = n.Attention(
        q, k, v, None, *old, outputs=3, is_causal=1, q_num_heads=heads, kv_num_heads=groups
    )
    y = n.Add(x, p.linear(n, y, wide, wide, False))
    z = n.RMSNormalization(y, n.weight(wide, scale=0.1, middle=1), axis=-1, epsilon=1e-6)
    y = n.Add(
        y,
        p.linear(
            n, n.Mul(n.Swish(p.linear(n, z, wide, 64, False)), p.linear(n, z, wide, 64, False)), 64, wide
        ),
    )
    n.output(y, key, value)
    return n


LANGUAGE: dict[str, Callable[[], Net]] = {
    "bert": bert,
    "bert-11": partial(bert, 11, 1, 13),
    "minilm": partial(bert, 17, 3, 17, pooled=False),
    "bert-f16": partial(bert, 17, dtype="float16"),
    "deberta": deberta,
    "t5-encoder": t5,
    "t5-decoder": partial(t5, 18, 7, True),
    "gpt2": gpt2,
    "gpt2-old": partial(gpt2, 11, 3, 1, "times"),
    "gpt2-f16": partial(gpt2, 17, 4, 3, "where", "float16"),
    "llama": llama,
    "llama-one": partial(llama, 14, 9, 1),
    "llama-f16": partial(llama, 18, dtype="float16"),
    "gemma": partial(llama, 18, kind="gemma", groups=1),
    "qwen": partial(llama, 17, kind="qwen"),
    "phi": partial(llama, 17, kind="phi", groups=4),
    "mistral": partial(llama, 17, kind="mistral"),
    "neox": partial(llama, 14, kind="neox", groups=4),
    "bloom": bloom,
    "experts": experts,
    "newest": operators,
}
