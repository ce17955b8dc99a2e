"""Decoding in a page: what drives it, and what native onnxruntime makes of the same prompt."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support import decoder_models
from tests.support.decoder_models import Size

if TYPE_CHECKING:
    from .api_page import Api

SET_UP = """async () => {
  const ones = (n) => T('int64', new BigInt64Array(n).fill(1n), [1, n]);
  /** Feeds of a step: `ids` after the outputs of the step before, or after nothing. */
  window.stepFeeds = ({ layers, heads, hidden }, ids, before) => {
    const feeds = { input_ids: T('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]) };
    const empty = () => T('float32', new Float32Array(0), [1, heads, 0, hidden / heads]);
    for (let layer = 0; layer < layers; layer++)
      for (const part of ['key', 'value'])
        feeds[`past_key_values.${layer}.${part}`] = before ? before[`present.${layer}.${part}`] : empty();
    feeds.attention_mask = ones(feeds['past_key_values.0.key'].dims[2] + ids.length);
    return feeds;
  };
  const largest = (row) => row.reduce((best, v, i) => (v > row[best] ? i : best), 0);
  /** A sequence under way: token() does a run and appends the token that follows from what it found likeliest. */
  window.Sequence = class {
    constructor(session, size, prompt, how = {}) {
      Object.assign(this, { session, size, how, tokens: [], rows: [], keys: [], cold: [], fed: prompt, before: null });
    }
    async token() {
      const { session, size } = this;
      this.before = await session.run(stepFeeds(size, this.fed, this.before), this.how.fetches?.(this));
      const { logits } = this.before;
      const data = await logits.getData();
      const row = Array.from(data.subarray(data.length - size.vocabulary));
      const token = (largest(row) + 17 * this.tokens.length) % size.vocabulary; // else it would be the same one soon
      this.tokens.push(token);
      this.rows.push(row);
      this.keys.push(session.stats().key);
      this.cold.push(session.lastRun.cold);
      this.fed = [token];
      return token;
    }
    /** What Python compares. */
    get found() {
      const { tokens, rows, keys, cold } = this;
      return { tokens, rows, keys, cold };
    }
  };
}"""


def expected(model: bytes, size: Size, prompt: list[int], count: int) -> tuple[list[int], np.ndarray]:
    """The tokens that follow from native onnxruntime's logits, and these."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    tokens: list[int] = []
    rows = []
    past: dict[str, np.ndarray] | None = None
    fed = np.array([prompt])
    for _ in range(count):
        values = session.run(None, decoder_models.feeds(size, fed, past))
        past = dict(zip(names, values, strict=True))
        rows.append(past["logits"][0, -1])
        tokens.append((int(rows[-1].argmax()) + 17 * len(tokens)) % size.vocabulary)
        fed = np.array([tokens[-1:]])
    return tokens, np.array(rows)


def size_of(size: Size) -> dict[str, Any]:
    return asdict(size)


def agree(found: dict[str, Any], tokens: list[int], rows: np.ndarray) -> None:
    """The same tokens by logits that differ by rounding."""
    assert found["tokens"] == tokens
    np.testing.assert_allclose(np.array(found["rows"]), rows, atol=2e-4 * float(np.abs(rows).max()))


def with_room(keys: list[str]) -> list[str]:
    """The plans with room among those that served, each once."""
    return list(dict.fromkeys(key for key in keys if "n<=" in key))


def set_up(api: Api) -> None:
    api.run(SET_UP)
