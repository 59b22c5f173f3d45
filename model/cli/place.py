"""The command `place`: an expert map for a serving engine, fitted to one half of a sweep and judged on the other."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.cli.options import check_destination
from model.cli.terminal import echo

if TYPE_CHECKING:
    import xarray as xr

    from model.atlas.placement.judge import Estimate
    from model.atlas.placement.loads import Loads
    from model.atlas.placement.plan import Plan

ENGINES = ("sglang", "vllm", "vllm-ascend", "tensorrt-llm")
_MOST_LABELS = 12  # of the mix, on one line
_FAR_BELOW = 0.1  # a label whose balancedness is so far below that of the mix gets a warning
PREFILL = (
    "a sweep reads its texts as prompts, so the figures are those of prefill; for decode, sweep generated texts, or "
    "place the counts of an engine that generates"
)


@click.command("place")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--engine", type=click.Choice(ENGINES), required=True, help="The engine whose format is written.")
@click.option("--ranks", type=int, required=True, help="Expert-parallel ranks: the devices that share the experts.")
@click.option("--redundant", type=int, default=0, show_default=True, help="Places beyond one for each expert.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines that hold the ranks.")
@click.option(
    "--groups", type=click.IntRange(1), help="Routing groups; each stays on one machine if groups divide evenly "
    "among machines. Default: those of the model.",
)  # fmt: skip
@click.option("--by", type=click.Choice(("domain", "language", "source")), help="The kind of label that --mix weighs.")
@click.option("--mix", help="The mix that is served, LABEL=WEIGHT,...: shares of the tokens. Default: the documents.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the halves and of the batches.")
@click.option("--model", metavar="MODEL", help="Model of a file of counts, as in `import`; a sweep names its own.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The expert map to write.")
def place_command(
    source: Path, engine: str, ranks: int, redundant: int, nodes: int, groups: int | None, by: str | None,
    mix: str | None, seed: int, model: str | None, out: Path,
) -> None:  # fmt: skip
    """Place the experts of a model on the ranks of a serving engine.

    SOURCE is the folder of a sweep, or a file of counts: SGLang's recorder in mode stat as JSON, colibri's usage
    history, an importance matrix of llama.cpp as GGUF.

    The map is fitted to a random half of the documents by EPLB, and judged on the other half: balancedness is the mean
    load of the ranks divided by the largest, so 1 is even. Copies of an expert share its tokens evenly. No time is
    predicted.
    """
    from model.atlas.errors import AtlasError
    from model.atlas.placement.engine_files import ENGINES as FILES
    from model.atlas.placement.loads import parse_mix
    from model.atlas.placement.plan import Layout, plan
    from model.trace.writing import replacing

    check_destination(out)
    file = FILES[engine]
    if file.suffix is not None and out.suffix != file.suffix:
        raise AtlasError(f"{file.name} reads a map only from a file whose name ends in {file.suffix}, not {out}")
    if mix is not None and by is None:
        raise AtlasError("--mix needs --by, which says what its labels are")
    if by is not None and mix is None:
        raise AtlasError(f"--by {by} needs --mix with the weights that are served, such as LABEL=3,OTHER=1")
    loads = _loads(source, by, model)
    layout = Layout(ranks, redundant, nodes, loads.num_groups if groups is None else groups, file.one_copy)
    made = plan(loads, layout, None if mix is None else parse_mix(mix), seed)
    text = file.write(made.placement, loads.num_layers)
    lines = report(made)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    start = file.start.format(file=out, ranks=ranks, redundant=redundant)
    echo("\n".join([*lines, f"written to {out}; {file.name}: {start}"]))


def _loads(source: Path, by: str | None, model: str | None) -> "Loads":
    """Return the loads of a sweep's folder, or of a file of counts of the model named."""
    from model.atlas.errors import AtlasError
    from model.atlas.folder import open_sweep
    from model.atlas.placement.loads import of_counts, of_sweep
    from model.checkpoint.named import named_model
    from model.trace.imports.count_formats import read_counts_file

    if source.is_dir():
        if model is not None:
            raise AtlasError("a sweep names its model itself; leave out --model")
        return of_sweep(open_sweep(source), by)
    if model is None:
        raise AtlasError(f"name the model of {source} by --model: counts do not say which layers have experts")
    if by is not None:
        raise AtlasError("counts have no documents and no labels; --by and --mix need a sweep")
    return of_counts(read_counts_file(source, named_model(model)))


def report(plan: "Plan") -> list[str]:
    """Return lines on what was fitted, and on the balancedness by layer, window and label."""
    from model.atlas.placement.judge import by_layer, means
    from model.atlas.placement.loads import DOCUMENTS, own_mix

    loads, placement = plan.loads, plan.placement
    fit, held = int(plan.fit_U.sum()), int(plan.held_U.sum())
    lines = [loads.extent]
    if loads.unit == DOCUMENTS:
        lines.append(f"fitted on {fit:,} documents, a random half (seed {plan.seed}); judged on the other {held:,}")
    elif held:
        lines.append(f"fitted on the first {fit:,} windows, judged on the later {held:,}")
    else:
        lines.append("fitted on all of them; nothing is held out, so the figures flatter")
    shares = own_mix(loads) if plan.mix is None else plan.mix
    if shares:
        name = "the documents' own mix" if plan.mix is None else "mix"
        listed = [f"{label} {share:.1%}" for label, share in shares.items()]
        more = len(listed) - _MOST_LABELS
        lines.append(f"{name}: " + ", ".join([*listed[:_MOST_LABELS], *([f"{more} more"] if more > 0 else [])]))
    ranks, places = placement.num_devices, placement.expert.sizes["place"]
    lines.append(
        f"{ranks} ranks with {places // ranks} places each, for {placement.num_experts} experts and "
        f"{places - placement.num_experts} copies in each of {len(loads.layers)} layers"
    )
    layers = by_layer(plan)
    lines += ["", "balancedness   numbered    fit  held out"]
    lines += [_row(f"L{layer}", layers.sel(moe_layer=layer)) for layer in loads.layers]
    mean = means(layers)
    lines.append(_row("mean", mean))
    if plan.numbered is None:
        lines.append(f"{placement.num_experts} experts in the order of their numbers do not divide among the ranks")
    return [*lines, *_by_windows(plan), *_by_label(plan, mean["held_out"]), "", *_notes(plan)]


def _row(name: str, figures: "xr.Dataset | dict[str, float]") -> str:
    numbered, fit, held = (_figure(float(figures[column])) for column in ("numbered", "fit", "held_out"))
    return f"{name:<15}{numbered:>8}{fit:>7}{held:>10}"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _by_windows(plan: "Plan") -> list[str]:
    from model.atlas.placement.judge import by_windows

    rows = by_windows(plan)
    if not rows:
        return []
    lines = ["", "held out, mean of windows and layers", f"{'':<36}{'numbered':<24}{'placed':<24}gain"]
    for row in rows:
        cells = (_estimate(row.numbered), _estimate(row.placed), _estimate(row.gain))
        lines.append(f"{row.name:<36}{cells[0]:<24}{cells[1]:<24}{cells[2]}".rstrip())
    lines.append("in brackets: 95 % interval over windows; none for fewer than 20 windows or for counts")
    return lines


def _estimate(estimate: "Estimate | None") -> str:
    if estimate is None:
        return "-"
    interval = estimate.interval
    return f"{estimate.mean:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _by_label(plan: "Plan", held_out: float) -> list[str]:
    from model.atlas.placement.judge import by_label

    labels = by_label(plan)
    if not labels:
        return []
    lines = ["", f"{f'one {plan.loads.kind} served alone':<30}documents  numbered  placed"]
    lines += [
        f"{alone.label:<30.30}{alone.documents:>9,}{_figure(alone.numbered):>10}{_figure(alone.held_out):>8}"
        for alone in labels
    ]
    lowest = labels[0]
    if lowest.held_out < held_out - _FAR_BELOW:
        advice = "" if plan.mix is not None else "; name what you serve by --by and --mix"
        figures = f"{lowest.held_out:.2f}, not {held_out:.2f}, and {lowest.numbered:.2f} with experts placed by number"
        lines.append(
            f"warning: this map suits its mix only. If {lowest.label} alone is served, balancedness is "
            f"{figures}{advice}"
        )
    return lines


def _notes(plan: "Plan") -> list[str]:
    from model.atlas.placement.loads import DOCUMENTS

    notes = list(plan.loads.notes)
    labels = plan.loads.labels_U
    if plan.loads.unit == DOCUMENTS and not (labels is not None and (labels == "decode").any()):
        notes.append(PREFILL)
    return [f"note: {note}" for note in notes]
