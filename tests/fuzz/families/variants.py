"""A family's model as tools of onnxruntime rewrite it: in halves, quantised with QuantizeLinear and DequantizeLinear.

Each takes the f32 model as bytes with its feeds and gives the new model as bytes; feeds stay f32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx


def halved(model: bytes) -> bytes:
    """Weights and operators of f16, Casts at the borders; what onnxruntime's list of operators says stays in f32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    data: bytes = made.SerializeToString()
    return data


def quantised(
    model: bytes, feeds: Mapping[str, Any], activations: str = "QUInt8", per_channel: bool = True
) -> bytes:
    """Static: ranges of activations from the feeds and three draws beside them; weights of signed bytes."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = list(_draws(feeds))

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "f32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        q.quantize_static(
            str(source), str(target), Reader(), quant_format=q.QuantFormat.QDQ, per_channel=per_channel,
            activation_type=q.QuantType[activations], weight_type=q.QuantType.QInt8,
        )  # fmt: skip
        return target.read_bytes()


def dynamically_quantised(model: bytes) -> bytes:
    """DynamicQuantizeLinear and MatMulInteger, as ONNX models of language are shipped."""
    from onnxruntime import quantization as q

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "f32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        q.quantize_dynamic(str(source), str(target), weight_type=q.QuantType.QInt8)
        return target.read_bytes()


def _draws(feeds: Mapping[str, Any]) -> Any:
    rng = np.random.default_rng(7)
    for _ in range(3):
        yield {
            n: a + rng.normal(0, 0.5, a.shape).astype(a.dtype) if a.dtype.kind == "f" else a
            for n, a in feeds.items()
        }
    yield dict(feeds)
