"""Differences from the reference: which number is told, and when none is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnjit.runtime.compare import compare

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("got", "expected", "equal", "max_abs", "max_rel"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), True, 0, 0),
        (np.float32([1, 2.5]), np.float32([1, 2]), False, 0.5, 0.25),
        (np.float32([0.5, 1]), np.float32([0, 1]), False, 0.5, 0),  # nothing is relative to 0
        (np.float32([NAN, INF]), np.float32([NAN, INF]), True, 0, 0),
        (np.float32([INF]), np.float32([-INF]), False, None, None),
        (np.float32([NAN]), np.float32([1]), False, None, None),
        (np.float32([[1]]), np.float32([1]), False, None, None),
        (np.uint8([0]), np.uint8([255]), False, 255, 1),  # no wrap-around
        (np.array([True]), np.array([False]), False, 1, 0),
        (np.complex64([1 + 1j]), np.complex64([1 - 2j]), False, 3, 3 / 5**0.5),
        (np.array(["a"], object), np.array(["a"], object), True, 0, 0),
        (np.array(["a"], object), np.array(["b"], object), False, None, None),
        ([np.float32([1]), np.float32([3])], [np.float32([1]), np.float32([2])], False, 1, 0.5),
        ([np.float32([1])], [], False, None, None),
        ([], [], True, 0, 0),
        (None, None, True, 0, 0),
        (None, np.float32([1]), False, None, None),
        (np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), True, 0, 0),
    ],
)
def test_compare(got: Any, expected: Any, equal: bool, max_abs: float | None, max_rel: float | None) -> None:
    told = compare(got, expected)
    assert told["equal"] is equal
    assert told["maxAbs"] == (None if max_abs is None else pytest.approx(max_abs))
    assert told["maxRel"] == (None if max_rel is None else pytest.approx(max_rel))
    assert bool(told["note"]) == (max_abs is None)


def test_the_worst_element_is_named() -> None:
    assert compare(np.float32([[0, 0], [0, 9]]), np.float32([[0, 1], [0, 0]]))["at"] == [1, 1]
