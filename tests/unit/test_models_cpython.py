"""The small models on CPython, kernels under wasmtime, against native onnxruntime: no browser needed."""

from __future__ import annotations

import pytest

from nnjit.runtime.local import LocalSession
from tests.models.catalogue import MODELS, SMALL
from tests.models.judge import judge, on_reference


@pytest.mark.parametrize("name", SMALL)
def test_model(name: str) -> None:
    model = MODELS[name]
    session = LocalSession(model.path().read_bytes())
    for shape in range(len(model.shapes)):
        got = session.run(model.feeds(shape))
        expected = model.expected(shape)
        outputs = dict(got) if isinstance(got, dict) else dict(zip(expected, got, strict=True))
        print("\n".join(judge(model.label(shape), expected, outputs)))
        assert not on_reference(name, session.placement())
