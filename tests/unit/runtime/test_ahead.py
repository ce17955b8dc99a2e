"""The request that is expected after a decoder's first one, from the names of its dims."""

from __future__ import annotations

from typing import Any

import pytest

from nnjit.frontend import BytesSource, load
from nnjit.graph.signature import Signature, TensorInfo
from nnjit.runtime.ahead import foreseen
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from tests.support.decoder_models import SMALL, decoder


def signature(**inputs: Any) -> Signature:
    return Signature([TensorInfo(name, "i64", "tensor", dims) for name, dims in inputs.items()], [])


IDS, PAST = ("batch", "sequence"), ("batch", 4, "past", 8)


@pytest.mark.parametrize("total", ["past + sequence", "total_sequence_length", "past + 1"])
@pytest.mark.parametrize("batch, prompt", [(1, 20), (2, 20), (1, 1), (3, 3)])
def test_a_token_follows_a_prompt(total: str, batch: int, prompt: int) -> None:
    model = signature(ids=IDS, mask=("batch", total), positions=IDS, key=PAST)
    first = {
        "ids": (batch, prompt),
        "mask": (batch, prompt),
        "positions": (batch, prompt),
        "key": (batch, 4, 0, 8),
    }
    assert foreseen(model, first) == {
        "ids": (batch, 1),
        "mask": (batch, prompt + 1),
        "positions": (batch, 1),
        "key": (batch, 4, prompt, 8),
    }


@pytest.mark.parametrize(
    "inputs, shapes",
    [
        ({"ids": IDS, "key": PAST}, {"ids": (1, 5), "key": (1, 4, 3, 8)}),  # not the first run
        ({"ids": IDS}, {"ids": (1, 5)}),  # nothing is remembered
        ({"ids": IDS, "key": ("batch", 4, None, 8)}, {"ids": (1, 5), "key": (1, 4, 0, 8)}),  # no name
        ({"mask": ("batch", "past + 1"), "key": PAST}, {"mask": (1, 5), "key": (1, 4, 0, 8)}),  # no tokens
        (
            {"ids": IDS, "other": ("rows",), "key": PAST},
            {"ids": (1, 5), "other": (7,), "key": (1, 4, 0, 8)},
        ),  # two lengths: which was fed?
        (
            {"ids": IDS, "key": PAST, "seen": ("batch", 4, "encoded", 8)},
            {"ids": (1, 5), "key": (1, 4, 0, 8), "seen": (1, 4, 0, 8)},
        ),  # two that are empty
        ({"ids": (1, "sequence"), "key": (4, "past")}, {"ids": (1, 0), "key": (4, 0)}),
        ({"ids": (1, "sequence"), "key": (4, "past")}, {"ids": (1, 5), "key": (4, 0, 8)}),  # another rank
    ],
)
def test_what_is_not_foreseen(inputs: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    assert foreseen(signature(**inputs), shapes) is None


def test_a_decoder_is_foreseen_and_gets_room() -> None:
    """The plan for what is expected serves what comes."""

    def shapes(rows: int, past: int) -> dict[str, tuple[int, ...]]:
        cache = (1, SMALL.heads, past, SMALL.depth)
        names = [f"past_key_values.{i}.{part}" for i in range(SMALL.layers) for part in ("key", "value")]
        return {"input_ids": (1, rows), "attention_mask": (1, past + rows)} | dict.fromkeys(names, cache)

    session = CompilerSession(load(BytesSource(decoder(SMALL), "m"), {}), Options(room=True))
    first, _ = session.prepare(shapes(20, 0), {})
    assert first.next == shapes(1, 20)
    session.settle([first.key])
    second, _ = session.prepare(first.next, {})
    session.settle([first.key, second.key])
    assert second.room is not None and second.next is None
    for past in (20, 21):
        assert session.prepare(shapes(1, past), {}) == (second, [])
    for other in (Options(), Options(room=True, provider="reference")):
        asked = CompilerSession(load(BytesSource(decoder(SMALL), "m"), {}), other)
        assert asked.prepare(shapes(20, 0), {})[0].next is None
