"""The manifest of a sweep: what was asked, of which model and texts, and what came of it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.atlas.errors import AtlasError
from model.atlas.schema import FORMAT, MANIFEST, VERSION
from model.trace.limits import SWEEP_MANIFEST, check_json
from model.trace.ordinary import read_ordinary
from model.trace.writing import replacing, strict

_IDENTITY = ("model", "request", "inputs", "shards", "software")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The manifest of a sweep; every field is a JSON value.

    Attributes:
        model: `name`, `config`, `weights_sha256`, `tokenizer_sha256`, `layers` (numbers of the MoE layers),
            `num_experts`, `top_k`.
        request: `policy` (window length, context of a later window, packing), `batch_tokens`, `device`, `dtype`,
            `source` of the routing, `keep`, `labels`.
        inputs: per file its `name`, `sha256`, `bytes` and `documents`.
        shards: per shard the `file` of its part, and `first`, `count` and `tokens` of its documents.
        software: versions.
        capture: tables and columns beyond counts that the sweep holds.
        bounds: limits that cut a table, by name.
        failed: per document that could not be routed its `shard`, `document` (number in the corpus), `source`, `error`.
        invariance: `shard`, `batch_tokens`, `decisions`, `different` of the repeated shard; None before the end.
        times: `started` and `finished`, UTC.
    """

    model: Mapping[str, Any]
    request: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...] = ()
    shards: tuple[Mapping[str, Any], ...] = ()
    software: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    capture: tuple[str, ...] = ()
    bounds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    failed: tuple[Mapping[str, Any], ...] = ()
    invariance: Mapping[str, Any] | None = None
    times: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the MoE layers."""
        return tuple(self.model["layers"])

    @property
    def hash(self) -> str:
        """SHA-256 of what the numbers depend on: model, request, inputs, shards and software."""
        return hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()

    @property
    def policy(self) -> Mapping[str, Any]:
        """How documents become runs; sweeps of different policies cannot be compared."""
        return self.request.get("policy", {})

    def difference(self, other: "Manifest") -> list[str]:
        """Return a line for each entry that the numbers depend on and that differs; empty if both may be mixed."""
        mine, theirs = dict(_entries(self._identity())), dict(_entries(other._identity()))
        names = [name for name in [*mine, *(theirs.keys() - mine.keys())] if mine.get(name) != theirs.get(name)]
        return [f"{name} is {_shown(mine.get(name))} and {_shown(theirs.get(name))}" for name in names]

    def _identity(self) -> dict[str, Any]:
        return json.loads(json.dumps({name: getattr(self, name) for name in _IDENTITY}))

    def write(self, folder: Path) -> None:
        """Write manifest.json into a folder, completely or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        entries = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self), "hash": self.hash}
        with replacing(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(strict(entries), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Return the manifest of a folder.

        Raises:
            AtlasError: the folder has none, or it is damaged or of another version.
        """
        path = folder / MANIFEST
        try:
            content = read_ordinary(path, SWEEP_MANIFEST.num_bytes)
        except FileNotFoundError:
            raise AtlasError(f"{folder} is not the folder of a sweep: it has no {MANIFEST}") from None
        except OSError as error:
            raise AtlasError(f"{path} cannot be read: {error.strerror}") from None
        check_json(content, SWEEP_MANIFEST, str(path), AtlasError)
        try:
            entries = json.loads(content)
            known = entries["format"], entries["version"]
        except (ValueError, KeyError, TypeError):
            raise AtlasError(f"{path} is damaged; start the sweep again") from None
        if known != (FORMAT, VERSION):
            raise AtlasError(f"{path} is of format {known[0]!r}, version {known[1]!r}, not {FORMAT!r}, {VERSION}")
        return _from_entries(entries, path)


def _from_entries(entries: Mapping[str, Any], path: Path) -> Manifest:
    fields = [field.name for field in dataclasses.fields(Manifest)]
    values: dict[str, Any] = {name: entries.get(name) for name in fields}
    for name in ("inputs", "shards", "capture", "failed"):
        values[name] = tuple(values[name] or ())
    model = values["model"]
    if not isinstance(model, dict) or not {"layers", "num_experts", "top_k"} <= model.keys():
        raise AtlasError(f"{path} does not say which layers and experts the model has")
    if not isinstance(values["request"], dict):
        raise AtlasError(f"{path} does not say what was asked")
    return Manifest(**values)


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Return the single values of nested JSON objects with their dotted names; a list counts as one value."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _entries(entry, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
