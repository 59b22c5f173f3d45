"""Counts for the curation report: records and bytes read, kept, and dropped by each rule."""

import collections
import dataclasses
from typing import Any

from model.train.data.corpus import Record, sampling_shares
from model.train.data.curation.steps import Dropped, Item, Step

EXAMPLES = 3  # most dropped texts that the report quotes per rule, each from another source
EXAMPLE_CHARACTERS = 200


@dataclasses.dataclass(slots=True)
class Count:
    """A number of records, and the bytes of their texts."""

    records: int = 0
    bytes: int = 0

    def add(self, item: Item) -> None:
        """Count one record."""
        self.records += 1
        self.bytes += item.num_bytes


@dataclasses.dataclass(slots=True)
class _OfRule:
    count: Count = dataclasses.field(default_factory=Count)
    examples: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, item: Item, stream: str, value: float) -> None:
        self.count.add(item)
        sources = {example["source"] for example in self.examples}
        if len(self.examples) < EXAMPLES and item.record.source not in sources:
            self.examples.append(_example(item.record, stream, value))


class Tally:
    """Counts by step, rule, stream, source and label."""

    def __init__(self, steps: list[Step]) -> None:
        """Start with zero counts."""
        self._steps = {step.name: step for step in steps}
        self._in, self._out = ({name: Count() for name in self._steps} for _ in range(2))
        self._changed = collections.Counter[str]()
        self._rules: dict[str, dict[str, _OfRule]] = {name: {} for name in self._steps}
        self._streams: dict[str, dict[str, Any]] = {}
        self._sources: dict[tuple[str, str], tuple[Count, Count]] = {}
        self._labels: dict[str, dict[str, int]] = {}

    def arrived(self, item: Item, stream: str) -> None:
        """Count a record that was read."""
        streams = self._streams.setdefault(stream, {"in": Count(), "out": Count(), "dropped": collections.Counter()})
        streams["in"].add(item)
        self._source(item)[0].add(item)

    def passed(self, step: Step, before: Item, after: Item) -> None:
        """Count a record that passed a step."""
        self._in[step.name].add(before)
        self._out[step.name].add(after)
        self._changed[step.name] += before.record is not after.record

    def dropped(self, step: Step, item: Item, stream: str, why: Dropped) -> None:
        """Count a record that a step dropped."""
        self._in[step.name].add(item)
        self._rules[step.name].setdefault(why.rule, _OfRule()).add(item, stream, why.value)
        self._streams[stream]["dropped"][why.rule] += 1

    def left(self, item: Item, stream: str, labels: dict[str, int]) -> None:
        """Count a record that passed every step, and its safety labels."""
        self._streams[stream]["out"].add(item)
        self._source(item)[1].add(item)
        for name, count in labels.items():
            counts = self._labels.setdefault(name, {"records": 0, "found": 0})
            counts["records"] += 1
            counts["found"] += count

    def _source(self, item: Item) -> tuple[Count, Count]:
        return self._sources.setdefault((item.record.source, item.record.license), (Count(), Count()))

    def report(self, files: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the report as JSON values.

        Args:
            files: name, bytes and sha256 of each file of the corpus.

        Returns:
            `in` and `out`: records and bytes read and kept. `steps`: for each step also the number of `changed`
            records, and those `dropped` by each rule, with examples. `streams`: for each stream also its sampling share
            (`weight`). `safety`: counts by label. `sources`: counts by source and licence. `files`: the argument.
        """
        return {
            "in": _sum([stream["in"] for stream in self._streams.values()]),
            "out": _sum([stream["out"] for stream in self._streams.values()]),
            "steps": [self._step(step) for step in self._steps.values()],
            "streams": self._stream_rows(),
            "safety": dict(sorted(self._labels.items())),
            "sources": [
                {
                    "source": source,
                    "license": license_,
                    "in": dataclasses.asdict(before),
                    "out": dataclasses.asdict(after),
                }
                for (source, license_), (before, after) in sorted(self._sources.items())
            ],
            "files": files,
        }

    def _step(self, step: Step) -> dict[str, Any]:
        rules = sorted(self._rules[step.name].items(), key=lambda pair: -pair[1].count.bytes)
        return {
            "name": step.name,
            "reason": step.reason,
            "in": dataclasses.asdict(self._in[step.name]),
            "out": dataclasses.asdict(self._out[step.name]),
            "changed": self._changed[step.name],
            "dropped": [
                {"rule": name} | dataclasses.asdict(rule.count) | {"examples": rule.examples} for name, rule in rules
            ],
        }

    def _stream_rows(self) -> dict[str, Any]:
        shares = sampling_shares({name: stream["out"].bytes for name, stream in self._streams.items()})
        return {
            name: {
                "in": dataclasses.asdict(stream["in"]),
                "out": dataclasses.asdict(stream["out"]),
                "dropped": dict(stream["dropped"].most_common()),
                "weight": round(shares[name], 6),
            }
            for name, stream in self._streams.items()
        }


def _example(record: Record, stream: str, value: float) -> dict[str, Any]:
    text = record.text[:EXAMPLE_CHARACTERS]
    origin = {"stream": stream, "source": record.source, "license": record.license}
    return {"text": text, "value": round(value, 3)} | origin


def _sum(counts: list[Count]) -> dict[str, int]:
    return {"records": sum(count.records for count in counts), "bytes": sum(count.bytes for count in counts)}
