"""The curation steps in order. A step returns the record, perhaps changed, or the rule that dropped the record."""

import dataclasses
import functools
from collections.abc import Callable

from model.train.data.corpus import Record
from model.train.data.curation import contamination, duplicates, language
from model.train.data.curation.contamination import HeldOut
from model.train.data.curation.duplicates import ExactDuplicates, NearDuplicates
from model.train.data.curation.features import Text
from model.train.data.curation.normalise import normalise
from model.train.data.curation.rules import first_broken


@dataclasses.dataclass(frozen=True)
class Item:
    """A record with the features of its text."""

    record: Record

    @functools.cached_property
    def text(self) -> Text:
        """The text with its features."""
        return Text.of(self.record)

    @functools.cached_property
    def num_bytes(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(self.record.text.encode())


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """The name of the rule that dropped a record, and the record's measure."""

    rule: str
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A step: its name, the reason for which it drops records, and its function."""

    name: str
    reason: str
    take: Callable[[Item], Item | Dropped]


def pipeline(heldout: HeldOut | None) -> list[Step]:
    """Return new curation steps, in order; the steps that look for duplicates have seen no record yet.

    Args:
        heldout: runs of held-out text; None: leave out the step that compares with held-out text.

    Raises:
        CorpusError: datasketch is not installed.
    """
    near = NearDuplicates()
    exact = ExactDuplicates()
    steps = [
        Step("normalisation", "Texts that look the same get the same spelling; nothing is dropped.", _normalised),
        Step("language", "The text is clearly not in the language of its label.", _in_its_language),
        Step("quality", "The text breaks a quality rule.", _of_quality),
        Step("exact duplicates", "An earlier text has the same words.", functools.partial(_first_time, exact)),
        Step("near duplicates", "An earlier text has mostly the same words.", functools.partial(_mostly_new, near)),
    ]
    if heldout is not None:
        take = functools.partial(_not_held_out, heldout)
        steps.append(Step("held-out text", "The text overlaps with the held-out text.", take))
    return steps


def _normalised(item: Item) -> Item:
    text = normalise(item.record.text)
    return item if text == item.record.text else Item(dataclasses.replace(item.record, text=text))


def _in_its_language(item: Item) -> Item | Dropped:
    value = language.foreign(item.text, item.record.lang)
    return Dropped("other language", value) if value > language.LIMIT else item


def _of_quality(item: Item) -> Item | Dropped:
    broken = first_broken(item.text)
    return item if broken is None or broken.value is None else Dropped(broken.rule.name, broken.value)


def _first_time(memory: ExactDuplicates, item: Item) -> Item | Dropped:
    return Dropped("exact duplicate", 1.0) if memory.came_before(item.record.text) else item


def _mostly_new(memory: NearDuplicates, item: Item) -> Item | Dropped:
    value = memory.resemblance(item.text)
    return Dropped("near duplicate", value) if value >= duplicates.NEAR else item


def _not_held_out(heldout: HeldOut, item: Item) -> Item | Dropped:
    value = heldout.overlap(item.text)
    return Dropped("held-out text", value) if value > contamination.LIMIT else item
