"""What a file is that is no model: takes its first bytes, raises ModelFormatError with what to give instead."""

from __future__ import annotations

import codecs

from ..errors import ModelFormatError
from .source import ByteSource

HEAD = 512  # bytes that tell what a file is

_MAGIC: list[tuple[int, bytes, str, str]] = [
    (0, b"PK\x03\x04", "a zip archive", "give the .onnx file inside; export a PyTorch .pt to ONNX"),
    (0, b"\x1f\x8b", "gzip data", "decompress it first"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard data", "decompress it first"),
    (0, b"BZh", "bzip2 data", "decompress it first"),
    (0, b"\xfd7zXZ", "xz data", "decompress it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull`, or download the file itself"),
    (0, b"\x89HDF", "an HDF5 (Keras) file", "convert it with tf2onnx"),
    (0, b"GGUF", "a GGUF file", "export the model to ONNX"),
    (0, b"\x80\x02", "a Python pickle", "export the model to ONNX"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx"),
    (4, b"ORTM", "an ORT-format model", "give the .onnx file it was made from"),
    (0, b"\x93NUMPY", "a numpy array", "give the .onnx model"),
    (0, b"\x89PNG", "a PNG picture", "give the .onnx model; a picture is fed to one as a tensor"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "give the .onnx model; a picture is fed to one as a tensor"),
    (0, b"%PDF", "a PDF document", "give the .onnx model"),
]  # fmt: skip
_CONTROL = bytes(b for b in range(32) if b not in b"\t\n\r\f")  # no text has them, every model does


def sniff(source: ByteSource) -> None:
    """Raises ModelFormatError when the first bytes show that the file is something else."""
    head = source.read(0, HEAD)

    def wrong(what: str, hint: str) -> ModelFormatError:
        return ModelFormatError(
            f"{source.name} is {what}, not an ONNX model", hint=hint, file=source.name, offset=0
        )

    if not head:
        raise wrong("empty", "fetch or export the file again")
    for at, magic, what, hint in _MAGIC:
        if head[at : at + len(magic)] == magic:
            raise wrong(what, hint)
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < source.size:
        raise wrong("a safetensors file", "export the model to ONNX")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise wrong("an HTML or XML page", "the URL leads to a page: use the link of the raw file")
    if text.startswith((b'{"', b"{\n", b"{\r", b"[{")):
        raise wrong("JSON text", "give the .onnx file")


def text_in(source: ByteSource) -> ModelFormatError | None:
    """The error for a file of plain text, quoting its beginning; None for any other. Asked where reading it as a model
    has failed: a wire type says nothing to whoever has dropped a README."""
    head = source.read(0, HEAD)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may end beyond the head
    except UnicodeDecodeError:
        return None
    if any(b in head for b in _CONTROL):
        return None
    begins = " ".join(text[:60].split())
    return ModelFormatError(
        f"{source.name} is text, not an ONNX model: it begins with {begins!r}",
        hint="give the .onnx file itself",
        file=source.name,
        offset=0,
    )
