"""Where model bytes come from: anything with `name`, `size` and `read(start, length)`.

BytesSource serves CPython and small models; in the browser a Blob behind FileReaderSync has the same
two methods, so that weights never pass through Python's memory unless somebody asks for them.
"""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol, runtime_checkable

from ..errors import ModelFileError


class ByteSource(Protocol):
    """A file one can read pieces of. `read` returns exactly `length` bytes, or fewer at the end."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, start: int, length: int) -> bytes: ...


@runtime_checkable
class ArrivingSource(ByteSource, Protocol):
    """A file that is still on its way: `read` waits for what has not come."""

    def there(self, start: int, end: int) -> bool:
        """Whether bytes start .. end can be read without waiting."""
        ...


class BytesSource:
    """Bytes already in memory."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "model.onnx") -> None:
        self._view = memoryview(data).cast("B")
        self.name = name
        self.size = len(self._view)

    def read(self, start: int, length: int) -> bytes:
        return bytes(self._view[start : start + length])


class FileSource:
    """A file of the local disk, read piece by piece. ModelFileError where it cannot be opened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open_file(path)  # it lives as long as the model's lazy constants
        self.name = os.path.basename(os.fspath(path))
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A model's file, to be read; ModelFileError says why it cannot be."""
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:  # the second for a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        absent = isinstance(error, FileNotFoundError)
        raise ModelFileError(
            f"{os.fspath(path)} cannot be read: {reason}",
            hint=f"paths count from {os.getcwd()}" if absent else "give the path of an .onnx file",
            file=os.fspath(path),
            reason=reason,
        ) from error


def read_file(path: str | os.PathLike[str]) -> bytes:
    """All of it."""
    with open_file(path) as file:
        return file.read()


class Window:
    """Buffered reading of a ByteSource in aligned blocks, a few of which are kept.

    A walk that skips payloads touches two blocks a tensor: where it starts and where it ends.
    """

    def __init__(self, source: ByteSource, block: int = 1 << 14, keep: int = 8) -> None:
        self.source, self.size, self._block, self._keep = source, source.size, block, keep
        self._blocks: dict[int, bytes] = {}

    def read(self, start: int, length: int) -> bytes:
        first, last = start // self._block, (start + length - 1) // self._block
        if last - first >= self._keep // 2:
            return self.source.read(start, length)
        data = self._get(first)
        for number in range(first + 1, last + 1):
            data += self._get(number)
        at = start - first * self._block
        return data[at : at + length]

    def blocks(self, start: int, end: int) -> tuple[int, int]:
        """What is read of the source for bytes start .. end, at most."""
        return start // self._block * self._block, min(-(-end // self._block) * self._block, self.size)

    def _get(self, number: int) -> bytes:
        data = self._blocks.pop(number, None)
        if data is None:
            data = self.source.read(number * self._block, self._block)
            if len(self._blocks) >= self._keep:
                del self._blocks[next(iter(self._blocks))]  # the one used longest ago
        self._blocks[number] = data
        return data

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, position after it) of the base-128 number at `at`; (-1, at) when it runs past `end`."""
        chunk = self.read(at, min(10, end - at))
        value = 0
        for i, byte in enumerate(chunk):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value, at + i + 1
        return -1, at
