"""LEB128, the variable-length integers of WebAssembly.

`ULEB[n]` and `SLEB[n]` are the encodings of n; small values are remembered, so that the common case is one
dictionary look-up. `read_uleb` and `read_sleb` decode and return (value, next position).
"""

from __future__ import annotations

# A value above this is an address or a constant seen once or twice: encode it again rather than keep it.
_REMEMBER_BELOW = 1 << 16


def encode_unsigned(value: int) -> bytes:
    """value >= 0 as unsigned LEB128: 624485 -> e5 8e 26."""
    if value < 0:
        raise ValueError(f"unsigned LEB128 of a negative number: {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_signed(value: int) -> bytes:
    """value as signed LEB128: -123456 -> c0 bb 78. The last byte's bit 6 is the sign."""
    out = bytearray()
    while not -64 <= value <= 63:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


class _Unsigned(dict[int, bytes]):
    def __missing__(self, value: int) -> bytes:
        code = encode_unsigned(value)
        if value < _REMEMBER_BELOW:
            self[value] = code
        return code


class _Signed(dict[int, bytes]):
    def __missing__(self, value: int) -> bytes:
        code = encode_signed(value)
        if -_REMEMBER_BELOW < value < _REMEMBER_BELOW:
            self[value] = code
        return code


class Prefixed(dict[int, bytes]):
    """`Prefixed(b"\\x20")[n]` is the prefix followed by n: a whole `local.get n`, remembered."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self.prefix = prefix

    def __missing__(self, value: int) -> bytes:
        code = self[value] = self.prefix + ULEB[value]
        return code


ULEB = _Unsigned()
SLEB = _Signed()


def read_uleb(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Decode at `at`: (value, position after it)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def read_sleb(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Decode a signed number at `at`: (value, position after it)."""
    value, end = read_uleb(data, at)
    bits = 7 * (end - at)
    return (value - (1 << bits) if data[end - 1] & 0x40 else value), end
