"""Where model bytes come from: anything with `name`, `size` and `read(start, length)`.

BytesSource serves CPython and small models; in the browser a Blob behind FileReaderSync has the same
two methods, so that weights never pass through Python's memory unless somebody asks for them.
"""

from __future__ import annotations

import os
from typing import Protocol


class ByteSource(Protocol):
    """A file one can read pieces of. `read` returns exactly `length` bytes, or fewer at the end."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, start: int, length: int) -> bytes: ...


class BytesSource:
    """Bytes already in memory."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "model.onnx") -> None:
        self._view = memoryview(data).cast("B")
        self.name = name
        self.size = len(self._view)

    def read(self, start: int, length: int) -> bytes:
        return bytes(self._view[start : start + length])


class FileSource:
    """A file of the local disk, read piece by piece."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  (it lives as long as the model's lazy constants)
        self.name = os.path.basename(os.fspath(path))
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)


class Window:
    """Buffered forward reading of a ByteSource: small reads are served from one block.

    A skipped payload costs nothing: the next read fetches the block around its own position.
    """

    def __init__(self, source: ByteSource, block: int = 1 << 16) -> None:
        self.source, self.size, self._block = source, source.size, block
        self._start, self._data = 0, b""

    def read(self, start: int, length: int) -> bytes:
        at = start - self._start
        if at < 0 or at + length > len(self._data):
            if length >= self._block:
                return self.source.read(start, length)
            self._start, self._data = start, self.source.read(start, min(self._block, self.size - start))
            at = 0
        return self._data[at : at + length]

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, position after it) of the base-128 number at `at`; (-1, at) when it runs past `end`."""
        chunk = self.read(at, min(10, end - at))
        value = 0
        for i, byte in enumerate(chunk):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value, at + i + 1
        return -1, at
