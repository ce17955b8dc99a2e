"""The numbers that tuning is governed by: when a candidate is given up, how long and how often it is timed.

The engine's lab gets those of `LAB` with each setup and knows none itself; the rest is for the search and the forms.
"""

from __future__ import annotations

ROUNDS = 7
"""Rounds of a candidate and the serving kernel in turn."""
PAIR_ROUNDS = 7
"""The same for two forms of a node."""
WIN = 0.975
"""A candidate must take at most this part of the serving kernel's time to replace it."""
PAIR_WIN = 0.97
"""The same for another form: it changes the plan, which costs more than a slot."""
AGAIN = 0.985
"""In the second duel, which keeps out who was only lucky in the first."""
WORTH = 0.004
"""A kernel is worth trying while what it may gain is this part of the model's time."""
PART_MS = 6.0
"""Milliseconds of Python at a time while a graph is lowered beside inferences."""
MORE_BYTES, MORE_SHARE = 64 << 20, 0.25
"""What a session's memory may grow by another plan: so many bytes, or this part of it."""
VERIFY_MS = 400.0
"""Under a stream of inferences a whole plan is verified only if that takes less than this."""

LAB = {
    # a fresh kernel's fast code arrives 8-20 ms after its first calls; slow machines get a second wait
    "tierMs": 22.0,
    # a sample lasts this many grains of the clock, and no less than sampleMs
    "grains": 100,
    "sampleMs": 0.7,
    # beyond this multiple of the serving kernel's time a candidate is not looked at any longer
    "hopeless": 1.6,
    # the same before the fast code is there, and what it may take besides (ms)
    "stuck": 25.0,
    "stuckMs": 20.0,
    # two rounds of a duel in which the candidate's best is this much over the serving kernel's worst end it
    "behind": 1.15,
    # a candidate this far behind gets a second wait for its fast code
    "late": 1.3,
    # what a first look at a candidate's outputs may take; a winner is verified whole
    "lookMs": 6.0,
    # steps of a plan that are run without a look at whether an inference waits (ms, but never less than a step)
    "sliceMs": 3.0,
    # rounds of the second duel
    "again": 5,
}
