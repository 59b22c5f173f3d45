import dataclasses
import itertools

import networkx as nx
import numpy as np
import pytest
import xarray as xr

from tests.layouts import layout
from viz.architecture import architecture
from viz.architecture_cost import CACHE, cost_by_context
from viz.architecture_layout import WIDTH, Box, Model, Stack, expert_cells, lay_out
from viz.architecture_layout import boxes as places_of
from viz.architecture_paint import Paint
from viz.theme import DARK, LIGHT, expert_colors

KINDS = ("attention_norm", "indexer", "attention", "ffn_norm", "gate", "experts", "shared")


def stack(name, layers, kinds, added=()):
    boxes = tuple(Box(f"{name}-{kind}", kind, kind, "12 M", "said", kind in added) for kind in kinds)
    return Stack(name, f"<b>{len(layers)} ×</b> {name}", tuple(layers), boxes)


def model(indexer=True, shared=True, mtp=True, groups=4, experts=16, added=()):
    left_out = set() if indexer else {"indexer"}
    left_out |= set() if shared else {"shared"}
    kinds = [kind for kind in KINDS if kind not in left_out]
    dense = kinds[: 3 if indexer else 2] + ["ffn_norm", "ffn"]
    outside = {name: Box(name, name, name, "1 k") for name in ("embedding", "final_norm", "head", "mtp")}
    stacks = (stack("dense", range(3), dense, added), stack("moe", range(3, 10), kinds, added))
    return Model(
        embedding=outside["embedding"], stacks=stacks, final_norm=outside["final_norm"], head=outside["head"],
        mtp=outside["mtp"] if mtp else None, router=layout(experts, groups),
    )  # fmt: skip


def mixed(streams):
    """A model of several residual streams: every layer has experts and two mixes."""
    kinds = ("attention_mix", *KINDS[:3], "ffn_mix", *KINDS[3:])
    stacks = tuple(stack(name, (at,), kinds) for at, name in enumerate(("one", "two")))
    return dataclasses.replace(model(), stacks=stacks, join=Box("join", "final_mix", "Join", ""), streams=streams)


EVERY = [model(), model(indexer=False), model(shared=False), model(mtp=False), model(groups=1, experts=384), mixed(4)]


def paint(layer=4, experts=16):
    load = xr.DataArray(np.linspace(0, 4, experts), dims=("expert",))
    groups = xr.DataArray([0.5, 1.0, 1.5, 1.0], dims=("group",))
    norm = xr.DataArray(np.linspace(1, 9, 10), dims=("layer",), coords={"layer": range(10)})
    return Paint(layer, load, groups, norm)


def boxes(drawn):
    return [box for box in [drawn.embedding, drawn.join, drawn.final_norm, drawn.head, drawn.mtp] if box] + [
        box for each in drawn.stacks for box in each.boxes
    ]


@pytest.mark.parametrize("drawn", EVERY)
def test_every_part_has_a_place_of_its_own_and_something_flows_to_it(drawn):
    graph = lay_out(drawn)
    frames = {key: held["frame"] for key, held in graph.nodes(data=True) if "frame" in held}
    assert set(frames) == {box.key for box in boxes(drawn)}
    for one, two in itertools.combinations(frames.values(), 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart, (one, two)
    for x0, y0, x1, y1 in frames.values():
        assert 0 <= x0 < x1 <= WIDTH
        assert 0 <= y0 < y1 <= graph.graph["height"]
    assert all(graph.in_degree(key) for key in frames)


@pytest.mark.parametrize("drawn", EVERY)
def test_the_stream_leads_upwards_from_the_tokens_to_the_next_token(drawn):
    graph = lay_out(drawn)
    adds = [name for name, held in graph.nodes(data=True) if "adds" in held or name.endswith("_mix")]
    assert len(adds) == 2 * len(drawn.stacks)
    heights = [graph.nodes[name].get("at", graph.nodes[name].get("frame"))[1] for name in adds]
    assert heights == sorted(heights)
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.has_path(graph, "tokens", "next token")
    assert all(nx.has_path(graph, box.key, "next token") for box in boxes(drawn) if box.kind != "mtp")


@pytest.mark.parametrize("drawn", EVERY)
def test_lines_run_along_the_axes_and_pass_through_no_part(drawn):
    graph = lay_out(drawn)
    frames = {key: held["frame"] for key, held in graph.nodes(data=True) if "frame" in held}
    for source, target, path in graph.edges(data="path"):
        for (x0, y0), (x1, y1) in itertools.pairwise(path):
            assert x0 == x1 or y0 == y1, (source, target)
            for key, (left, low, right, high) in frames.items():
                inside = max(x0, x1) > left and min(x0, x1) < right and max(y0, y1) > low and min(y0, y1) < high
                assert not inside, (source, target, key)


def test_several_streams_are_parallel_lines_from_the_embedding_to_their_join():
    graph = lay_out(mixed(4))
    wide = {(source, target) for source, target, streams in graph.edges(data="streams") if streams == 4}
    path = ["embedding", "one-attention_mix", "one-ffn_mix", "two-attention_mix", "two-ffn_mix", "join"]
    assert wide == set(itertools.pairwise(path))
    assert {streams for *_, streams in lay_out(model()).edges(data="streams")} == {1}
    lines = architecture(mixed(4), LIGHT).data[0]
    at_middle = graph.nodes["embedding"]["frame"][3]
    assert [x for x, y in zip(lines.x, lines.y, strict=True) if y == at_middle] == [82.0, 86.0, 90.0, 94.0]


@pytest.mark.parametrize(("experts", "groups"), [(256, 8), (32, 4), (384, 1), (16, 4), (8, 8), (160, 8)])
def test_experts_stand_apart_inside_their_groups(experts, groups):
    middles, frames, pitch = expert_cells((108, 0, 326, 104), layout(experts, groups))
    assert len(middles) == experts
    assert len(frames) == groups
    assert pitch >= 4
    for number, (x, y) in enumerate(middles):
        left, low, right, high = frames[number * groups // experts]
        assert left <= x - pitch / 2 + 1.01
        assert x + pitch / 2 <= right + 1.01
        assert low <= y <= high
    gaps = [max(abs(a - c), abs(b - d)) for (a, b), (c, d) in itertools.combinations(middles, 2)]
    assert min(gaps, default=pitch) >= pitch - 1e-6


def clickable(figure):
    return [list(cell) for trace in figure.data if trace.customdata is not None for cell in trace.customdata]


@pytest.mark.parametrize("drawn", EVERY)
def test_every_part_can_be_clicked(drawn):
    found = {key for key, *_ in clickable(architecture(drawn, LIGHT))}
    assert found == {box.key for box in boxes(drawn)}


def test_experts_have_their_own_colours_until_a_run_is_painted():
    plain = architecture(model(), LIGHT)
    assert expert_colors(layout(16, 4), LIGHT) in [
        list(trace.marker.color or ()) for trace in plain.data if trace.marker
    ]
    painted = architecture(model(), LIGHT, paint=paint())
    colors = [trace.marker.color for trace in painted.data if trace.marker.cmin is not None]
    assert len(colors) == 1
    assert colors[0].tolist()[0] == -2
    assert ["moe-experts", 4, 15] in clickable(painted)
    texts = [trace.text for trace in painted.data if trace.text is not None]
    assert ("0.5", "1", "1.5", "1") in [tuple(text) for text in texts]


def test_recall_is_a_bar_in_the_indexer_of_the_painted_block():
    figure = architecture(model(), LIGHT, paint=dataclasses.replace(paint(), recall=0.75))
    (bar,) = [t for t in figure.data if t.text is not None and "kept keys hold 75.0%" in str(t.text[0])]
    (x0, x1), key = bar.x, bar.customdata[0][0]
    frame = next(frame for name, _, frame in places_of(lay_out(model())) if name == key)
    assert key == "moe-indexer"
    assert (x1 - x0) / (frame[2] - frame[0] - 4) == pytest.approx(0.75)
    plain = architecture(model(indexer=False), LIGHT, paint=dataclasses.replace(paint(), recall=0.75))
    assert not [t for t in plain.data if t.text is not None and "kept keys" in str(t.text)]


def test_layer_of_another_block_paints_no_load():
    painted = architecture(model(), LIGHT, paint=paint(layer=1))
    assert [trace for trace in painted.data if trace.marker.cmin is not None] == []


def test_residual_norm_has_a_point_per_layer_beside_its_block():
    drawn = model()
    figure = architecture(drawn, DARK, paint=paint())
    graph = lay_out(drawn)
    (profile,) = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [cell[1] for cell in profile.customdata] == list(range(10))
    assert list(profile.y) == sorted(profile.y)
    low, high = graph.graph["frames"]["moe"][1], graph.graph["frames"]["moe"][3]
    assert all(low < y < high for y in list(profile.y)[3:])
    assert list(profile.marker.size).count(9) == 1


def test_residual_norm_of_several_streams_is_named_so_and_goes_up_in_blocks_of_alternate_layers():
    drawn = mixed(4)
    even, odd = (dataclasses.replace(one, layers=tuple(range(at, 6, 2))) for at, one in enumerate(drawn.stacks))
    figure = architecture(dataclasses.replace(drawn, stacks=(even, odd)), LIGHT, paint=paint())
    (profile,) = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [cell[1] for cell in profile.customdata] == [0, 2, 4, 1, 3, 5]
    assert list(profile.y) == sorted(profile.y)
    assert profile.text[0] == "L0<br>norm of 4 streams 1 (derived)"
    assert "norm of 4 streams" in [note.text for note in figure.layout.annotations]


def test_layers_without_a_norm_are_left_out():
    short = Paint(None, residual_norm=xr.DataArray([1.0, np.nan], dims=("layer",), coords={"layer": [0, 4]}))
    (profile,) = [t for t in architecture(model(), LIGHT, paint=short).data if t.mode == "lines+markers"]
    assert [cell[1] for cell in profile.customdata] == [0]


def test_size_does_not_depend_on_what_is_painted_or_chosen():
    plain, painted = architecture(model(), LIGHT), architecture(model(), LIGHT, "moe-gate", paint())
    assert plain.layout.height == painted.layout.height
    assert plain.layout.margin == painted.layout.margin


def test_chosen_and_added_parts_are_outlined():
    figure = architecture(model(added=("indexer",)), LIGHT, chosen="moe-gate")
    colors = [shape.line.color for shape in figure.layout.shapes]
    assert colors.count(LIGHT.ink) == 1
    assert colors.count(LIGHT.change[-1]) == 2


def test_type_is_nowhere_smaller_than_twelve_pixels():
    figure = architecture(model(), LIGHT, paint=paint())
    sizes = [note.font.size for note in figure.layout.annotations]
    sizes += [trace.textfont.size for trace in figure.data if trace.mode == "text" and trace.textfont.size]
    assert min(sizes) >= 12


def test_cost_is_drawn_on_log_scales_with_every_model_named():
    values = np.array([[1e9, 1e10, 1e12], [2e9, 5e9, 9e9]])
    work = xr.DataArray(values, dims=("model", "context"), coords={"model": ["a", "b"], "context": [128, 2048, 131072]})
    figure = cost_by_context(work, LIGHT, context=2048)
    assert [list(line.y) for line in figure.data] == values.tolist()
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert [note.text for note in figure.layout.annotations][:2] == ["a", "b"]
    assert figure.layout.annotations[0].y == 12


def test_cost_of_a_model_ends_where_its_values_end():
    work = xr.DataArray([[1e9, np.nan]], dims=("model", "context"), coords={"model": ["a"], "context": [128, 1024]})
    figure = cost_by_context(work, LIGHT, names=CACHE)
    assert (figure.layout.annotations[0].x, figure.layout.annotations[0].y) == (np.log10(128), 9)
    assert "GB of cache" in figure.data[0].hovertemplate
