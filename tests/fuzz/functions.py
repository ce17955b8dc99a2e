"""How far each function of one f32 is from the right answer, over all exponents, beside onnxruntime:

    PYTHONPATH=py python -m tests.fuzz.functions [--step 4099] [--only Sin,Tanh]

In units of the last place of the right f32; an answer of 0 for a denormal counts as right. The third column is the
largest error in units of 1e-7 beside the larger of 1 and the answer. WebGPU's:

    NNJIT_FUNCTIONS=4099 python3 serve.py test -- tests/device/test_functions.py -s
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper

Array = Any
SMALLEST = 2.0**-126


def _each(f: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda x: np.array([f(v) for v in x])


def _sigmoid(x: Array) -> Array:
    return np.where(
        x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), 1 / (1 + np.exp(-np.maximum(x, 0)))
    )


def _tail(x: float) -> float:
    """x times the normal distribution's share below x."""
    return 0.5 * x * math.erfc(-x * math.sqrt(0.5))


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Tanh": np.tanh, "Erf": _each(math.erf), "Sin": np.sin,
    "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh,
    "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh, "Reciprocal": lambda x: 1 / x,
    "Sigmoid": _sigmoid, "Softplus": lambda x: np.logaddexp(0, x), "Gelu": _each(_tail),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)), "Softsign": lambda x: x / (1 + np.abs(x)),
    "Elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
}  # fmt: skip
"""ONNX operator -> the answer in f64."""


def patterns(step: int) -> Array:
    """Every `step`-th of the f32 bit patterns (a prime: all exponents, both signs, varied mantissas) without NaN."""
    x = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return x[~np.isnan(x)]


def model(names: Sequence[str], count: int) -> bytes:
    """x[count] -> one output for each function, called as it is."""
    nodes = [helper.make_node(n, ["x"], [n]) for n in names]
    outputs = [helper.make_tensor_value_info(n, 1, [count]) for n in names]
    graph = helper.make_graph(nodes, "functions", [helper.make_tensor_value_info("x", 1, [count])], outputs)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10
    ).SerializeToString()
    return data


def wanted(name: str, x: Array) -> Array:
    """In f64."""
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[name](x.astype(np.float64)))


def ulps(found: Array, want: Array) -> Array:
    """How far f32 answers are off; infinite where only one is a NaN or infinite."""
    with np.errstate(all="ignore"):
        right = want.astype(np.float32)
        unit = np.maximum(np.spacing(np.abs(right)).astype(np.float64), 2.0**-149)
        off = np.abs(found.astype(np.float64) - want) / unit
        same = (
            (found == right)
            | (np.isnan(found) & np.isnan(right))
            | ((found == 0) & (np.abs(want) < SMALLEST))
        )
        return np.where(same, 0.0, np.where(np.isnan(off), np.inf, off))


def absolute(found: Array, want: Array) -> float:
    """The largest error beside the larger of 1 and the answer, of answers that are finite."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(want.astype(np.float32)) & np.isfinite(found)
        off = np.abs(found.astype(np.float64) - want) / np.maximum(1, np.abs(want))
    return float(off[finite].max(initial=0))


def table(x: Array, answers: Mapping[str, Mapping[str, Array]]) -> list[str]:
    """answers[who][function] as lines of a table: largest ulp and where, and the absolute error."""
    who = list(answers)
    lines = ["| function | " + " | ".join(f"{w}: ulp | at | 1e-7" for w in who) + " |"]
    lines.append("|---" * (1 + 3 * len(who)) + "|")
    for name in answers[who[0]]:
        want, cells = wanted(name, x), []
        for w in who:
            found = answers[w][name]
            off = ulps(found, want)
            at = int(np.argmax(off))
            cells += [f"{off[at]:.3g}", f"{x[at]:.4g}", f"{absolute(found, want) * 1e7:.2g}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.functions", description=__doc__)
    parser.add_argument("--step", type=int, default=4099)
    parser.add_argument("--only", default="", help="operators, separated by commas")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from nnjit.runtime.local import LocalSession
    from tests.support.single import native

    x, names = patterns(options.step), [n for n in options.only.split(",") if n] or list(FUNCTIONS)
    data = model(names, len(x))
    ours, theirs = LocalSession(data).run({"x": x}), native(data, {"x": x})
    print("\n".join(table(x, {"nnjit": {n: np.asarray(ours[n]) for n in names}, "onnxruntime": theirs})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
