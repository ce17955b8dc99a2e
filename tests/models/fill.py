"""Turns a skeleton (an exported ONNX graph whose large weights hold no data) into a runnable model.

Takes skeletons/NAME.skeleton.onnx, where an empty initializer's doc_string is "MEAN STD" of the exporter's
own weights; returns a ModelProto whose weights are drawn from a seed. Same seed and skeleton, same bytes.

    python -m tests.models.fill roberta-base /tmp/roberta-base.onnx
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx

SKELETONS = Path(__file__).parent / "skeletons"

# What follows a convolution says how large its output should be: half the variance is lost in a Relu, a Clip
# at 6 should be reached now and then, and a branch must not drown the residual it is added to, nor fade.
CONV_GAIN = {"Relu": math.sqrt(2.0), "Clip": 1.5, "Add": 1.0}
# Transformers start at 0.02 whatever their width: attention is then all but uniform, and hides a wrong mask
# or a transposed key. At 1.3 of the fan-in rule the scores spread by about 1.7 and single tokens matter.
DENSE_GAIN = 1.3


def skeleton_names() -> list[str]:
    return sorted(p.name.removesuffix(".skeleton.onnx") for p in SKELETONS.glob("*.skeleton.onnx"))


def fill(name: str, seed: int = 0) -> onnx.ModelProto:
    """The model of skeletons/NAME.skeleton.onnx with every empty weight drawn anew.

    Kernels and dense weights are scaled by their fan-in (kept at the exporter's 0.02 the signal would
    have died out after 50 convolutions, and any wrong answer would look right); the rest keeps the recorded
    moments.
    What the exporter left constant (scales at 1, shifts at 0) gets a spread, so that a value read
    from the wrong place, or along the wrong axis, changes the output.
    """
    model = onnx.load(SKELETONS / f"{name}.skeleton.onnx")
    stds = layer_stds(model.graph)
    for tensor in model.graph.initializer:
        if not tensor.doc_string:
            continue
        mean, std = (float(word) for word in tensor.doc_string.split())
        shape = tuple(tensor.dims)
        # One stream per weight: the draw doesn't depend on the order of the initializers.
        rng = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
        values = rng.standard_normal(shape, dtype=np.float32)
        if tensor.name in stds:
            mean, std = 0.0, stds[tensor.name]
            if len(shape) == 4 and shape[1] > 1:
                # A filter that sums to 0 sees differences: else the means of 50 Relus drown the picture.
                # Not over nine taps of one smooth channel: what is left of those is rounding.
                values -= values.mean(axis=(1, 2, 3), keepdims=True)
        elif std == 0.0:
            values = np.clip(values, -3.0, 3.0)  # a scale stays positive
            std = 0.15 * abs(mean) if mean else 0.03
        values *= np.float32(std)
        values += np.float32(mean)
        tensor.raw_data = values.astype("<f4", copy=False).tobytes()
        tensor.doc_string = ""
    return model


def layer_stds(graph: onnx.GraphProto) -> dict[str, float]:
    """Weight name -> standard deviation, for the weights that get another one than the skeleton records.

    Conv: gain / sqrt(fan-in), the gain by the op that reads the output. MatMul and Gemm: 1.3 / sqrt(fan-in)
    where the exporter had its flat 0.02; other values (T5's and GPT-2's own rules) carry meaning and stay.
    """
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node.op_type)
    weights = {t.name: t for t in graph.initializer if t.doc_string}
    stds: dict[str, float] = {}
    for node in graph.node:
        if len(node.input) < 2 or node.input[1] not in weights:
            continue
        tensor = weights[node.input[1]]
        if node.op_type == "Conv":
            gain = CONV_GAIN.get((readers[node.output[0]] or [""])[0], 1.0)
            stds[tensor.name] = gain / math.sqrt(math.prod(tensor.dims[1:]))
        elif node.op_type in ("MatMul", "Gemm") and abs(float(tensor.doc_string.split()[1]) - 0.02) < 5e-4:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            stds[tensor.name] = DENSE_GAIN / math.sqrt(tensor.dims[1 if transposed else 0])
    return stds


def main() -> None:
    parser = argparse.ArgumentParser(description="fill a model skeleton with seeded weights")
    parser.add_argument("name", choices=skeleton_names())
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    onnx.save(fill(args.name, args.seed), args.out)


if __name__ == "__main__":
    main()
