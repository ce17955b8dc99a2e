"""When the page has a plan made before a run needs it, beside runs on plans with room. Numbers for web/api/ahead.js."""

from __future__ import annotations

RISES = 3
"""Steps of one size among the latest lengths, from which on they count as a stream that goes on."""
RECENT = 32
"""Lengths that are remembered: several streams may take turns."""
MARGIN = 4.0
"""The plan for the next capacity is begun when what is left of this one lasts so many times as long as making a plan
took: Python is slower beside the engine's threads than alone ..."""
SHARE = 0.75
"""... or when so much of the capacity is used."""
AGAIN = 8
"""Runs of one shape in a row, after which it gets a plan of its own, without room."""

AHEAD = {"rises": RISES, "recent": RECENT, "margin": MARGIN, "share": SHARE, "again": AGAIN}
