"""The result of an audit: findings with their numbers, the checks that ran, and a report of both.

A finding states an observation, its place, its numbers and its usual meaning. A check states what the audit examined,
so that a report shows the difference between a check that found nothing and a check that did not run.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

NOTE, WARNING, ERROR = SEVERITIES = ("note", "warning", "error")
Number = int | float | str
MOST_ALIKE = 20  # most findings of one kind that a report lists; one more line counts the rest


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One observation. Its text may hold names from the header of a weight file, but never words of a prompt."""

    severity: str  # one of SEVERITIES
    check: str  # name of the `Check` that found it
    what: str  # the observation in one line, with layer and expert
    meaning: str  # its usual meaning, in one line
    evidence: Mapping[str, Number]  # name of a measurement -> its value
    layer: int | None = None
    expert: int | None = None
    tensor: str = ""

    @property
    def place(self) -> str:
        """The place of the finding: `L3E17`, `L3`, the name of the tensor, or an empty string."""
        if self.layer is None:
            return self.tensor
        return f"L{self.layer}" if self.expert is None else f"L{self.layer}E{self.expert}"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One check of an audit."""

    name: str
    stage: str  # "weights", "text" or "reference"
    looked_at: str  # the data that the check examined, with their number, in a few words
    layers: tuple[int, ...] = ()  # model layer numbers; empty for the model as a whole
    skipped: str = ""  # why the check did not run; empty if it ran


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """All checks and findings of one audit."""

    model: str
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # tables of the text stage, by name
    prompts: tuple[str, ...] = ()  # texts that were run; empty in a report without text
    time_utc: str = ""

    @property
    def worst(self) -> str:
        """The highest severity of the findings; empty without findings."""
        return worst(self.findings)

    def reaches(self, severity: str) -> bool:
        """Whether a finding has at least this severity."""
        return any(rank(finding.severity) >= rank(severity) for finding in self.findings)

    def count(self, severity: str) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def made(self) -> tuple[Check, ...]:
        """The checks that ran."""
        return tuple(check for check in self.checks if not check.skipped)

    def without_text(self) -> "Report":
        """Return the report without the prompts."""
        return dataclasses.replace(self, prompts=())

    def joined(self, other: "Report") -> "Report":
        """Return a report with the contents of this report and of `other`, a report on the same model."""
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
    """Return a report with the current time; findings are sorted by severity, then by layer and expert."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    ordered = tuple(sorted(findings, key=_order))
    return Report(model, tuple(checks), ordered, measures or {}, prompts, now)


def left_out(model: str, name: str, stage: str, reason: str) -> Report:
    """Return the report of a stage that did not run, with the reason in one line."""
    return make_report(model, [Check(name, stage, "", skipped=reason)], [])


def rank(severity: str) -> int:
    """Return 0 for a note, 1 for a warning, 2 for an error."""
    return SEVERITIES.index(severity)


def worst(findings: Iterable[Finding]) -> str:
    """Return the highest severity of the findings; empty without findings."""
    return max((finding.severity for finding in findings), key=rank, default="")


def shortened(findings: list[Finding], alike: str) -> list[Finding]:
    """Return the first `MOST_ALIKE` findings of one kind; if there are more, add one finding that counts the rest.

    Args:
        findings: findings of one check and severity.
        alike: name of the kind, in the plural.
    """
    if len(findings) <= MOST_ALIKE:
        return findings
    first, more = findings[0], len(findings) - MOST_ALIKE
    rest = dataclasses.replace(
        first, what=f"{more:,} more {alike}", evidence={"more": more}, layer=None, expert=None, tensor=""
    )
    return [*findings[:MOST_ALIKE], rest]


def _order(finding: Finding) -> tuple[int, int, int, int, str]:
    layer, expert = finding.layer, finding.expert
    where = (1 << 30 if layer is None else layer, -1 if expert is None else expert)
    return (-rank(finding.severity), layer is not None, *where, finding.what)


UNSEEN, CLEAR = -1, 0  # values of an overview; 1 to 3 are the severities


def overview(report: Report) -> xr.DataArray:
    """Return the highest severity that each check found in each layer, [layer, check] int8.

    A value is `UNSEEN` if the check did not cover the layer, `CLEAR` if it found nothing, 1 for a note, 2 for a warning
    and 3 for an error.
    """
    checks = [check for check in report.made if check.layers]
    layers = sorted({layer for check in checks for layer in check.layers})
    marks = np.full((len(layers), len(checks)), UNSEEN, np.int8)
    for column, check in enumerate(checks):
        marks[[layers.index(layer) for layer in check.layers], column] = CLEAR
    names = [check.name for check in checks]
    for finding in report.findings:
        if finding.check in names and finding.layer in layers:
            cell = layers.index(finding.layer), names.index(finding.check)
            marks[cell] = max(marks[cell], rank(finding.severity) + 1)
    return xr.DataArray(marks, dims=("layer", "check"), coords={"layer": layers, "check": names})
