"""Operations of the expression language as WGSL operators and built-in functions.

WGSL lets an implementation assume that there are no NaNs: min and max may drop one.
"""

from __future__ import annotations

CALLS = {
    "exp": "exp", "decay": "exp", "log": "log", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc",
    "round": "round", "abs": "abs", "fma": "fma", "min": "min", "max": "max", "pmin": "min", "pmax": "max",
}  # fmt: skip
UNARY = {"neg": "-", "not": "!", "bnot": "~"}
BINARY = {
    "mul": ("*", 2), "div": ("/", 2), "add": ("+", 1), "sub": ("-", 1), "rem": ("%", 0),
    "eq": ("==", 0), "ne": ("!=", 0), "lt": ("<", 0), "le": ("<=", 0), "gt": (">", 0), "ge": (">=", 0),
    "and": ("&", 0), "or": ("|", 0), "xor": ("!=", 0), "band": ("&", 0), "bor": ("|", 0), "bxor": ("^", 0),
}  # fmt: skip
"""The operator, and how tightly it binds: 0 means parentheses around and inside."""
