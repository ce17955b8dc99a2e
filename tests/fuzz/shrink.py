"""The smallest case that shows the same kind of fault: nodes are left out one by one, their results fed instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.fuzz.builder import Case, captured
from tests.fuzz.judge import Fault


def shrink(case: Case, judge: Callable[[Case], Fault | None], fault: Fault) -> tuple[Case, Fault]:
    """Each try is one run; a case of n nodes takes about 2 n."""
    case, fault = fewer_outputs(case, judge, fault)
    changed = True
    while changed:
        changed = False
        for node in reversed(case.nodes):
            nodes = [n for n in case.nodes if n is not node]
            read = {name for n in nodes for name in (*n.input, *captured(n))}
            outputs = [o for o in case.outputs if o not in node.output]
            made = {name for n in nodes for name in n.output}
            outputs = outputs or [name for name in node.input if name in made and name not in read][:1]
            if not nodes or not outputs:
                continue
            smaller = replace(case, nodes=nodes, outputs=outputs)
            found = judge(smaller)
            if found is not None and found.kind == fault.kind:
                case, fault, changed = smaller, found, True
    plain = replace(case, symbolic=set())
    found = judge(plain)
    return (plain, found) if found is not None and found.kind == fault.kind else (case, fault)


def fewer_outputs(case: Case, judge: Callable[[Case], Fault | None], fault: Fault) -> tuple[Case, Fault]:
    for name in case.outputs:
        smaller = replace(case, outputs=[name])
        found = judge(smaller)
        if found is not None and found.kind == fault.kind:
            return smaller, found
    return case, fault
