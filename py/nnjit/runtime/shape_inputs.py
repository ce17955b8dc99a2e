"""Which graph inputs decide shapes: their contents must be known before anything can be compiled.

Takes a Graph bound to input shapes alone; gives the names of small inputs that reach an operand such as
Reshape's `shape` or Slice's `starts` whose node is still dynamic.
"""

from __future__ import annotations

from ..graph.ir import Graph, Node, Value

# Operands that kernels need as constants: positions by operator, ONNX's newest form.
STATIC_OPERANDS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "CumProd": (1,),
    "DFT": (1, 2),
    "Expand": (1,),
    "GroupQueryAttention": (6,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "If": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
}
REDUCTIONS = frozenset(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare".split()
)
# A shape has at most as many entries as a tensor has axes; a boundary list (pads) twice that.
MAX_ELEMENTS = 64


def find(graph: Graph) -> list[str]:
    """Names of graph inputs whose values must be bound, in the graph's order."""
    wanted: set[int] = set()
    for node in graph.nodes:
        for operand in static_operands(node):
            wanted |= {id(v) for v in _small_sources(operand)}
    return [value.name for value in graph.inputs if id(value) in wanted]


def static_operands(node: Node) -> list[Value]:
    """The node's operands that should be constant and are not."""
    positions = STATIC_OPERANDS.get(node.op, (1,) if node.op in REDUCTIONS else ())
    operands = [node.input(i) for i in positions if i < len(node.inputs)]
    return [v for v in operands if v is not None and v.const is None]


def _small_sources(value: Value) -> list[Value]:
    """Graph inputs that `value` is computed from by way of small tensors alone; none if one is large."""
    found: list[Value] = []
    seen: set[int] = set()
    todo = [value]
    while todo:
        v = todo.pop()
        if id(v) in seen or v.const is not None:
            continue
        seen.add(id(v))
        if v.producer is None:
            if v.shape is None or (v.size or 0) > MAX_ELEMENTS:
                return []
            found.append(v)
        elif v.producer.op in ("Shape", "Size", "NonZero"):
            return []  # known only at run time, and different with every run
        else:
            todo.extend(v.producer.reads())
    return found
