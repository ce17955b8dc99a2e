"""Lists of an AttributeProto as protobuf writes them: each element a field of its own. Trees have many thousands.

`ELEMENTS` has, for the tag of an element, the pattern of a run of such elements: floats, numbers of seven bits a byte,
texts of less than 32 bytes.
"""

from __future__ import annotations

import re

LISTS = frozenset({7, 8, 9})
"""The fields: floats, ints, strings."""
CHUNK = 1 << 13
"""Bytes of a list that are looked at together."""
FLOAT, NUMBER, TEXT = 0x3D, 0x40, 0x4A
NUMBERS = re.compile(rb"\x40([\x80-\xff]{0,9}[\x00-\x7f])")
TEXTS = re.compile("|".join(rf"\x4a\x{n:02x}.{{{n}}}" for n in range(32)).encode(), re.DOTALL)
ELEMENTS = {
    FLOAT: re.compile(rb"(?:\x3d.{4})+", re.DOTALL),
    NUMBER: re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+"),
    TEXT: re.compile(b"(?:" + TEXTS.pattern + b")+", re.DOTALL),
}
