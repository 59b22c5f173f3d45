"""Rules of quality: what is measured, where the limit is, and why. A text is dropped by the first rule that it breaks.

The limits were set by looking at texts: they keep nearly all of a clean corpus and find most damaged texts. None finds
a text whose words stand in a wrong order.
"""

import dataclasses
from collections.abc import Callable

from model.train.data.curation import measures
from model.train.data.curation.features import Text


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a text must measure at most, or at least, the limit."""

    name: str
    reason: str
    measure: Callable[[Text], float]
    limit: float
    unit: str = "share"
    at_least: bool = False
    for_code: bool = True

    def keeps(self, value: float) -> bool:
        """Whether a text that measures so is kept."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a text; `value` is None where the rule is not for such texts."""

    rule: Rule
    value: float | None

    @property
    def keeps(self) -> bool:
        """Whether the text may stay."""
        return self.value is None or self.rule.keeps(self.value)


RULES = (
    Rule("too short", "There is too little of it to learn from.", measures.characters, 20, "characters", at_least=True),
    Rule(
        "wrong encoding", "Its letters were read in the wrong encoding.", measures.mojibake, 1, "per 1,000 characters"
    ),
    Rule("number table", "Most of it is rows of numbers.", measures.number_lines, 0.5),
    Rule("encoded binary", "It is bytes written as letters and digits.", measures.encoded, 0.5),
    Rule("lock file", "It lists versions and checksums of packages.", measures.locked, 0.25),
    Rule("minified code", "It is code without the line breaks that people read by.", measures.minified, 0.18),
    Rule("markup", "Too much of it is tags of HTML or XML.", measures.markup, 0.04, for_code=False),
    Rule("Markdown", "Its links, emphasis and placeholders were left in.", measures.markdown, 0.3, for_code=False),
    Rule("link list", "Most of it is addresses.", measures.links, 0.4, for_code=False),
    Rule("few letters", "It is mostly signs and digits.", measures.letters, 0.4, at_least=True, for_code=False),
    Rule("repeated lines", "It says the same lines again.", measures.repeated_lines, 0.3, for_code=False),
    Rule("repetition", "It says the same ten words again.", measures.repeated_runs, 0.3, for_code=False),
    Rule("page boilerplate", "It is what stands round a text on a page.", measures.boilerplate, 0.12, for_code=False),
    Rule("change log", "It lists what changed between versions.", measures.changes, 0.25, for_code=False),
    Rule(
        "scanning errors",
        "Digits stand in the place of letters.",
        measures.scanned,
        25,
        "per 1,000 words",
        for_code=False,
    ),
)


def verdicts(text: Text) -> list[Verdict]:
    """What every rule says, in their order."""
    return [Verdict(rule, rule.measure(text) if rule.for_code or not text.is_code else None) for rule in RULES]


def first_broken(text: Text) -> Verdict | None:
    """The first rule that drops the text, or None; rules behind it are not measured."""
    for rule in RULES:
        if rule.for_code or not text.is_code:
            value = rule.measure(text)
            if not rule.keeps(value):
                return Verdict(rule, value)
    return None
