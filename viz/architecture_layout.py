"""Compute the positions of a model's parts: the residual stream goes upwards on the left, and blocks branch off it.

The result is a `networkx` graph, which `viz/architecture.py` draws. A node is a part, or a point on the stream where an
output is added. An edge is a data flow; it holds the corners of its line. Units are pixels of a figure that is `WIDTH`
wide; a wider figure stretches to the right.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import networkx as nx

from viz.layout import Layout

WIDTH = 416
STREAM = 88.0  # x of the stream
LEFT, RIGHT = 108.0, 396.0  # x range of the parts of blocks
BOX, ROW, PAD = 40.0, 66.0, 14.0  # height of a part, height with the line back to the stream, margin of a block
MIX = 22.0  # height of a mix of residual streams, which stands on the streams
MIX_ROW = 12.0  # height that a mix adds to the line back to the streams
EXPERTS = 104.0  # height of the experts
NORM = 56.0  # width of a norm

Point = tuple[float, float]
Frame = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A part of a model: its key, kind and texts. `added` marks a part that the compared model lacks."""

    key: str
    kind: str
    label: str
    detail: str
    hover: str = ""
    added: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """Consecutive layers of equal structure, drawn as one block."""

    name: str
    label: str
    layers: tuple[int, ...]
    boxes: tuple[Box, ...]

    def box(self, kind: str) -> Box | None:
        """Return the block's part of this kind; None if it has none."""
        return next((box for box in self.boxes if box.kind == kind), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """The parts of a model to draw. `router` has the layout of its MoE layers.

    A model with several residual `streams` has a mix after each attention and feed-forward part, and a `join`.
    """

    embedding: Box
    stacks: tuple[Stack, ...]
    final_norm: Box
    head: Box
    mtp: Box | None
    router: Layout
    join: Box | None = None
    streams: int = 1


def lay_out(model: Model) -> nx.DiGraph:
    """Lay out all parts and data flows of a model.

    Returns:
        A graph with two kinds of node. A part has `box` and `frame` (x0, y0, x1, y1). A point on the stream has `at`
        (x, y), and `adds` if an output is added there. An edge has `path`, the corners of its line, and `streams`, the
        number of parallel lines. `graph["frames"]` has the frame of each block by name, `graph["experts"]` the frame of
        its experts, `graph["height"]` the total height.
    """
    graph = nx.DiGraph(frames={}, experts={})
    _place(graph, model.embedding, (12, 24, 190, 24 + BOX))
    graph.add_node("tokens", at=(STREAM, 4))
    _flow(graph, "tokens", model.embedding.key, (STREAM, 14), (STREAM, 24))
    last, y = model.embedding.key, 24 + BOX + 20
    for stack in model.stacks:
        last, y = _stack(graph, stack, last, y)
    if model.join is not None:
        _place(graph, model.join, (STREAM - NORM / 2, y, STREAM + NORM / 2, y + MIX))
        _flow(graph, last, model.join.key)
        _widen(graph, model)
        last, y = model.join.key, y + MIX + 20
    _place(graph, model.final_norm, (STREAM - NORM / 2, y, STREAM + NORM / 2, y + BOX))
    _flow(graph, last, model.final_norm.key)
    y += BOX + 20
    _place(graph, model.head, (12, y, 190, y + BOX))
    _flow(graph, model.final_norm.key, model.head.key)
    graph.add_node("next token", at=(STREAM, y + BOX + 18))
    _flow(graph, model.head.key, "next token")
    if model.mtp is not None:
        _beside(graph, model, model.mtp, y)
    graph.graph["height"] = y + BOX + 32
    return graph


def _place(graph: nx.DiGraph, box: Box, frame: Frame) -> None:
    graph.add_node(box.key, box=box, frame=frame)


def _flow(graph: nx.DiGraph, source: str, target: str, *corners: Point) -> None:
    """Add an edge between two nodes; without `corners`, from the top of `source` to the bottom of `target`."""
    path = corners or (_top(graph, source), _bottom(graph, target))
    graph.add_edge(source, target, path=list(path), streams=1)


def _widen(graph: nx.DiGraph, model: Model) -> None:
    """Draw the residual stream between the embedding and the last part so far as parallel lines."""
    for source, _, data in graph.edges(data=True):
        if source != "tokens" and all(x == STREAM for x, _ in data["path"]):
            data["streams"] = model.streams


def _bottom(graph: nx.DiGraph, node: str) -> Point:
    data = graph.nodes[node]
    return data["at"] if "at" in data else (STREAM, data["frame"][1])


def _top(graph: nx.DiGraph, node: str) -> Point:
    data = graph.nodes[node]
    return data["at"] if "at" in data else (STREAM, data["frame"][3])


def _beside(graph: nx.DiGraph, model: Model, mtp: Box, y: float) -> None:
    """Add the multi-token prediction module, which reads the next token's embedding and the output head's input."""
    _place(graph, mtp, (226, y, 384, y + BOX))
    low, edge = graph.nodes[model.embedding.key]["frame"], WIDTH - 8.0
    norm, middle = graph.nodes[model.final_norm.key]["frame"], low[1] + BOX / 2
    _flow(
        graph, model.embedding.key, mtp.key, (low[2], middle), (edge, middle), (edge, y + BOX / 2), (384, y + BOX / 2)
    )
    level = norm[1] + BOX / 2
    _flow(graph, model.final_norm.key, mtp.key, (norm[2], level), (300, level), (300, y))
    graph.add_node("token after it", at=(305, y + BOX + 18))
    _flow(graph, mtp.key, "token after it", (305, y + BOX), (305, y + BOX + 10))


def _stack(graph: nx.DiGraph, stack: Stack, last: str, y: float) -> tuple[str, float]:
    """Add a block from `y` upwards; return the point on the stream where the block ends, and the y above the block."""
    bottom, y = y, y + PAD
    indexer = stack.box("indexer")
    last, y = _branch(
        graph, stack, last, y, "attention_norm", [box for box in (indexer, stack.box("attention")) if box]
    )
    if stack.box("experts"):
        last, y = _moe_branch(graph, stack, last, y)
    else:
        last, y = _branch(graph, stack, last, y, "ffn_norm", [box for box in (stack.box("ffn"),) if box])
    graph.graph["frames"][stack.name] = (STREAM - 18, bottom, RIGHT + 6, y + 14)
    return last, y + 14 + 20


def _branch(
    graph: nx.DiGraph, stack: Stack, last: str, y: float, norm_kind: str, boxes: Sequence[Box]
) -> tuple[str, float]:
    """Add a norm, the parts side by side, and the line back to the stream.

    Return the point on the stream where the output is added, and the y above the branch.
    """
    norm, middle = stack.box(norm_kind), y + BOX / 2
    assert norm is not None
    _place(graph, norm, (LEFT, y, LEFT + NORM, y + BOX))
    _flow(graph, last, norm.key, (STREAM, middle), (LEFT, middle))
    start, gap = LEFT + NORM + 22, 22
    width = (RIGHT - start - gap * (len(boxes) - 1)) / len(boxes)
    before, at = norm, start
    for box in boxes:
        _place(graph, box, (at, y, at + width, y + BOX))
        _flow(graph, before.key, box.key, (at - gap, middle), (at, middle))
        before, at = box, at + width + gap
    if len(boxes) > 1:  # the last part also reads the norm, on a line past the others
        x = RIGHT - width / 2
        _flow(graph, norm.key, before.key, (start - gap / 2, middle), (start - gap / 2, y - 8), (x, y - 8), (x, y))
    mix = stack.box(norm_kind.replace("norm", "mix"))
    return _back(graph, stack, last, before, y + BOX, RIGHT - width / 2, mix), y + ROW + (MIX_ROW if mix else 0)


def _back(graph: nx.DiGraph, stack: Stack, last: str, box: Box, top: float, x: float, mix: Box | None) -> str:
    """Add the line from the top of a part to the stream; return the point, or the mix, where its output is added."""
    if mix is not None:
        _place(graph, mix, (STREAM - 15, top + 4, STREAM + 37, top + 4 + MIX))
        point, end, level = mix.key, STREAM + 37, top + 4 + MIX / 2
    else:
        point, end, level = f"{stack.name} after {box.kind}", STREAM, top + 13
        graph.add_node(point, at=(STREAM, level), adds=True)
    _flow(graph, last, point)
    _flow(graph, box.key, point, (x, top), (x, level), (end, level))
    return point


def _moe_branch(graph: nx.DiGraph, stack: Stack, last: str, y: float) -> tuple[str, float]:
    """Add a norm, the router and all experts.

    Return the point on the stream where the last output is added, and the y above the branch.
    """
    shared, router, experts, norm = (stack.box(kind) for kind in ("shared", "gate", "experts", "ffn_norm"))
    assert router is not None
    assert experts is not None
    assert norm is not None
    right = RIGHT - 70 if shared else RIGHT
    middle, low = y + BOX / 2, y + BOX + 16
    top = low + EXPERTS
    _place(graph, norm, (LEFT, y, LEFT + NORM, y + BOX))
    _flow(graph, last, norm.key, (STREAM, middle), (LEFT, middle))
    _place(graph, router, (LEFT + NORM + 22, y, right, y + BOX))
    _flow(graph, norm.key, router.key, (LEFT + NORM, middle), (LEFT + NORM + 22, middle))
    _place(graph, experts, (LEFT, low, right, top))
    across = (LEFT + NORM + 22 + right) / 2
    _flow(graph, router.key, experts.key, (across, y + BOX), (across, low))
    _flow(graph, norm.key, experts.key, (LEFT + NORM / 2, y + BOX), (LEFT + NORM / 2, low))
    graph.graph["experts"][stack.name] = (LEFT, low, right, top)
    mix = stack.box("ffn_mix")
    point = _back(graph, stack, last, experts, top, (LEFT + right) / 2, mix)
    if shared:
        x = (right + 14 + RIGHT) / 2
        _place(graph, shared, (right + 14, low, RIGHT, top))
        side, under = LEFT + NORM + 11, y - 8
        _flow(graph, norm.key, shared.key, (side, middle), (side, under), (x, under), (x, low))
        end, level = graph.edges[experts.key, point]["path"][-1]
        _flow(graph, shared.key, point, (x, top), (x, level), (end, level))
    return point, top + ROW - BOX + (MIX_ROW if mix else 0)


def boxes(graph: nx.DiGraph) -> Iterator[tuple[str, Box, Frame]]:
    """Yield every part of a graph with its key and its frame."""
    for key, data in graph.nodes(data=True):
        if "box" in data:
            yield key, data["box"], data["frame"]


def expert_cells(frame: Frame, layout: Layout) -> tuple[list[Point], list[Frame], float]:
    """Lay out the experts in their frame, group by group.

    Returns:
        The centre of every expert, the frame of every group, and the size of a cell.
    """
    x0, y0, x1, y1 = (frame[0] + 6, frame[1] + 21, frame[2] - 6, frame[3] - 24)
    num_groups, size = layout.num_groups, layout.num_experts // layout.num_groups
    width, height = (x1 - x0) / num_groups, y1 - y0
    columns = max(1, min(size, round((size * (width - 5) / height) ** 0.5)))
    rows = -(-size // columns)
    pitch = min((width - 5) / columns, height / rows)
    groups = [(x0 + width * group, y0, x0 + width * (group + 1) - 3, y1) for group in range(num_groups)]
    middles = []
    for left, _, right, _ in groups:
        start, lift = (left + right - pitch * columns) / 2, (height - pitch * rows) / 2
        for index in range(size):
            row, column = divmod(index, columns)
            middles.append((start + pitch * (column + 0.5), y1 - lift - pitch * (row + 0.5)))
    return middles, groups, pitch
