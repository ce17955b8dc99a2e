"""Models of bytes: a catalogue model's weights and activations quantised by onnxruntime's static quantiser.

Takes a path and seeded feeds to calibrate with; writes a QDQ model (u8 activations, i8 weights, a scale for each
channel), whose chains both libraries turn into integer kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Feeds = dict[str, np.ndarray]


def quantise(source: Path, target: Path, samples: list[Feeds]) -> None:
    """Writes the quantised model, all or nothing."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.left: Iterator[Feeds] = iter(samples)

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    logging.getLogger().setLevel(
        logging.ERROR
    )  # it advises to optimise first: the graphs are as exporters left them
    part = target.with_suffix(".part.onnx")
    quantize_static(
        source, part, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    part.rename(target)
