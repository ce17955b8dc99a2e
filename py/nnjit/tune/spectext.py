"""The public text of a kernel spec: what is computed, over which shapes; no name, no value of any constant.

`public_text` makes it from KernelSpec.describe(); `check_text` holds a text from anywhere to that form: it has
no literal but whole numbers in shapes and index expressions, and no word but operations, axes and locals.
"""

from __future__ import annotations

import re

from nnjit.errors import RecordError

MAX_TEXT = 16 * 1024
MAX_LINES = 256
"""Characters and lines of a text, at most."""
TITLE = "kernel"
KEYWORDS = frozenset({"acc", "over", "of", "if", "else", "in", "out", "scratch", "const", TITLE})

_DTYPE = r"[a-z][a-z0-9]{1,7}"
_CONSTANT = re.compile(rf"(?<![\w.%$])-?(?:\d[\w.+-]*|inf|nan|True|False):({_DTYPE})\b")
_AXIS = re.compile(r"(?<![\w.])([A-Za-z_]\w{0,11}):(\d{1,10})(?!\w)")
_OPERAND = re.compile(rf"  \$(\d{{1,2}}) (?:in|out|scratch) ({_DTYPE})\[(\d{{1,12}})\](?: const)?")
_TOKEN = re.compile(
    rf"(?P<space>\s+)|(?P<blank>_:{_DTYPE}(?!\w))|(?P<typed>[a-z]\w{{0,23}}:{_DTYPE}(?=\())"
    r"|(?P<axis>[A-Za-z_]\w{0,11}:\d{1,10}(?!\w))|(?P<call>[a-z]\w{0,23}(?=\())|(?P<local>%[a-z]\w{0,15})"
    r"|(?P<operand>\$\d{1,2}(?!\w))|(?P<number>\d{1,15}(?![\w.]))|(?P<word>[A-Za-z_]\w{0,11}(?!\w))"
    r"|(?P<mark><=|[-+*=<()\[\],])"
)
_CLOSES = {")": "(", "]": "["}


def public_text(described: str) -> str:
    """KernelSpec.describe() without the kernel's name, and each constant as `_` of its type.

    f32_gemm over m:5 n:6 ... mul(%acc, 0.5:f32)     ->      kernel over m:5 n:6 ... mul(%acc, _:f32)
    """
    _, over, rest = described.partition(" over ")
    return TITLE + over + _CONSTANT.sub(r"_:\1", rest)


def axes_of_text(text: str) -> set[str]:
    """The axes a text declares (`m:5`), shared ones and those of its stages."""
    return {m.group(1) for m in _AXIS.finditer(text)}


def check_text(text: str) -> None:
    """RecordError unless `text` has the form that public_text gives."""
    lines = text.split("\n")
    if len(text) > MAX_TEXT or len(lines) > MAX_LINES:
        raise RecordError(
            f"the spec has {len(text)} characters in {len(lines)} lines; the limits are {MAX_TEXT} and {MAX_LINES}",
            path="spec",
        )
    if not re.fullmatch(rf"{TITLE} over(?: {_AXIS.pattern})*(?: )?", lines[0], re.ASCII):
        raise _refuse(0, lines[0])
    known, operands = KEYWORDS | axes_of_text(text), 0
    for i, line in enumerate(lines[1:], 1):
        if _OPERAND.fullmatch(line):
            if i - 1 != operands or not line.startswith(f"  ${operands} "):
                raise _refuse(i, line)
            operands += 1
        elif operands and line.startswith("  ") and not line.startswith("   "):
            _check_stage(i, line, known, operands)
        else:
            raise _refuse(i, line)
    if len(lines) < 3 or operands in (0, len(lines) - 1):
        raise _refuse(0, lines[0])


def _check_stage(number: int, line: str, known: frozenset[str] | set[str], operands: int) -> None:
    """One `acc = ...`, `%local = ...` or `$n[...] = ...` line: known words, whole numbers, brackets in pairs."""
    if not re.match(r"  (acc|%\w+|\$\d+\[.*\]) = ", line):
        raise _refuse(number, line)
    at, open_brackets = 0, []
    while at < len(line):
        token = _TOKEN.match(line, at)
        if token is None or not token.group().isascii():
            raise _refuse(number, line[at:])
        kind, word = token.lastgroup, token.group()
        if kind == "word" and word not in known and word not in COMBINES:
            raise _refuse(number, word)
        if kind == "operand" and int(word[1:]) >= operands:
            raise _refuse(number, word)
        if word in "([":
            open_brackets.append(word)
        elif word in _CLOSES and (not open_brackets or open_brackets.pop() != _CLOSES[word]):
            raise _refuse(number, line)
        at = token.end()
    if open_brackets:
        raise _refuse(number, line)


COMBINES = frozenset("sum prod max min pmax pmin any all".split())


def _refuse(number: int, what: str) -> RecordError:
    shown = re.sub(r"[^ -~]", "?", what)[:60]
    return RecordError(f"line {number + 1} of the spec is none: {shown!r}", path="spec", got=shown)
