"""Random attention of com.microsoft: with masks, pasts, caches, groups, windows and rotations."""

from __future__ import annotations

from typing import Any

import numpy as np

from .drawn import Array, Drawn, Rng, chance, normal, one


def mask_of(rng: Rng, batch: int, rows: int, keys: int) -> Array | None:
    kind = one(rng, None, None, "ends", "keys", "all")
    if kind is None:
        return None
    if kind == "ends":
        return rng.integers(1, keys + 1, batch).astype(np.int32)
    mask = (rng.random((batch, keys) if kind == "keys" else (batch, rows, keys)) < 0.7).astype(np.int32)
    return mask


def multi_head(rng: Rng) -> Drawn:
    batch, heads, depth = one(rng, 1, 2), one(rng, 1, 2, 3), one(rng, 4, 8, 12)
    rows, past = one(rng, 1, 1, 4, 7), one(rng, 0, 0, 3, 9)
    cross = past == 0 and chance(rng, 0.3)
    new = one(rng, 2, 5) if cross else rows
    in_past, keys = cross and chance(rng), past + new
    wide = heads * depth
    vwide = wide * (2 if past == 0 and not in_past and chance(rng, 0.2) else 1)
    operands: dict[str, Array | None] = {"q": normal(rng, batch, rows, wide)}
    if in_past:
        operands |= {
            "k": normal(rng, batch, heads, new, depth),
            "v": normal(rng, batch, heads, new, vwide // heads),
        }
    else:
        operands |= {"k": normal(rng, batch, new, wide), "v": normal(rng, batch, new, vwide)}
    operands["bias"] = normal(rng, 2 * wide + vwide) if not in_past and chance(rng) else None
    operands["mask"] = mask_of(rng, batch, rows, keys)
    operands["add"] = (
        normal(rng, one(rng, 1, batch), one(rng, 1, heads), rows, keys) if chance(rng, 0.3) else None
    )
    if past:
        operands |= {
            "pk": normal(rng, batch, heads, past, depth),
            "pv": normal(rng, batch, heads, past, depth),
        }
    attrs: dict[str, Any] = {"num_heads": heads}
    if not cross and chance(rng, 0.3):
        attrs["unidirectional"] = 1
    if chance(rng, 0.3):
        attrs["scale"] = 0.3
    if chance(rng, 0.3):
        attrs["mask_filter_value"] = -3.4028234663852886e38
    outputs = ["y", "present_k", "present_v"] if past or (not in_past and chance(rng)) else ["y"]
    if len(outputs) == 3 and chance(rng, 0.2):
        outputs.append("qk")
    # a row that sees masked keys alone weighs scores near -10,000, which f32 has to steps of 0.001
    near = 2e-3 if operands["mask"] is not None else 2e-5
    return Drawn("MultiHeadAttention", operands, outputs, attrs, tolerance=near)


def attention(rng: Rng) -> Drawn:
    batch, heads, depth = one(rng, 1, 2), one(rng, 1, 2, 3), one(rng, 4, 8)
    rows, past, deep = one(rng, 1, 4, 7), one(rng, 0, 0, 3, 9), one(rng, 8, 12)
    wide = heads * depth
    sizes = [wide, wide, wide]
    attrs: dict[str, Any] = {"num_heads": heads}
    if past == 0 and chance(rng, 0.3):
        sizes[2] = wide * one(rng, 1, 2)
        attrs["qkv_hidden_sizes"] = sizes
    operands: dict[str, Array | None] = {
        "x": normal(rng, batch, rows, deep), "w": normal(rng, deep, sum(sizes)) / 3, "bias": normal(rng, sum(sizes)),
    }  # fmt: skip
    mask = mask_of(rng, batch, rows, past + rows)
    if mask is not None and mask.ndim == 1 and chance(rng):
        mask = np.concatenate([mask, (mask * rng.random(batch)).astype(np.int32)])
    operands["mask"] = mask
    operands["past"] = normal(rng, 2, batch, heads, past, depth) if past else None
    operands["add"] = normal(rng, 1, heads, rows, past + rows) if not past and chance(rng, 0.3) else None
    if chance(rng):
        attrs["unidirectional"] = 1
    if chance(rng, 0.3):
        attrs["scale"] = 0.3
    near = 2e-3 if mask is not None and "unidirectional" in attrs else 2e-5
    outputs = ["y", "present"] if past or (sizes[0] == sizes[2] and chance(rng, 0.3)) else ["y"]
    constants = frozenset({"w", "bias"} if chance(rng) else ())
    return Drawn("Attention", operands, outputs, attrs, constants, tolerance=near)


def decoder_masked(rng: Rng) -> Drawn:
    batch, heads, depth, past = one(rng, 1, 2), one(rng, 1, 2, 3), one(rng, 4, 8), one(rng, 1, 3, 9)
    wide = heads * depth
    attrs: dict[str, Any] = {"num_heads": heads}
    operands: dict[str, Array | None] = {"q": normal(rng, batch, 1, wide)}
    if chance(rng, 0.3):
        operands |= {"k": normal(rng, batch, heads, past, depth), "v": normal(rng, batch, heads, past, depth)}
        return Drawn("DecoderMaskedMultiHeadAttention", operands, ["y"], attrs)
    # onnxruntime's kernel runs with a cache alone
    operands |= {"k": normal(rng, batch, 1, wide), "v": normal(rng, batch, 1, wide)}
    have = past + one(rng, 1, 4)
    operands["mask"] = (rng.random((batch, past + 1)) < 0.7).astype(np.int32) if chance(rng) else None
    operands["add"] = normal(rng, 1, heads, 1, past + 1) if chance(rng, 0.3) else None
    operands |= {"pk": normal(rng, batch, heads, have, depth), "pv": normal(rng, batch, heads, have, depth)}
    operands |= {"length": np.array([past], np.int32), "beams": None, "indirect": None, "bias": None}
    attrs["past_present_share_buffer"] = 1
    if chance(rng):
        operands["bias"] = normal(rng, 3 * wide)
    return Drawn("DecoderMaskedMultiHeadAttention", operands, ["y", "present_k", "present_v"], attrs)


def grouped(rng: Rng) -> Drawn:
    groups, share, depth = one(rng, 1, 2), one(rng, 1, 2, 4), one(rng, 16, 32)
    heads = groups * share
    kind = one(rng, "prompt", "one", "one", "several")
    batch = 1 if kind == "several" else one(rng, 1, 3)
    rows = {"prompt": one(rng, 1, 2, 6), "one": 1, "several": 3}[kind]
    past = {"prompt": one(rng, 0, 0, 9), "one": one(rng, 4, 11), "several": one(rng, 4, 11)}[kind]
    if kind == "prompt":
        total, lengths = rows, rng.integers(1, rows + 1, batch)
        lengths[0] = rows
    else:
        total = past + rows - (int(rng.integers(rows, past)) if chance(rng) else 0)  # a cache with room
        lengths = rng.integers(rows, total + 1, batch)
        lengths[0] = total
    packed = chance(rng, 0.4)
    kv = groups * depth
    operands: dict[str, Array | None] = {
        "q": normal(rng, batch, rows, heads * depth + (2 * kv if packed else 0))
    }
    operands |= {n: None if packed else normal(rng, batch, rows, kv) for n in ("k", "v")}
    operands |= {"pk": None, "pv": None}
    if past or chance(rng):
        operands |= {n: normal(rng, batch, groups, past, depth) for n in ("pk", "pv")}
    operands["lengths"] = (lengths - 1).astype(np.int32)
    operands["total"] = np.array(total if chance(rng) else [total], np.int32)
    attrs: dict[str, Any] = {"num_heads": heads, "kv_num_heads": groups}
    turned = chance(rng, 0.6)
    operands |= {"cos": None, "sin": None, "at": None, "add": None, "sink": None}
    if turned:
        angles = normal(rng, 16, one(rng, depth // 2, 8))
        operands |= {"cos": np.cos(angles), "sin": np.sin(angles)}
        attrs |= {"do_rotary": 1, "rotary_interleaved": int(chance(rng, 0.3))}
        if chance(rng, 0.3):
            operands["at"] = rng.integers(0, 16, (batch, rows)).astype(np.int64)
    if chance(rng, 0.3):
        attrs["local_window_size"] = one(rng, 1, 2, 5)
    if chance(rng, 0.3):
        attrs["softcap"] = 2.0
    if chance(rng, 0.3):
        attrs["scale"] = 0.3
    if chance(rng, 0.2):
        operands["add"] = normal(rng, one(rng, 1, batch), one(rng, 1, heads), rows, total)
    if chance(rng, 0.2):
        operands["sink"] = normal(rng, heads)
    elif chance(rng, 0.2):
        attrs["smooth_softmax"] = 1

    def valid(name: str, array: Array) -> Array:
        parts = []
        for b in range(batch):
            if name == "y":  # rows past the end of a prompt are nothing
                parts.append(array[b, : lengths[b] if kind == "prompt" else rows])
            else:
                parts.append(array[b, :, : lengths[b]])
        return np.concatenate([p.reshape(-1) for p in parts])

    constants = frozenset(
        {*(("total",) if chance(rng, 0.7) else ()), *(("cos", "sin") if chance(rng) else ())}
    )
    return Drawn(
        "GroupQueryAttention", operands, ["y", "present_k", "present_v"], attrs, constants, valid=valid
    )
