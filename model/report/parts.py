"""Parts that the sections of a report share: a section with its first sentence, remarks, tags, and numbers."""

import math

from viz.report.markup import element, text

# How numbers come about -> what that means.
ORIGINS = {
    "measured": "recorded while the model ran",
    "imported": "recorded by another engine",
    "derived": "computed from recorded numbers",
    "simulated": "drawn at random many times, with a fixed seed",
    "unknown": "the trace does not say",
}


def section(name: str, heading: str, answer: str, *parts: str) -> str:
    """Return a section.

    Args:
        name: id of the section.
        heading: its heading, plain text.
        answer: the first sentences, HTML.
        *parts: figures, tables and remarks, HTML.
    """
    first = element("p", answer, class_="answer") if answer else ""
    return element("section", element("h2", text(heading)), first, *parts, id=name)


def remark(*sentences: str) -> str:
    """Return sentences of HTML in small type; nothing without sentences."""
    kept = [sentence for sentence in sentences if sentence]
    return element("p", " ".join(kept), class_="remark") if kept else ""


def lacking(sentence: str) -> str:
    """Return the box that stands in place of a figure, and says why there is none. `sentence` is plain text."""
    return element("p", text(sentence), class_="lacking")


def tag(origin: str) -> str:
    """Return the tag that says how a number came about, one of `ORIGINS`."""
    return element("span", text(origin), class_="tag", title=ORIGINS[origin])


def three(value: float) -> str:
    """Return a number with three significant digits; a dash if it is unknown."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def listed(names: list[str]) -> str:
    """Return names in a row with an `and`.

    >>> listed(["E1", "E5", "E9"])
    'E1, E5 and E9'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
