"""A report: one HTML file about one run, readable without a network and without scripts, and printable.

The file follows the reader's theme; on paper it is light. It holds no address of another file, and its policy forbids
the browser to load or execute anything.
"""

import math

from model.report import attention, load, routing, settings, text
from model.report.choice import Choice
from model.report.subject import Subject
from model.trace import metrics
from model.trace.imports import origin
from model.trace.trace import Trace
from viz.layout import Layout
from viz.report import colors, figure
from viz.report import strip as strip_figure
from viz.report.markup import element, plain, void
from viz.report.markup import text as escaped
from viz.report.style import CSS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MOST_TITLE = 60  # characters of the text in the title
CONTENTS = {
    "text": "Text", "routing": "Routing", "token": "One token", "load": "Load", "attention": "Attention",
    "tokens": "Tokens", "settings": "Settings", "numbers": "Origin of the numbers",
}  # fmt: skip


def report(trace: Trace, choice: Choice) -> str:
    """Return the report on a run as HTML.

    Args:
        trace: the run. It may come from anyone: every text of it is escaped, and parts that it lacks are named.
        choice: what the report shows, from `model.report.choice.choose`.
    """
    subject = Subject(trace, choice)
    sections = [
        text.strip(subject), routing.of_layer(subject), routing.of_token(subject), load.section_of(subject),
        attention.section_of(subject), text.by_token(subject), settings.of_run(subject), settings.of_numbers(subject),
    ]  # fmt: skip
    made = "Made by MoE Loupe from the trace of one run. Point at a mark for its number."
    footer = element("footer", element("p", made))
    body = element("body", _header(subject), element("main", *sections), footer)
    return f"<!DOCTYPE html>\n{element('html', _head(subject), body, lang='en', dir='ltr')}\n"


def heading(trace: Trace, with_text: bool = True) -> tuple[str, str]:
    """Return the model's name and the beginning of the text, not escaped; without text, the second is empty."""
    words = plain(trace.text[: 8 * _MOST_TITLE].decode("utf-8", "ignore"), _MOST_TITLE) if with_text else ""
    return plain(trace.model.get("name") or "a model", 80), words


def _head(subject: Subject) -> str:
    model, words = heading(subject.trace, subject.choice.with_text)
    style = "".join((colors.css(_layout(subject)), CSS, figure.CSS, strip_figure.CSS))
    return element(
        "head", void("meta", charset="utf-8"), void("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", escaped(f"{model}: {words or f'{subject.trace.num_tokens:,} tokens'} · MoE Loupe")),
        element("style", style),
    )  # fmt: skip


def _layout(subject: Subject) -> Layout | None:
    return None if subject.no_routing else subject.rule


def _header(subject: Subject) -> str:
    trace, (model, words) = subject.trace, heading(subject.trace, subject.choice.with_text)
    said = element("p", element("bdi", escaped(words)), class_="quote") if words else ""
    number = int(trace.prompt_mask.sum())
    parts = f"{number:,} of the prompt and {trace.num_tokens - number:,} generated"
    lead = element("p", f"One run on {trace.num_tokens:,} tokens: {parts}, {_made(trace)}.", class_="lead")
    links = (element("a", name, href=f"#{part}") for part, name in CONTENTS.items())
    facts = (
        element("div", element("dt", name), element("dd", value, element("small", meaning)))
        for name, value, meaning in _facts(subject)
    )
    first = element("p", "MoE Loupe · report of a run", class_="kicker"), element("h1", escaped(model)), said, lead
    contents = element("nav", *links, aria_label="Contents")
    return element("header", *first, element("dl", *facts, class_="facts"), contents)


def _made(trace: Trace) -> str:
    """Return where and when the run was made, as HTML."""
    stated, kind = trace.origin, origin.kind(trace)
    if kind == "imported":
        return f"imported from {escaped(stated.get('format') or stated.get('engine') or 'another engine', 60)}"
    date = escaped(str(stated.get("time_utc") or "")[:10])
    where = f"on {escaped(stated.get('device', 'an unknown device'), 40)}, {escaped(stated.get('dtype', '?'), 40)}"
    return f"{kind} {where}" + (f", {element('time', date)}" if date else "")


def _facts(subject: Subject) -> list[tuple[str, str, str]]:
    """Return (name, value, meaning) of the run in a few numbers."""
    trace, facts = subject.trace, []
    if trace.has("logprob") and metrics.surprisal_in_words(trace.data["logprob"], trace.prompt_mask):
        logprob, is_prompt = trace.data["logprob"], trace.prompt_mask
        means = [metrics.mean_surprisal_bits(logprob.where(mask)) for mask in (is_prompt, ~is_prompt)]
        known = " / ".join(f"{bits:.3g}" for bits in means if not math.isnan(bits))
        meaning = "prompt / generated" if known.count("/") else "of the tokens that have one"
        facts.append(("Mean surprisal", f"{known} bit", meaning))
    if subject.no_routing or not subject.load.num_tokens:
        return facts
    measured, rule = subject.load, subject.rule
    facts.append(("Experts", f"{rule.top_k} of {rule.num_experts}", "per token and layer"))
    layer, band = measured.least_even[0], measured.band
    chance = f"L{layer}; chance: at most {band.max_violation:.3g}" if band else f"L{layer}"
    facts.append(("Worst MaxVio", f"{float(measured.violation.sel(moe_layer=layer)):.3g}", chance))
    if measured.band:
        layers = measured.counts.sizes["moe_layer"]
        facts.append(("Uneven layers", f"{measured.num_uneven} of {layers}", "busier than chance"))
    return facts
