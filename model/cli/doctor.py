"""The command `doctor`: audit a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.cli.options import check_destination, explain, find_folder
from model.cli.terminal import echo
from model.doctor.findings import ERROR, SEVERITIES

if TYPE_CHECKING:
    from model.doctor import reading, text
    from model.doctor.findings import Report
    from model.families.engine import TransformersEngine
    from model.run.engine import Engine


@click.command(name="doctor")
@click.argument("model")
@click.option(
    "--prompts", type=click.Path(path_type=Path), help="Texts to run: one per line, or JSON lines with text or ids."
)
@click.option("--reference", type=click.Path(path_type=Path), help="Trace file of a healthy run to compare MODEL with.")
@click.option("--weights-only", is_flag=True, help="Read the weights and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as one HTML file.")
@click.option("--without-text", is_flag=True, help="Leave the text of the prompts out of the reports.")
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    default=ERROR,
    show_default=True,
    help="Lowest severity that exits with status 1.",
)
def doctor_command(
    model: str,
    prompts: Path | None,
    reference: Path | None,
    weights_only: bool,
    as_json: bool,
    html: Path | None,
    without_text: bool,
    fail_on: str,
) -> None:
    """Audit MODEL: its weights, and how it routes text.

    Without --prompts, the audit runs a built-in sample in fifteen languages. A model that does not fit in memory runs
    only with --prompts or --reference. If a stage cannot run, the other stages are still reported. Exit status: 1 if a
    finding reaches --fail-on or a requested stage did not run, 2 if nothing could be audited.
    """
    if weights_only and (prompts or reference):
        raise click.UsageError("--weights-only runs nothing; leave out --prompts and --reference.")
    for given in (prompts, reference):
        if given is not None and not given.is_file():
            raise click.UsageError(f"{given} is no file.")
    if html is not None:
        check_destination(html)
    from model.doctor import report as formats
    from model.trace.writing import replacing

    report = _examine(find_folder(model), prompts, reference, weights_only, show=not as_json)
    if without_text:
        report = report.without_text()
    echo(formats.to_json(report) if as_json else "\n".join(formats.to_lines(report)))
    if html is not None:
        with replacing(html) as temporary:
            temporary.write_text(formats.to_html(report), encoding="utf-8", errors="backslashreplace")
    if report.reaches(fail_on):
        raise SystemExit(1)


def _examine(folder: Path, prompts: Path | None, reference: Path | None, weights_only: bool, show: bool) -> "Report":
    """Return the report on the weights, the texts and the reference; a stage that fails does not affect the others."""
    report = _weights(folder, show)
    if weights_only:
        return report
    if reason := _cannot_run(folder, forced=bool(prompts or reference)):
        return report.joined(_not_made(report.model, "text", reason, asked=bool(prompts or reference)))
    engines: list[Engine | TransformersEngine] = []  # loaded by the first stage that runs; the other uses it, too
    for stage, given in (("text", prompts), ("reference", reference)):
        if given is None and (stage == "reference" or reference is not None):
            continue
        try:
            report = report.joined(_run(stage, given, folder, engines, show))
        except Exception as error:
            report = report.joined(_not_made(report.model, stage, _reason(error, folder), asked=given is not None))
    return report


def _run(
    stage: str, given: Path | None, folder: Path, engines: "list[Engine | TransformersEngine]", show: bool
) -> "Report":
    """Return the report of one stage.

    The stage "text" runs the texts of the file `given`, or the doctor's own texts if `given` is None. The stage
    "reference" runs the tokens of the trace `given`.
    """
    from model.doctor.prompts import own_prompts, read_prompts
    from model.doctor.text import examine_text
    from model.trace.file import load

    healthy = load(given) if given and stage == "reference" else None
    texts = () if stage == "reference" else read_prompts(given) if given else own_prompts()
    with _bar("runs", "run", show) as bar:

        def show_progress(progress: "text.Progress") -> None:
            bar.total = progress.count
            bar.set_postfix_str(progress.doing, refresh=False)
            bar.update(progress.done - bar.n)

        if not engines:
            engines.append(_engine(folder, by_ids=all(text.ids is not None for text in texts)))
        return examine_text(engines[0], texts, healthy, show_progress)


def _engine(folder: Path, by_ids: bool) -> "Engine | TransformersEngine":
    """Return an engine; if `by_ids` (all runs take token ids), a tokenizer that cannot be read is left out."""
    from model.checkpoint.header import CheckpointError
    from model.checkpoint.tokenizer import TokenizerError
    from model.families.choose import load

    try:
        return load(folder)
    except (TokenizerError, CheckpointError):
        if not by_ids:
            raise
        return load(folder, with_text=False)


def _weights(folder: Path, show: bool) -> "Report":
    from model.doctor.weights import examine_weights

    with _bar("weights", "tensor", show) as bar:

        def show_progress(progress: "reading.Progress") -> None:
            bar.total = progress.count
            bar.set_postfix_str(f"{progress.bytes_read / 1e9:.2f} GB", refresh=False)
            bar.update()

        return examine_weights(folder, show_progress)


def _bar(what: str, unit: str, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(desc=what, unit=unit, disable=None if show else True)


def _cannot_run(folder: Path, forced: bool) -> str:
    """Return in one line why the model cannot run text; empty if it can."""
    from model.checkpoint.header import CheckpointError
    from model.checkpoint.memory import memory_bytes

    try:
        needed = _needed_bytes(folder)
    except CheckpointError:
        return "the model cannot be loaded"
    if forced:
        return ""
    if not (folder / "tokenizer.json").is_file():
        from model.doctor.tokenizer import missing

        return missing(folder)
    memory = memory_bytes()
    if memory and needed > memory / 2:
        return f"it needs {needed / 1e9:,.0f} GB of memory; give --prompts to run it from disk"
    return ""


def _needed_bytes(folder: Path) -> int:
    """Return the bytes that a model takes in memory: in fp32 in the own network, as published in transformers.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    from model.checkpoint.files import ModelFolder
    from model.checkpoint.header import CheckpointError
    from model.checkpoint.sizes import model_sizes
    from model.checkpoint.weights import inspect
    from model.families.choose import OWN, engine_for

    if engine_for(folder) == OWN:
        manifest = inspect(folder)
        if manifest.problems:
            raise CheckpointError(f"{folder}: {manifest.problems[0]}")
        return model_sizes(manifest.config).loaded["float32"]
    from model.families.folder import read_skeleton
    from model.families.placement import size_of
    from model.families.published import read_published

    with ModelFolder(folder) as files:
        return size_of(read_skeleton(files, read_published(files))[0])


def _reason(error: Exception, folder: Path) -> str:
    """Return in one line why a stage failed, without the path of the folder; an unexpected error is called a fault."""
    from model.checkpoint.header import first_line

    line = explain(error)
    if line is not None:
        return line.replace(f"{folder}/", "")
    return f"a fault of this program ({type(error).__name__}: {first_line(error)})"


def _not_made(model: str, stage: str, reason: str, asked: bool) -> "Report":
    """Return the report of a stage that did not run; it holds an error if the user requested the stage (`asked`)."""
    from model.doctor.findings import Check, Finding, left_out, make_report

    name = {"text": "routing of text", "reference": "reference"}[stage]
    if not asked:
        return left_out(model, name, stage, reason)
    what = {"text": "the texts were not run", "reference": "the reference was not compared"}[stage]
    meaning = "The requested checks did not run; the other checks are reported."
    finding = Finding(ERROR, name, f"{what}: {reason}", meaning, {})
    return make_report(model, [Check(name, stage, "", skipped=reason)], [finding])
