"""What request headers mean: takes their text, returns a decision."""

from __future__ import annotations


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip; `gzip;q=0` forbids it."""
    for item in header.split(","):
        coding, _, parameters = item.strip().partition(";")
        if coding.strip().lower() in {"gzip", "*"}:
            quality = parameters.replace(" ", "").lower().removeprefix("q=")
            return quality.rstrip("0") not in {"0.", "."} and quality != "0"
    return False
