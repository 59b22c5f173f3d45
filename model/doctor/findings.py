"""What an audit says: findings with their numbers, the checks that were made, and both together as a report.

A finding says what was seen and where, gives the numbers, and what that usually means. A check says what was looked at,
also when nothing was found, so that silence can be told from not having looked.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

NOTE, WARNING, ERROR = SEVERITIES = ("note", "warning", "error")
Number = int | float | str
MOST_ALIKE = 20  # findings of one kind that are listed one by one; the rest become one line


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was seen. Its words are the project's own, or names from a header; never those of a prompt."""

    severity: str  # of SEVERITIES
    check: str  # name of the `Check` that found it
    what: str  # one line, with the layer and expert spelled out
    meaning: str  # what it usually means
    evidence: Mapping[str, Number]  # what was measured -> the number
    layer: int | None = None
    expert: int | None = None
    tensor: str = ""

    @property
    def place(self) -> str:
        """Where, in short: `L3E17`, `L3`, the tensor, or nothing."""
        if self.layer is None:
            return self.tensor
        return f"L{self.layer}" if self.expert is None else f"L{self.layer}E{self.expert}"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    stage: str  # "weights", "text" or "reference"
    looked_at: str  # what and how much of it, in a few words
    layers: tuple[int, ...] = ()  # model layer numbers; empty for the model as a whole
    skipped: str = ""  # why it was not looked at; empty when it was


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """All checks and findings of one audit."""

    model: str
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # tables of the text stage, by name
    prompts: tuple[str, ...] = ()  # what was run; left out of a report without text
    time_utc: str = ""

    @property
    def worst(self) -> str:
        """The gravest severity; empty when nothing was found."""
        return worst(self.findings)

    def reaches(self, severity: str) -> bool:
        """Whether a finding is at least as grave."""
        return any(rank(found.severity) >= rank(severity) for found in self.findings)

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(found.severity == severity for found in self.findings)

    @property
    def made(self) -> tuple[Check, ...]:
        """The checks that were not skipped."""
        return tuple(check for check in self.checks if not check.skipped)

    def without_text(self) -> "Report":
        """The same report without a word of any prompt."""
        return dataclasses.replace(self, prompts=())

    def joined(self, other: "Report") -> "Report":
        """This report followed by another one of the same model."""
        return make_report(
            self.model,
            [*self.checks, *other.checks],
            [*self.findings, *other.findings],
            {**self.measures, **other.measures},
            (*self.prompts, *other.prompts),
        )


def make_report(
    model: str,
    checks: Iterable[Check],
    findings: Iterable[Finding],
    measures: Mapping[str, Any] | None = None,
    prompts: tuple[str, ...] = (),
) -> Report:
    """A report of this moment, findings in order: gravest first, then by layer and expert."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    ordered = tuple(sorted(findings, key=_order))
    return Report(model, tuple(checks), ordered, measures or {}, prompts, now)


def rank(severity: str) -> int:
    """0 for a note, 2 for an error."""
    return SEVERITIES.index(severity)


def worst(findings: Iterable[Finding]) -> str:
    """The gravest severity of some findings; empty where there are none."""
    return max((found.severity for found in findings), key=rank, default="")


def shortened(findings: list[Finding], alike: str) -> list[Finding]:
    """At most `MOST_ALIKE` of findings of one kind; how many more there are is said by one more, of the same severity.

    Args:
        findings: of one check and severity.
        alike: what they are, in the plural.
    """
    if len(findings) <= MOST_ALIKE:
        return findings
    first, more = findings[0], len(findings) - MOST_ALIKE
    rest = dataclasses.replace(
        first, what=f"{more:,} more {alike}", evidence={"more": more}, layer=None, expert=None, tensor=""
    )
    return [*findings[:MOST_ALIKE], rest]


def _order(found: Finding) -> tuple[int, int, int, int, str]:
    layer, expert = found.layer, found.expert
    where = (1 << 30 if layer is None else layer, -1 if expert is None else expert)
    return (-rank(found.severity), layer is not None, *where, found.what)


UNSEEN, CLEAR = -1, 0  # in an overview, beside 1 to 3 for the severities


def overview(report: Report) -> xr.DataArray:
    """Which checks looked at which layers, and the gravest finding of each, [layer, check] int8.

    `UNSEEN` where a check did not look, `CLEAR` where it found nothing, else 1 for a note to 3 for an error.
    """
    checks = [check for check in report.made if check.layers]
    layers = sorted({layer for check in checks for layer in check.layers})
    marks = np.full((len(layers), len(checks)), UNSEEN, np.int8)
    for column, check in enumerate(checks):
        marks[[layers.index(layer) for layer in check.layers], column] = CLEAR
    names = [check.name for check in checks]
    for found in report.findings:
        if found.check in names and found.layer in layers:
            place = layers.index(found.layer), names.index(found.check)
            marks[place] = max(marks[place], rank(found.severity) + 1)
    return xr.DataArray(marks, dims=("layer", "check"), coords={"layer": layers, "check": names})
