"""Quality rules, each with a measure, a limit and a reason. A text is dropped by the first rule that it breaks.

We set the limits by reading texts. The rules keep nearly all of a clean corpus, and drop most damaged texts. No rule
notices that the words of a text are in the wrong order.
"""

import dataclasses
from collections.abc import Callable

from model.train.data.curation import measures
from model.train.data.curation.features import Text


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule: the measure of a text must be at most the limit, or at least the limit if `at_least` is set."""

    name: str
    reason: str
    measure: Callable[[Text], float]
    limit: float
    unit: str = "share"
    at_least: bool = False
    for_code: bool = True

    def keeps(self, value: float) -> bool:
        """Whether the rule keeps a text whose measure is `value`."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a rule on a text. `value` is the text's measure; None for code, if the rule skips code."""

    rule: Rule
    value: float | None

    @property
    def keeps(self) -> bool:
        """Whether the rule keeps the text."""
        return self.value is None or self.rule.keeps(self.value)


RULES = (
    Rule("too short", "The text is too short to learn from.", measures.characters, 20, "characters", at_least=True),
    Rule(
        "wrong encoding",
        "Characters were decoded with the wrong encoding.",
        measures.mojibake,
        1,
        "per 1,000 characters",
    ),
    Rule("number table", "Most of the text is rows of numbers.", measures.number_lines, 0.5),
    Rule("encoded binary", "The text is binary data in letters and digits.", measures.encoded, 0.5),
    Rule("lock file", "The text lists versions and checksums of packages.", measures.locked, 0.25),
    Rule("minified code", "The code has hardly any line breaks.", measures.minified, 0.18),
    Rule("markup", "Too much of the text is HTML or XML tags.", measures.markup, 0.04, for_code=False),
    Rule(
        "Markdown", "Links, emphasis and placeholders of Markdown were left in.", measures.markdown, 0.3, for_code=False
    ),
    Rule("link list", "Most of the text is web addresses.", measures.links, 0.4, for_code=False),
    Rule("few letters", "The text is mostly signs and digits.", measures.letters, 0.4, at_least=True, for_code=False),
    Rule("repeated lines", "Many lines repeat earlier lines.", measures.repeated_lines, 0.3, for_code=False),
    Rule("repetition", "Many runs of ten words repeat earlier runs.", measures.repeated_runs, 0.3, for_code=False),
    Rule("page boilerplate", "The text is menus and notices of web pages.", measures.boilerplate, 0.12, for_code=False),
    Rule("change log", "The text lists changes between versions.", measures.changes, 0.25, for_code=False),
    Rule(
        "scanning errors",
        "Digits replace letters, as after bad scanning.",
        measures.scanned,
        25,
        "per 1,000 words",
        for_code=False,
    ),
)


def verdicts(text: Text) -> list[Verdict]:
    """Return the verdict of every rule, in order."""
    return [Verdict(rule, rule.measure(text) if rule.for_code or not text.is_code else None) for rule in RULES]


def first_broken(text: Text) -> Verdict | None:
    """Return the verdict of the first rule that drops the text, without measuring later rules; None if none does."""
    for rule in RULES:
        if rule.for_code or not text.is_code:
            value = rule.measure(text)
            if not rule.keeps(value):
                return Verdict(rule, value)
    return None
