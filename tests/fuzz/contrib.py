"""Operators of com.microsoft for language models, drawn at random and judged by native onnxruntime.

    PYTHONPATH=py python -m tests.fuzz.contrib [--op MultiHeadAttention] [--seeds 0:100]

`CASES` has a function an operator: from a random generator, the node's attributes, its operands and which of them are
constants of the model. Prints each fault; ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Rng = np.random.Generator
Array = Any


@dataclass
class Drawn:
    """One node: operands in order (None: absent), those fed and those constant, and how its outputs are compared."""

    op: str
    operands: dict[str, Array | None]
    outputs: Sequence[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: frozenset[str] = frozenset()
    domain: str = "com.microsoft"
    valid: Callable[[str, Array], Array] | None = None
    """The part of an output that onnxruntime defines."""
    tolerance: float = 2e-5

    @property
    def feeds(self) -> dict[str, Array]:
        return {k: v for k, v in self.operands.items() if v is not None and k not in self.constants}

    def model(self) -> bytes:
        names = [k if v is not None else "" for k, v in self.operands.items()]
        while names and not names[-1]:
            names.pop()
        node = helper.make_node(self.op, names, list(self.outputs), domain=self.domain, **self.attrs)
        given = [(k, v) for k, v in self.operands.items() if v is not None]
        inputs = [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in given if k not in self.constants
        ]  # fmt: skip
        held = [numpy_helper.from_array(v, k) for k, v in given if k in self.constants]
        graph = helper.make_graph([node], self.op, inputs, [_output(o) for o in self.outputs if o], held)
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
        return data


def _output(name: str) -> onnx.ValueInfoProto:
    if name == "qk":  # its type follows from nothing
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    return onnx.ValueInfoProto(name=name)


def normal(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def one(rng: Rng, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def chance(rng: Rng, part: float = 0.5) -> bool:
    return bool(rng.random() < part)


# -- activations and norms


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


# -- attention


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


# -- embeddings


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


# -- experts


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


CASES: dict[str, Callable[[Rng], Drawn]] = {
    "activation": activation, "norm": norm, "RotaryEmbedding": rotary, "MultiHeadAttention": multi_head,
    "Attention": attention, "DecoderMaskedMultiHeadAttention": decoder_masked, "GroupQueryAttention": grouped,
    "EmbedLayerNormalization": embed, "GatherBlockQuantized": quantised_rows,
    "experts": experts,
}  # fmt: skip


def draw(name: str, seed: int) -> Drawn:
    return CASES[name](np.random.default_rng([seed, *name.encode()]))


def fault(case: Drawn, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> str | None:
    """What is wrong with the outputs, None if nothing is."""
    for name in (o for o in case.outputs if o):
        a, b = np.asarray(found[name]), np.asarray(wanted[name])
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}"
        if case.valid is not None:
            a, b = case.valid(name, a), case.valid(name, b)
        room = case.tolerance * (1 + np.abs(b.astype(np.float64)))
        off = np.abs(a.astype(np.float64) - b.astype(np.float64))
        if not np.all(off <= room):
            return f"{name}: off by {np.nanmax(off):.3g}, {np.sum(~(off <= room))} of {a.size}"
    return None


def main() -> int:
    from nnjit.runtime.local import LocalSession
    from tests.support.single import native

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.contrib", description=__doc__)
    parser.add_argument("--op", choices=sorted(CASES))
    parser.add_argument("--seeds", default="0:50", help="first:last")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    faults = 0
    for name in [options.op] if options.op else CASES:
        ran = refused = 0
        for seed in range(int(first), int(last or int(first) + 1)):
            case = draw(name, seed)
            try:
                wanted = native(case.model(), case.feeds)
            except Exception as error:
                refused += 1
                print(f"--- {name} {seed}: onnxruntime: {str(error)[:300]}")
                continue
            ran += 1
            try:
                session = LocalSession(case.model())
                why = fault(case, session.run(case.feeds), wanted)
                slow = [r["op"] for r in session.placement() if r["backend"] == "reference"]
                why = why or (f"{slow} on the reference" if slow else None)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if why:
                faults += 1
                shapes = {k: None if v is None else f"{v.dtype}{v.shape}" for k, v in case.operands.items()}
                print(f"--- {name} {seed}: {why}\n    {case.attrs} {shapes}", flush=True)
        print(f"{name}: {ran} cases, {refused} that onnxruntime refuses")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
