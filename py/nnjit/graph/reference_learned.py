"""Operators that scikit-learn's converters write and onnx.reference lacks: Tokenizer; ZipMap, which gives maps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class _Whole(OpRun):
    """An operator of which `run` is overridden."""

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        raise NotImplementedError


class ZipMap(_Whole):
    """[n, classes] → n maps of labels to numbers; a vector is one row."""

    op_domain = "ai.onnx.ml"

    def run(
        self, *args: Any, linked_attributes: Any = None, context: Any = None, bindings: Any = None
    ) -> tuple[Any, ...]:
        texts = getattr(self, "classlabels_strings", None)
        labels = list(texts or getattr(self, "classlabels_int64s", None) or [])
        rows = np.atleast_2d(np.asarray(args[0]))
        if rows.shape[1] != len(labels):
            raise ValueError(f"{rows.shape[1]} numbers a row for {len(labels)} labels")
        return ([dict(zip(labels, row, strict=True)) for row in rows],)


class Tokenizer(_Whole):
    """Texts […] → their words […, most], filled up with pad_value; mark: between a start and an end.

    Words are what `tokenexp` finds, or what `separators` leave; one empty separator leaves characters."""

    op_domain = "com.microsoft"

    def run(
        self, *args: Any, linked_attributes: Any = None, context: Any = None, bindings: Any = None
    ) -> tuple[Any, ...]:
        texts = np.asarray(args[0])
        rows = [self._words(str(text)) for text in texts.reshape(-1)]
        most = max((len(row) for row in rows), default=0)
        pad = self.pad_value  # type: ignore[attr-defined]
        filled = [row + [pad] * (most - len(row)) for row in rows]
        out = np.empty((len(rows), most), dtype=object)
        for place, row in zip(out, filled, strict=True):
            place[:] = row
        return (out.reshape(*texts.shape, most),)

    def _words(self, text: str) -> list[str]:
        found, separators = getattr(self, "tokenexp", None), list(getattr(self, "separators", None) or [])
        if found:
            words = [m.group() for m in re.finditer(found, text)]
        elif separators == [""]:
            words = list(text)
        else:
            words = [text]
            for separator in separators:
                words = [part for word in words for part in re.split(separator, word)]
        words = [w for w in words if len(w) >= self.mincharnum]  # type: ignore[attr-defined]
        return ["\x02", *words, "\x03"] if self.mark else words  # type: ignore[attr-defined]


LEARNED_OPS: list[type[OpRun]] = [Tokenizer, ZipMap]
