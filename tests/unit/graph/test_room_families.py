"""Models as exporters write them, given room: at each length what the exact graph gives, with and without passes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from nnjit.frontend import BytesSource, load
from nnjit.graph.room import NoRoom, make_room, moved
from nnjit.runtime.host import WholeGraph
from tests.fuzz.families import FAMILIES
from tests.support.rooms import groups, longer, together

SENTENCES = ["bert", "bert-11", "minilm", "bert-f16", "deberta", "t5-encoder", "t5-decoder", "bloom"]
PASTS = [
    "gpt2",
    "gpt2-old",
    "gpt2-f16",
    "llama",
    "llama-one",
    "llama-f16",
    "gemma",
    "qwen",
    "phi",
    "mistral",
    "neox",
]
SPOKEN = ["whisper-decoder", "whisper-decoder-more"]
CASES = [
    *((name, ("sequence",)) for name in SENTENCES),
    *((name, ("all", "past")) for name in PASTS),
    *((name, (symbol,)) for name in SPOKEN for symbol in ("past", "source", "steps")),
    ("recommender", ("b",)),
    ("transducer", ("t",)),
    ("hifigan", ("frames",)),
    ("convnext", ("h",)),
    ("transducer", ("u",)),
    ("wav2vec", ("samples",)),
    ("crnn", ("w",)),
    ("mobilenet-v3", ("h",)),
]
REFUSED = {
    ("whisper-encoder", "batch"): "inside of another",
    ("loop", "b"): "its body reads",
    ("gcn", "nodes"): "no rule",
}


@pytest.mark.parametrize(("name", "symbols"), CASES, ids=lambda v: v if isinstance(v, str) else "+".join(v))
def test_a_family_has_room(name: str, symbols: tuple[str, ...]) -> None:
    net = FAMILIES[name]()
    model = load(BytesSource(net.model().SerializeToString(), name), {})
    axes, feeds = together(net.dims, symbols), net.feeds
    growing = moved(shapes(longer(feeds, axes, 1)), shapes(feeds))
    assert growing is not None
    capacity = 2 * max(feeds[f].shape[i] for f, at in axes.items() for i in at) // 8 * 8 + 8
    both: tuple[list[Any] | None, ...] = ([], None)
    for passes in both:
        room = make_room(model, shapes(feeds), growing, [capacity], passes=passes)
        here = room.n_of(shapes(feeds))
        assert here is not None and room.least[0] <= here[0] < room.most[0]
        run = WholeGraph(room.graph)
        for n in sorted({room.least, here, room.most}):
            given = longer(feeds, axes, n[0] - here[0])
            assert room.n_of(shapes(given)) == n
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                want = WholeGraph(model.bind(shapes=shapes(given), passes=passes)).run(given)
                found = run.run(room.pad(given, n))
            for output, value in want.items():
                cut = room.cut(output, found[output], n)
                assert cut.shape == value.shape
                half = value.dtype == np.float16 or name.endswith("f16")
                np.testing.assert_allclose(
                    cut,
                    value,
                    rtol=2e-2 if half else 1e-3,
                    atol=1e-2 if half else 2e-5,
                    err_msg=f"{output}, n = {n}",
                )


@pytest.mark.parametrize(("name", "symbol"), REFUSED)
def test_a_family_is_refused(name: str, symbol: str) -> None:
    net = FAMILIES[name]()
    model = load(BytesSource(net.model().SerializeToString(), name), {})
    growing = moved(shapes(longer(net.feeds, groups(net.dims)[symbol], 1)), shapes(net.feeds))
    assert growing is not None
    with pytest.raises(NoRoom, match=REFUSED[name, symbol]):
        make_room(model, shapes(net.feeds), growing, [64])


def shapes(feeds: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(a.shape) for name, a in feeds.items()}
