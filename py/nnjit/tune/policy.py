"""The numbers that tuning is governed by: when a candidate is given up, how long and how often it is timed.

The engine's lab gets those of `LAB` with each setup and knows none itself; the rest is for the search and the forms.
"""

from __future__ import annotations

from typing import Any

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
FACTS_MS = 1500.0
"""In mode idle the first candidates wait so long for the device's facts; then typical ones serve instead."""
PAUSE_MS, PATIENCE_MS = 1000.0, 60_000.0
"""What cannot be cut into slices takes place so long after the last run; how long such a pause is waited for."""
STREAM = {
    # runs that follow each other within streamMs are a stream; after work of Python's beside one of runs below shortMs
    # comes `spacing` times as long without, at most spacingMs; between two parts of a lowering restMs, or longRestMs
    "streamMs": 50.0,
    "shortMs": 60.0,
    "spacing": 150.0,
    "spacingMs": 2000.0,
    "restMs": 30.0,
    "longRestMs": 15.0,
    # how long an inference is waited for that tells where the time goes; in a stream one comes for sure
    "surveyMs": 2000.0,
    "streamSurveyMs": 8000.0,
    # while the lab works: how often it is asked what inferences waited, and whether it waits for a pause
    "watchMs": 1000.0,
    # what one thing may take the lab of what inferences may still wait: a kernel that is laid out is to be tried, too
    "part": 0.3,
    # on battery below this level nothing is tuned
    "lowBattery": 0.25,
}
"""How the page keeps Python's work away from a stream of inferences."""
EARLY = 0.15
"""A node's other form is tried before the kernels if it takes this part of the model's time; else after them."""
PART_MS = 6.0
"""Milliseconds of Python at a time while a graph is lowered beside inferences."""
MORE_BYTES, MORE_SHARE = 64 << 20, 0.25
"""What a session's memory may grow by another plan: so many bytes, or this part of it."""

PACE = {
    # by mode now: a window is so long, or this part of an inference, at most so long
    "nowMs": 8.0,
    "nowShare": 0.18,
    "nowMostMs": 200.0,
    # inferences longer than this wait while a lab rests in its window, and so long for what Python says next: to let
    # one go first would cost the tuner as much as that takes
    "longMs": 100.0,
    "lingerMs": 30.0,
    # by mode idle only longer ones wait while a lab rests, and none for Python: to let one go first would cost seconds
    "idleLongMs": 1000.0,
    # a pause between inferences of this length counts as idle; a slice in one is so long ...
    "quietMs": 12.0,
    "idleMs": 4.0,
    # ... but at most this part of an inference (no less than idleLeastMs) until the pause is a long one
    "idlePart": 0.5,
    "idleLeastMs": 1.0,
    "longQuietMs": 120.0,
    # runs on the caller's thread that never end are not waited for longer
    "patienceMs": 40.0,
    # of a stream without pauses: this part of what inferences take, in slices of at most this part of one ...
    "share": 0.08,
    "part": 0.2,
    "mostMs": 60.0,
    # ... of which at most so many are saved up ...
    "savedSlices": 2.0,
    # ... but no work can be cut into less than this; where that is more than such a part, one slice comes in so many
    # inferences, so few that their 99th percentile does not show it
    "unitMs": 1.0,
    "rareRuns": 150,
    "rareMs": 6.0,
    # what all inferences of a session may wait in all, and of that in slices that come although there is no pause
    "allowanceMs": 400.0,
    "streamMs": 300.0,
    # a plan that is to take another's place: each kernel is called so long at a time, so that its fast code comes; all
    # of them so often, with a third of the time between that fast code takes to come
    "warmEachMs": 0.6,
    "warmPasses": 3,
    "warmPauseMs": 8.0,
    # nothing is begun with less than this left, or so many times the longest piece of work so far: the machine may be
    # busy
    "reserveMs": 50.0,
    "reserveTimes": 2.0,
}
"""When the engine's lab may use the engine for a session's candidates."""
PROBING = {**PACE, "allowanceMs": 100.0, "streamMs": 0.0}
"""The same while the device's facts are measured: in pauses only. With the session's own allowance 500 ms in all."""

LAB: dict[str, object] = {
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
    "pace": PACE,
}

STREAM["mayMs"] = PACE["streamMs"] - PACE["reserveMs"]
"""What inferences may wait in all, before a lab has said so."""

GPU_PACE = {
    # a pause between inferences of this length counts as idle
    "quietMs": 12.0,
    # what an inference takes is the median of so many
    "medianOf": 9,
    # after an inference slices are so short for this long that the next one would wait for at most such a part of its
    # own time (by mode now: the other one) ...
    "recentMs": 1000.0,
    "part": 0.2,
    "nowPart": 0.5,
    # ... and without a pause they come when this part of what inferences have taken is saved up for them
    "share": 0.08,
    "nowShare": 0.25,
    # no slice is shorter: browsers round a device's clock to a quarter of this. Where it is more than such a part,
    # and for work that nobody can cut, one slice of any length comes in so many inferences, so few that their 99th
    # percentile does not show it, or after so long
    "unitMs": 0.262,
    "rareRuns": 150,
    "patienceMs": 2000.0,
    # what all inferences may wait for slices; then only pauses are used, and without one for so long it is over
    "allowanceMs": 500.0,
    "giveUpMs": 20_000.0,
}
"""When a lab on a GPU may use the device."""

PAUSES = {"share": 0.0, "nowShare": 0.0, "rareRuns": 1e12, "patienceMs": 1e12}
"""Nothing comes beside inferences that leave no pause."""

GPU_PROBING = {**GPU_PACE, **PAUSES}
"""The same while the device's facts are measured: in pauses only. Without any, typical facts serve (FACTS_MS)."""

GPU_LAB: dict[str, Any] = {
    # a reading lasts so long on the device, past the grain of its clock, in slices if inferences come
    "sampleMs": 6.0,
    "grainMs": 0.0655,
    # the same where there are no timestamps: browsers tell of finished work a few ms late
    "wallMs": 25.0,
    # a kernel is repeated at most so often for a reading
    "most": 512,
    # beyond this multiple of the serving kernel's time a candidate is not looked at any longer
    "hopeless": 1.6,
    # two rounds in which the candidate's best is this much over the serving kernel's worst end a duel
    "behind": 1.15,
    # bytes of each output that a first look compares, in three pieces; a winner is compared whole
    "lookBytes": 3 << 18,
    # rounds of the second duel
    "again": 5,
    "pace": GPU_PACE,
}
"""What the lab for GPUs gets, in place of LAB."""

GPU_PROOF: dict[str, Any] = {
    # elements of each output that are held against the spec
    "probes": 3,
    # kernels are looked at in pauses of this length; a session that is never left alone for so long is not looked at
    "quietMs": 300.0,
    "giveUpMs": 1e12,
    **PAUSES,
    # digests of shaders that were right on an adapter, at most so many are kept
    "most": 4096,
}
"""How the kernels that a plan came with are looked at after its first run."""

MOVING = {
    # runs that each backend is timed by
    "runs": 3,
    # a move is made where the GPU takes at most this part of the time
    "gain": 0.9,
    # how far outputs may differ, in parts of the largest: products in f16 included, a driver's mistake not
    "near": 0.02,
}
"""When a session that may run on both backends leaves WebAssembly for WebGPU."""
