"""LEB128: known encodings at the edges, and that reading undoes writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnjit.codegen.wasm.leb import SLEB, ULEB, Prefixed, read_sleb, read_uleb


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "40"),
        (127, "7f"),
        (128, "8001"),
        (16383, "ff7f"),
        (16384, "808001"),
        (624485, "e58e26"),
        (2**31, "8080808008"),
        (2**32 - 1, "ffffffff0f"),
    ],
)
def test_unsigned(value: int, code: str) -> None:
    assert ULEB[value].hex() == code
    assert ULEB[value].hex() == code, "the remembered one"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "c000"),
        (127, "ff00"),
        (128, "8001"),
        (-1, "7f"),
        (-64, "40"),
        (-65, "bf7f"),
        (-128, "807f"),
        (-129, "ff7e"),
        (-123456, "c0bb78"),
        (2**31 - 1, "ffffffff07"),
        (-(2**31), "8080808078"),
        (2**63 - 1, "ffffffffffffffffff00"),
        (-(2**63), "8080808080808080807f"),
    ],
)
def test_signed(value: int, code: str) -> None:
    assert SLEB[value].hex() == code
    assert SLEB[value].hex() == code, "the remembered one"


def test_unsigned_refuses_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        ULEB[-1]


def test_prefixed() -> None:
    assert Prefixed(b"\x20")[200] == b"\x20\xc8\x01"


@given(st.integers(0, 2**64))
def test_unsigned_round_trip(value: int) -> None:
    code = ULEB[value]
    assert read_uleb(b"\xff" + code + b"\x80", 1) == (value, 1 + len(code))
    assert len(code) == max(1, -(-value.bit_length() // 7)), "the shortest encoding"


@given(st.integers(-(2**64), 2**64))
def test_signed_round_trip(value: int) -> None:
    code = SLEB[value]
    assert read_sleb(b"\xff" + code + b"\x80", 1) == (value, 1 + len(code))
    bits = (value if value >= 0 else ~value).bit_length() + 1
    assert len(code) == -(-bits // 7), "the shortest encoding"
