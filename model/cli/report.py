"""The command `report`: write one HTML file about one run."""

from pathlib import Path
from typing import Any

import click

from model.cli.options import check_destination
from model.cli.terminal import echo


class Head(click.ParamType):
    """The number of an attention head, or `all` for the mean of the recorded heads."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from model.trace.attention import ALL_HEADS

        if isinstance(value, int):
            return value
        if value == "all":
            return ALL_HEADS
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            self.fail(f"{value!r} is not the number of a head, or all", param, ctx)
        return int(value)


@click.command("report")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--html", "out", type=click.Path(path_type=Path), required=True, help="The HTML file to write.")
@click.option("--layer", type=click.IntRange(0), help="Layer to show; the first MoE layer if not given.")
@click.option(
    "--token", type=click.IntRange(0), help="Token to follow; if not given, the last whose experts are known."
)
@click.option("--head", type=Head(), help="Attention head to show, or all for their mean; the first if not given.")
@click.option("--without-text", is_flag=True, help="Leave out the prompt, the text and the ids of tokens.")
def report_command(
    trace: Path, out: Path, layer: int | None, token: int | None, head: int | None, without_text: bool
) -> None:
    """Write a report on the run in the file TRACE: one HTML file, readable without a network, and printable.

    TRACE is a trace file, as `trace --out` and `import --out` write it.
    """
    from model.report.choice import choose
    from model.report.page import report
    from model.trace.file import load
    from model.trace.writing import replacing

    check_destination(out)
    run = load(trace)
    content = report(run, choose(run, layer, token, head, not without_text)).encode()
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    echo(f"{len(content) / 1e3:,.0f} kB written to {out}")
