"""Random layers of com.microsoft around attention: activations, norms, rotations, embeddings, tables, experts."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from .drawn import Array, Drawn, Rng, chance, normal, one


def activation(rng: Rng) -> Drawn:
    op = one(rng, "Gelu", "BiasGelu", "FastGelu", "QuickGelu")
    shape = one(rng, (7,), (3, 5), (2, 3, 16), (1, 1, 4, 33))
    operands: dict[str, Array | None] = {"x": 3 * normal(rng, *shape)}
    if op == "BiasGelu" or (op == "FastGelu" and chance(rng)):
        operands["bias"] = normal(rng, shape[-1])
    attrs = {"alpha": one(rng, 1.0, 1.702, 0.5)} if op == "QuickGelu" and chance(rng) else {}
    return Drawn(op, operands, ["y"], attrs)


def norm(rng: Rng) -> Drawn:
    op = one(
        rng, "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"
    )
    shape = (one(rng, 1, 2, 3), one(rng, 1, 5, 7), one(rng, 1, 8, 17, 64))
    attrs: dict[str, Any] = {"epsilon": one(rng, 1e-5, 1e-6, 1e-12)} if chance(rng, 0.7) else {}
    wide = shape[-1]
    if op == "SimplifiedLayerNormalization":
        attrs |= {"axis": -1} if chance(rng) else {}
        operands: dict[str, Array | None] = {"x": normal(rng, *shape), "scale": normal(rng, wide)}
        return Drawn(op, operands, ["y"], attrs, domain="")
    skip = one(rng, shape, shape[1:], (1, *shape[1:]))
    operands = {"x": normal(rng, *shape), "skip": normal(rng, *skip), "gamma": normal(rng, wide)}
    if op == "SkipLayerNormalization":
        operands["beta"] = normal(rng, wide) if chance(rng) else None
    operands["bias"] = normal(rng, wide) if chance(rng) else None
    # rows of one element have no spread; what is left of it is rounding
    return Drawn(op, operands, ["y", "", "", "sum"] if chance(rng) else ["y"], attrs,
                 tolerance=2e-5 if wide > 1 else 1e-3)  # fmt: skip


def rotary(rng: Rng) -> Drawn:
    batch, length, heads, depth = one(rng, 1, 2), one(rng, 1, 3, 5), one(rng, 1, 2, 4), one(rng, 8, 16, 32)
    attrs: dict[str, Any] = {"interleaved": int(chance(rng))}
    part = 0
    if chance(rng, 0.3):
        part = depth // 2
        attrs |= {"num_heads": heads, "rotary_embedding_dim": part}
    angles = normal(rng, 20, (part or depth) // 2)
    shape = (batch, heads, length, depth) if chance(rng) else (batch, length, heads * depth)
    if chance(rng, 0.3):
        at = np.array([int(rng.integers(0, 20 - length))])
    else:
        at = rng.integers(0, 20, (batch, length))
    operands = {
        "x": normal(rng, *shape),
        "at": at.astype(np.int64),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    return Drawn("RotaryEmbedding", operands, ["y"], attrs, frozenset({"cos", "sin"} if chance(rng) else ()))


def embed(rng: Rng) -> Drawn:
    batch, length, wide = one(rng, 1, 3), one(rng, 1, 6), one(rng, 8, 33)
    segments = chance(rng)
    operands: dict[str, Array | None] = {
        "ids": rng.integers(0, 20, (batch, length)).astype(np.int32),
        "kinds": rng.integers(0, 2, (batch, length)).astype(np.int32) if segments else None,
        "word": normal(rng, 20, wide), "place": normal(rng, 9, wide),
        "kind": normal(rng, 2, wide) if segments else None, "gamma": normal(rng, wide), "beta": normal(rng, wide),
        "mask": (rng.random((batch, length)) < 0.7).astype(np.int32) if chance(rng) else None,
        "at": rng.integers(0, 9, (one(rng, 1, batch), length)).astype(np.int32) if chance(rng, 0.3) else None,
    }  # fmt: skip
    constants = frozenset({"word", "place", "kind", "gamma", "beta"})
    outputs = ["y", "count", "sum"] if chance(rng) else ["y", "count"]
    return Drawn("EmbedLayerNormalization", operands, outputs, {"epsilon": 1e-5}, constants)


def quantised_rows(rng: Rng) -> Drawn:
    bits, rows, block = one(rng, 4, 4, 8), 11, one(rng, 16, 32)
    wide = one(rng, block, 3 * block, 2 * block + 8)
    kind = one(rng, "u8", "int4", "uint4") if bits == 4 else "u8"
    blocks = -(-wide // block)
    zero = None
    if kind == "u8":
        data = rng.integers(0, 256, (rows, wide * bits // 8)).astype(np.uint8)
        if chance(rng):
            zero = rng.integers(0, 256, (rows, -(-blocks * bits // 8))).astype(np.uint8)
    else:
        dtype = helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, kind.upper()))
        low = -8 if kind == "int4" else 0
        data = rng.integers(low, low + 16, (rows, wide)).astype(dtype)
        if chance(rng):
            zero = rng.integers(low, low + 16, (rows, blocks)).astype(dtype)
    at = rng.integers(0, rows, one(rng, (3,), (2, 4), ())).astype(one(rng, np.int32, np.int64))
    operands = {"data": data, "at": at, "scales": normal(rng, rows, blocks), "zero": zero}
    attrs = {"block_size": block, "gather_axis": 0, "quantize_axis": one(rng, 1, -1), "bits": bits}
    return Drawn("GatherBlockQuantized", operands, ["y"], attrs, frozenset({"data", "scales", "zero"}))


def experts(rng: Rng) -> Drawn:
    count, k, hidden, inner, tokens = one(rng, 2, 4), one(rng, 1, 2), 32, 16 * one(rng, 1, 3), one(rng, 1, 6)
    kind = one(rng, "relu", "gelu", "silu", "identity", "swiglu")
    wide = 2 * inner if kind == "swiglu" else inner
    attrs: dict[str, Any] = {"k": k, "activation_type": kind, "normalize_routing_weights": int(chance(rng))}
    if kind == "swiglu":
        attrs |= {"swiglu_fusion": 1, "activation_alpha": 1.702, "activation_beta": 1.0}
        attrs |= {"swiglu_limit": 1.5} if chance(rng) else {}
    shape = (tokens, hidden) if chance(rng) else (1, tokens, hidden)
    operands: dict[str, Array | None] = {"x": normal(rng, *shape), "router": normal(rng, tokens, count)}
    if chance(rng):
        operands |= {
            "w1": normal(rng, count, wide, hidden) / 6, "b1": normal(rng, count, wide) if chance(rng) else None,
            "w2": normal(rng, count, hidden, inner) / 6, "b2": normal(rng, count, hidden) if chance(rng) else None,
        }  # fmt: skip
        return Drawn("MoE", operands, ["y"], attrs, frozenset({"w1", "b1", "w2", "b2"}))
    bits, block = one(rng, 4, 8), one(rng, 0, 16)
    for n, (rows, deep) in (("1", (wide, hidden)), ("2", (hidden, inner))):
        scales = (count, rows, deep // block) if block else (count, rows)
        operands[f"w{n}"] = rng.integers(0, 256, (count, rows, deep * bits // 8)).astype(np.uint8)
        operands[f"s{n}"] = (0.5 + rng.random(scales, np.float32)) / (40 * (1 if bits == 4 else 16))
        operands[f"b{n}"] = normal(rng, count, rows) if chance(rng) else None
    if block:
        attrs["block_size"] = block
    attrs |= {"expert_weight_bits": bits}
    # onnxruntime's 8-bit kernel makes its activations bytes
    return Drawn("QMoE", operands, ["y"], attrs, frozenset({f"{p}{n}" for p in "wsb" for n in "12"}),
                 tolerance=2e-5 if bits == 4 else 2e-2)  # fmt: skip
