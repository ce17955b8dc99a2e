"""Old operator versions → the newest form, so that every later stage knows one form of each operator."""

from __future__ import annotations

from ..graph.ir import Node
from . import upgrade_axes, upgrade_legacy, upgrade_ops
from .draft import REWRITERS, Draft, Rewriter

# Imported for their rewriters.
_REWRITER_FILES = (upgrade_axes, upgrade_legacy, upgrade_ops)


def upgrade(draft: Draft) -> list[Node]:
    """The nodes, in order, that do in the newest opset what the draft does in its own."""
    if not draft.domain:
        done: set[Rewriter] = set()
        again = True
        while again:  # a rewriter may rename the operator: Upsample → Resize
            again = False
            for until, rewriter in REWRITERS.get(draft.op, ()):
                if draft.version < until and rewriter not in done:
                    done.add(rewriter)
                    op = draft.op
                    rewriter(draft)
                    if draft.op != op:
                        again = True
                        break
    return draft.finish()
