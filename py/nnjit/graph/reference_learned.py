"""Operators of ai.onnx.ml for onnx.reference that it lacks: ZipMap, whose results are maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class ZipMap(OpRun):
    """[n, classes] → n maps of labels to numbers; a vector is one row."""

    op_domain = "ai.onnx.ml"

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        raise NotImplementedError  # `run` is overridden as a whole

    def run(
        self, *args: Any, linked_attributes: Any = None, context: Any = None, bindings: Any = None
    ) -> tuple[Any, ...]:
        texts = getattr(self, "classlabels_strings", None)
        labels = list(texts or getattr(self, "classlabels_int64s", None) or [])
        rows = np.atleast_2d(np.asarray(args[0]))
        if rows.shape[1] != len(labels):
            raise ValueError(f"{rows.shape[1]} numbers a row for {len(labels)} labels")
        return ([dict(zip(labels, row, strict=True)) for row in rows],)


LEARNED_OPS: list[type[OpRun]] = [ZipMap]
