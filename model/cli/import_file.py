"""The command `import`: turn a file from a serving engine into a trace file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.cli.options import check_destination, find_folder
from model.cli.terminal import echo
from model.trace.imports import AUTO, FORMATS

if TYPE_CHECKING:
    from model.trace.imports.building import Named
    from model.trace.trace import Trace

SCRIPT_BEGINS = "# convert.py"
CONVERT = """\
import json, pathlib, sys, torch
def plain(value):
    return value.tolist() if hasattr(value, "tolist") else value
def write(value):
    pathlib.Path(sys.argv[2]).write_text(json.dumps(value))
dump = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
kept = ("forward_pass_id", "rank", "input_ids", "positions", "extend_seq_lens", "topk_ids_of_layer")
records = [{name: plain(record.get(name)) for name in kept} for record in dump.get("records", [])]
if "logical_count" in dump:
    write({"logical_count": plain(dump["logical_count"])})
else:
    write({"format": "sglang-expert-distribution", "records": records,
           "last_physical_to_logical_map": plain(dump.get("last_physical_to_logical_map"))})
"""


class _WithScript(click.Command):
    """A command whose help ends with the script `CONVERT`, without indentation, so that users can copy it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write(f"{SCRIPT_BEGINS}\n{CONVERT}")


def import_file(
    path: Path, form: str = AUTO, named: "Named | None" = None, request: Path | None = None, choice: int = 0
) -> "Trace":
    """Return the trace in a file; `model.trace.imports.formats.read` describes the arguments.

    Raises:
        TraceError: the file is missing, too large or unreadable; the message names it.
    """
    from model.trace.imports.formats import read
    from model.trace.trace import TraceError

    content, request_content = _bytes(path), None if request is None else _bytes(request)
    try:
        return read(content, form, named, request_content, choice)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _bytes(path: Path) -> bytes:
    from model.trace.limits import MOST_IMPORT_BYTES
    from model.trace.ordinary import read_ordinary
    from model.trace.trace import TraceError

    try:
        return read_ordinary(path, MOST_IMPORT_BYTES)
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from None


@click.command("import", cls=_WithScript)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), default=AUTO, show_default=True)
@click.option("--model", metavar="MODEL", help="Model that the engine ran.")
@click.option(
    "--request",
    type=click.Path(path_type=Path),
    help="JSON file with the request that was sent to the engine: the prompt, where rows begin, the tokens of a batch.",
)
@click.option(
    "--choice",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of the answer, run or sequence, if there are several.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The trace file to write.")
def import_command(file: Path, form: str, model: str | None, request: Path | None, choice: int, out: Path) -> None:
    """Turn FILE, recorded by a serving engine, into a trace file.

    Without --format, the format is detected. --model is an embedded model, a folder with at least config.json, or a
    released configuration (deepseek-v3, deepseek-v3.2). MoE Loupe's own traces and router logits do not need --model.
    With tokenizer.json in the folder, the trace has text; with weights, the experts are derived from router logits.

    Router logits are a safetensors file of tensors router_logits.N [token, expert], where N is the model layer.

    A dump of SGLang's expert-distribution recorder (mode per_token) is a pickle, which is never opened here. Save the
    script below where the dump was made, run `python convert.py DUMP.pt DUMP.json`, and import the JSON file.

    Files that only count experts are no traces: `place` reads them (a dump in mode stat, colibri's usage history, an
    importance matrix of llama.cpp as GGUF).
    """
    from model.checkpoint.embedded import RELEASED
    from model.checkpoint.named import named_model
    from model.trace.file import save

    check_destination(out)
    if model is not None and model not in RELEASED:
        find_folder(model, f"a released configuration ({', '.join(RELEASED)})")
    trace = import_file(file, form, None if model is None else named_model(model), request, choice)
    save(trace, out)
    echo("\n".join([*report(trace), f"written to {out}"]))


def report(trace: "Trace") -> list[str]:
    """Return lines on the data of an imported trace, and on missing data with the reasons."""
    from model.trace.imports import origin

    data = trace.data
    form = trace.origin.get("format") if origin.is_imported(trace) else "MoE Loupe trace"
    lines = [f"{trace.num_tokens} tokens of {trace.model.get('name')}, {form}"]
    if trace.has("expert_id"):
        num_known, layers = int((data["expert_id"] >= 0).all(["moe_layer", "rank"]).sum()), data["moe_layer"].values
        lines.append(
            f"experts of {num_known} tokens, layers {layers[0]} to {layers[-1]}, {data.sizes['rank']} per token"
        )
    lines += [f"missing: {what} ({why})" for what, why in origin.missing(trace).items()]
    derived = origin.derived(trace)
    lines += [f"derived: {', '.join(derived)}"] if derived else []
    return lines + [f"note: {note}" for note in origin.notes(trace)]
