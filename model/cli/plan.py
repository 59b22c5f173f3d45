"""The command `plan`: which experts to cut, how many bits to give, and what the cut costs on other texts."""

from pathlib import Path

import click

from model.atlas.plan import REAP, RULES
from model.cli.options import FOLDER, check_destination, find_folder
from model.cli.plan_text import lines_of, lines_of_check
from model.cli.terminal import echo


@click.command("plan", epilog="Rules: " + "; ".join(f"{name}: {rule.meaning}" for name, rule in RULES.items()) + ".")
@click.argument("sweep", type=FOLDER)
@click.option("--keep", type=float, required=True, help="Share of each layer's experts to keep, such as 0.75.")
@click.option("--rule", type=click.Choice(tuple(RULES)), default=REAP, show_default=True, help="Rule of saliency.")
@click.option(
    "--bits", type=click.FloatRange(2, 8), default=4.0, show_default=True, help="Mean bits per weight to suggest."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file to write; docs/plan.md.")
@click.option("--easy-ep-mask", type=click.Path(path_type=Path), help="Also write the mask that EASY-EP reads.")
@click.option("--check", "model", metavar="MODEL", help="Run MODEL with and without the cut on --texts.")
@click.option("--texts", type=click.Path(path_type=Path), multiple=True, help="Files or folders of other documents.")
@click.option("--tokens", type=click.IntRange(1), default=50_000, show_default=True, help="Tokens to check on, about.")
@click.option("--random", "controls", type=click.IntRange(0), default=20, show_default=True, help="Random plans.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16 or float16.")
def plan_command(
    sweep: Path,
    keep: float,
    rule: str,
    bits: float,
    out: Path,
    easy_ep_mask: Path | None,
    model: str | None,
    texts: tuple[Path, ...],
    tokens: int,
    controls: int,
    device: str,
    dtype: str,
) -> None:
    """Plan which experts of the swept model to cut, from the sums of the folder SWEEP.

    --check runs the model with the cut experts knocked out, and with random cuts of the same size, on documents that
    the sweep does not hold. The same command goes on where a stopped check ended.
    """
    from model.atlas.folder import open_sweep
    from model.atlas.plan_file import make_plan, write, write_easy_ep

    if (model is None) != (not texts):
        raise click.UsageError("--check needs --texts, and --texts needs --check.")
    for path in (out, *([easy_ep_mask] if easy_ep_mask else [])):
        check_destination(path)
    folder = None if model is None else find_folder(model)
    opened = open_sweep(sweep)
    plan = make_plan(opened, keep, rule, bits)
    write(plan, out)
    echo("\n".join(lines_of(plan)))
    if easy_ep_mask is not None:
        write_easy_ep(plan, easy_ep_mask)
    if folder is not None:
        from model.sweep.plan_check import Request, check

        request = Request(str(folder), texts, tokens, controls, device=device, dtype=dtype)
        log, swept = out.with_name(f"{out.name}.check.jsonl"), frozenset(opened.documents["doc_id"])
        results = check(plan, request, swept, log, _show_progress, lambda note: echo(f"note: {note}", err=True))
        write(plan, out, results)
        echo("\n".join(lines_of_check(results)))
    echo(f"written to {out}")


def _show_progress(done: int, number: int, seconds: float) -> None:
    left = f", about {(number - done) * seconds:,.0f} s left" if seconds > 1 and done < number else ""
    echo(f"{done} of {number} variants{left}", err=True)
