"""ONNX bytes → Model. `load(source, external)` is the entry; `Model.bind(shapes, dims)` gives a Graph."""

from .load import load
from .source import ByteSource, BytesSource, FileSource

__all__ = ["ByteSource", "BytesSource", "FileSource", "load"]
