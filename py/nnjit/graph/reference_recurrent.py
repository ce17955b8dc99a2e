"""LSTM, GRU and RNN for onnx.reference, whose own (onnx 1.23) take no notice of `sequence_lens`: rows of a batch that
are equally long are run together, as many steps as they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_gru, op_lstm, op_rnn

LENGTHS, STATES = 4, (5, 6)
"""Places of operands."""


def by_lengths(
    run: Callable[..., tuple[Any, ...]], args: tuple[Any, ...], states: int, batch_first: bool
) -> Any:
    """What `run` gives, called for the rows of each length; zeros behind them, and the states after their last step."""
    lengths = np.asarray(args[LENGTHS])
    results: list[Any] = []
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        part: list[Any] = [None if i == LENGTHS else a for i, a in enumerate(args)]
        x = np.take(args[0], rows, 0 if batch_first else 1)
        steps = max(int(length), 1)
        part[0] = x[:, :steps] if batch_first else x[:steps]
        for at in STATES[:states]:
            if at < len(part) and part[at] is not None:
                part[at] = np.take(part[at], rows, 0 if batch_first else 1)
        found = run(*part)
        if not length:  # no step: ONNX does not say what comes out; zeros, as in onnxruntime
            found = tuple(np.zeros_like(f) for f in found)
        if not results:
            whole = list(found[0].shape)
            time, batch = (1, 0) if batch_first else (0, 2)
            whole[time], whole[batch] = args[0].shape[time], len(lengths)
            results = [np.zeros(whole, found[0].dtype)]
            for state in found[1:]:
                shape = list(state.shape)
                shape[0 if batch_first else 1] = len(lengths)
                results.append(np.zeros(shape, state.dtype))
        if batch_first:
            results[0][rows, :steps] = found[0]
        else:
            results[0][:steps, :, rows] = found[0]
        for result, state in zip(results[1:], found[1:], strict=True):
            result[(rows,) if batch_first else (slice(None), rows)] = state
    return tuple(results)


def _counting(base: Any, states: int) -> Callable[..., tuple[Any, ...]]:
    def run(self: Any, *args: Any, **attrs: Any) -> tuple[Any, ...]:
        def own(*given: Any) -> tuple[Any, ...]:
            return tuple(base._run(self, *given, **attrs))

        if len(args) <= LENGTHS or args[LENGTHS] is None:
            return own(*args)
        found: tuple[Any, ...] = by_lengths(own, args, states, bool(attrs.get("layout") or 0))
        return found

    return run


class LSTM(op_lstm.LSTM):
    _run = _counting(op_lstm.LSTM, 2)


class GRU(op_gru.GRU):
    _run = _counting(op_gru.GRU, 1)


class RNN(op_rnn.RNN_14):
    _run = _counting(op_rnn.RNN_14, 1)


RECURRENT_OPS: list[type[OpRun]] = [LSTM, GRU, RNN]
