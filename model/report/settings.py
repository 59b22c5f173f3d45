"""The report's sections on how the run was made: its settings and model, and the origin of every kind of numbers."""

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from model.report import attention, load, routing
from model.report import text as tokens
from model.report.parts import ORIGINS, remark, section, tag
from model.report.subject import Subject
from model.trace import changes
from model.trace.imports import origin
from viz.report.markup import element, table, text

_MOST_ROWS = 80  # keys of the configuration
_MOST_CHARACTERS = 200  # of a value
_SHORT = 16  # characters of a value that shares its line with others
_MOST_PROMPT = 4_000
_HIDDEN = ("prompt", "token_ids", "interventions", "capture")  # shown on their own, or not at all


def of_run(subject: Subject) -> str:
    """Return the section with the settings of the run, its model and its engine."""
    trace = subject.trace
    rows = [(name.replace("_", " "), value) for name, value in _settings(subject)]
    parts = [element("h3", "Settings"), _pairs(rows) if rows else remark("The trace states no settings.")]
    prompt = trace.request.get("prompt")
    if subject.choice.with_text and isinstance(prompt, str):
        cut = f" Only its first {_MOST_PROMPT:,} characters are shown." if len(prompt) > _MOST_PROMPT else ""
        shown = element("p", element("bdi", text(prompt, _MOST_PROMPT)), class_="prompt")
        parts += [element("h3", "Prompt"), shown, remark(cut)]
    parts += [element("h3", "Model"), _pairs(_model(subject)), element("h3", "Engine"), _pairs(_engine(subject))]
    config, number = list(_scalars(trace.config, subject.choice.with_text)), len(trace.config)
    if config:
        left_out = number - len(config[:_MOST_ROWS])
        parts += [element("h3", "Configuration of the model"), _pairs(config[:_MOST_ROWS], "config")]
        parts += [remark(f"Left out: {left_out:,} settings that hold lists or long texts." if left_out else "")]
    return section("settings", "How the run was made", "", *parts)


def _settings(subject: Subject) -> Iterator[tuple[str, object]]:
    request = subject.trace.request
    yield from _scalars(
        {name: value for name, value in request.items() if name not in _HIDDEN}, subject.choice.with_text
    )
    if edits := changes.in_words(subject.trace):
        more = f" and {len(edits) - 12:,} more" if len(edits) > 12 else ""
        yield "interventions", f"{', '.join(edits[:12])}{more}"


def _scalars(values: Mapping[str, Any], with_text: bool) -> Iterator[tuple[str, object]]:
    """Yield the values that fit in a line. Without text, only numbers but no ids."""
    kinds = (str, numbers.Number) if with_text else (numbers.Number,)
    for name, value in values.items():
        if isinstance(value, kinds) and (with_text or "token_id" not in name):
            yield name[:80], value


def _model(subject: Subject) -> list[tuple[str, object]]:
    trace, shape, rule = subject.trace, subject.trace.shape, subject.rule
    of = {
        "name": trace.model.get("name") or "not stated",
        "family": trace.config.get("model_type") or "not stated",
        "layers": shape.num_layers,
        "MoE layers": len(shape.moe_layers) or None,
        "experts per MoE layer": shape.num_experts,
        "groups": f"{rule.num_groups}, {rule.num_kept_groups} kept" if rule.num_groups > 1 else None,
        "experts per token": shape.top_k,
        "attention heads": shape.num_heads,
        "width": shape.width,
        "vocabulary": shape.vocab_size,
        "weights (SHA-256)": trace.model.get("weights_sha256") or "not stated",
        "tokenizer (SHA-256)": trace.model.get("tokenizer_sha256") or "not stated",
    }
    return [(name, value) for name, value in of.items() if value is not None]


def _engine(subject: Subject) -> list[tuple[str, object]]:
    stated = subject.trace.origin
    names = {"engine": "engine", "format": "format", "device": "device", "dtype": "dtype", "time_utc": "date (UTC)"}
    rows: list[tuple[str, object]] = [(label, stated[name]) for name, label in names.items() if stated.get(name)]
    versions = stated.get("versions")
    if isinstance(versions, Mapping) and versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in list(versions.items())[:12])))
    return rows


def _pairs(rows: list[tuple[str, Any]], kind: str = "") -> str:
    """Return names and values as a description list."""
    entries = (
        element(
            "div", element("dt", text(name, 80)), element("dd", element("bdi", text(value, _MOST_CHARACTERS))),
            class_="wide" if len(str(value)) > _SHORT else None,
        )
        for name, value in rows
    )  # fmt: skip
    return element("dl", *entries, class_=f"pairs {kind}".strip())


def of_numbers(subject: Subject) -> str:
    """Return the section on how each kind of numbers came about, what is missing, and why."""
    trace = subject.trace
    kinds = tokens.origins(subject) | routing.origins(subject) | load.origins(subject) | attention.origins(subject)
    rows = [[text(what), tag(how), ORIGINS[how]] for what, how in kinds.items()]
    parts = [table(["numbers", "origin", "meaning"], rows, "origins", {"numbers", "origin", "meaning"})]
    missing = origin.missing(trace) if origin.is_imported(trace) else {}
    lines = [f"{text(what, 80)}: {text(why, 300)}" for what, why in list(missing.items())[:20]]
    if lines:
        parts += [element("h3", "Missing"), element("ul", *(element("li", line) for line in lines))]
    notes = origin.notes(trace)[:20] if subject.choice.with_text else []
    if notes:
        parts += [element("h3", "Notes"), element("ul", *(element("li", text(note, 400)) for note in notes))]
    return section("numbers", "Where the numbers come from", "", *parts)
