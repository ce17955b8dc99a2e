"""Lowering rules of the ONNX operators, a family a file; importing this fills the registry."""

from nnjit.lower.ops import linear, norm, pointwise, reduce, shape

__all__ = ["linear", "norm", "pointwise", "reduce", "shape"]
