"""Run a sweep: plan it, route the shards without a part, and merge the parts.

The manifest is written before the first shard. The same command goes on where a sweep stopped: it routes the shards
whose part is missing, and refuses a folder whose manifest asks for something else.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from model.atlas.manifest import Manifest
from model.atlas.schema import MANIFEST, VERSION
from model.sweep.loaded import window_length
from model.sweep.merge import TOKENS_PER_EXPERT, merge
from model.sweep.parts import is_whole, read_part
from model.sweep.plan import Plan, plan, sha256
from model.sweep.progress import Progress
from model.sweep.settings import Failure, Settings, Shard, Summary, SweepError
from model.sweep.source import Facts, Source, open_source
from model.sweep.sums import MOST_PAIR_CELLS
from model.sweep.sweeper import Sweeper
from model.sweep.windows import POLICY

# Planned settings and the shards to route -> what became of them as they finish, in any order.
Results = Callable[[Settings, Sequence[int]], Generator[Summary | Failure, None, None]]
_SHARD = [field.name for field in dataclasses.fields(Shard)]
_LEAST_CHECKED = 2_000  # tokens of the shard that is routed twice, if one has so many


def in_this_process(source: Source) -> Results:
    """Return the results of one worker in this process, which uses a loaded model."""

    def results(settings: Settings, shards: Sequence[int]) -> Generator[Summary | Failure, None, None]:
        sweeper = Sweeper(settings, source)
        for shard in shards:
            yield sweeper.route(shard)

    return results


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A planned sweep whose manifest stands in its folder.

    Attributes:
        settings: with the plan.
        manifest: without results.
        missing: shards without a part.
        damaged: names of parts that could not be read and were removed.
    """

    settings: Settings
    manifest: Manifest
    missing: tuple[int, ...]
    damaged: tuple[str, ...]


def prepare_sweep(settings: Settings, source: Source, on_file: Callable[[int, int], None]) -> Prepared:
    """Plan a sweep, or take up the plan in its folder, and write its manifest.

    Args:
        settings: the request.
        source: the loaded model.
        on_file: see `plan`.

    Raises:
        SweepError: see `plan`; or the folder holds another sweep or other files.
        OSError: the folder cannot be written.
    """
    out = Path(settings.out)
    if (out / MANIFEST).is_file():
        settings, manifest = _taken_up(settings, source, Manifest.read(out))
    else:
        if out.exists() and any(out.iterdir()):
            raise SweepError(f"{out} is not empty and holds no sweep; choose another folder")
        planned = plan_sweep(settings, source, on_file)
        settings, manifest = planned.settings, _manifest(planned.settings, planned.inputs, source)
        (out / "parts").mkdir(parents=True, exist_ok=True)
        manifest.write(out)
    damaged = []
    for shard in range(len(settings.shards)):
        if (part := settings.part(shard)).exists() and not is_whole(part):
            part.unlink()
            damaged.append(part.name)
    missing = tuple(shard for shard in range(len(settings.shards)) if not settings.part(shard).exists())
    return Prepared(settings, manifest, missing, tuple(damaged))


def plan_sweep(settings: Settings, source: Source, on_file: Callable[[int, int], None]) -> Plan:
    """Return the plan of a sweep, with the shard that is routed twice; see `plan`."""
    cells = len(source.layers) * source.num_experts
    planned = plan(settings, source.tokenizer, source.vocab_size, cells, on_file)
    return dataclasses.replace(planned, settings=_with_check(planned.settings))


def _with_check(settings: Settings) -> Settings:
    """Choose the smallest shard of at least `_LEAST_CHECKED` tokens for the check, or the largest of all."""
    sizes = [shard.tokens for shard in settings.shards]
    enough = [size for size in sizes if size >= _LEAST_CHECKED]
    return dataclasses.replace(settings, checked=sizes.index(min(enough) if enough else max(sizes)))


def _taken_up(settings: Settings, source: Source, old: Manifest) -> tuple[Settings, Manifest]:
    """Return the settings with the plan in a folder, and its manifest.

    Raises:
        SweepError: the folder holds a sweep of something else.
    """
    names = [(Path(name).name, sha256(Path(name))) for name in settings.paths]
    if names != [(entry["name"], entry["sha256"]) for entry in old.inputs]:
        new = {name for name, _ in names} ^ {entry["name"] for entry in old.inputs}
        what = f"other files ({', '.join(sorted(new)[:3])})" if new else "files with another content"
        raise SweepError(f"{settings.out} holds a sweep of {what}; choose another --out")
    counted = old.bounds["token_ids"]
    settings = _with_check(
        dataclasses.replace(
            settings,
            shards=tuple(Shard(**{name: shard[name] for name in _SHARD}) for shard in old.shards),
            token_ids=None if counted is None else tuple(counted),
            strata=tuple(old.bounds["strata"]),
        )
    )
    if difference := _manifest(settings, old.inputs, source).difference(old):
        raise SweepError(
            f"{settings.out} holds another sweep: {difference[0]} now and there"
            + (f", and {len(difference) - 1} more differ" if len(difference) > 1 else "")
            + "; choose another --out"
        )
    return settings, old


def _manifest(settings: Settings, inputs: Sequence[Any], source: Source) -> Manifest:
    window = window_length(settings, source.context)
    policy = {
        "rule": POLICY, "window": window, "context": window // 2, "first": list(source.tokenizer.first_ids),
    }  # fmt: skip
    request = {
        "policy": policy, "batch_tokens": settings.batch_tokens, "shard_tokens": settings.shard_tokens,
        "keep": sorted(settings.keep), "labels": {"fixed": dict(settings.fixed), "keys": dict(settings.keys)},
    }  # fmt: skip
    axes = {"layers": list(source.layers), "num_experts": source.num_experts, "top_k": source.top_k}
    packages = ("torch", "transformers", "tokenizers", "numpy")
    return Manifest(
        model={**source.description, **axes},
        request=request | dict(source.origin),
        inputs=tuple(inputs),
        shards=tuple(
            {"part": settings.part(number).name, **dataclasses.asdict(shard)}
            for number, shard in enumerate(settings.shards)
        ),
        software={name: importlib.metadata.version(name) for name in packages} | {"sweep": VERSION},
        bounds={
            "token_ids": None if settings.token_ids is None else list(settings.token_ids),
            "tokens_per_expert": TOKENS_PER_EXPERT,
            "pair_cells": MOST_PAIR_CELLS,
            "strata": list(settings.strata),
        },
        times={"started": _now()},
    )


def sweep(
    settings: Settings,
    results: Results | None = None,
    on_file: Callable[[int, int], None] = lambda done, total: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Manifest:
    """Run a sweep to its end, and return its manifest.

    Args:
        settings: the request.
        results: routes the shards, in processes that load the model themselves; None: in this process.
        on_file: called with the number of input files read, and of all, while the sweep is planned.
        on_progress: called before the first shard and after each one.
        on_note: called with a sentence that the user should see.

    Raises:
        SweepError: the sweep cannot start, or the disk is full; finished shards are kept.
        OSError: an input file cannot be read.
    """
    source = open_source(settings)
    prepared = prepare_sweep(settings, source, on_file)
    settings = prepared.settings
    for name in prepared.damaged:
        on_note(f"{name} was not written to its end; its shard is routed again")
    progress = Progress.begin(settings.shards, prepared.missing)
    on_progress(progress)
    if results is None:
        results = in_this_process(source)
    else:
        settings = dataclasses.replace(settings, device=source.origin["device"] or settings.device)
        source = Facts.of(source)
    failures = []
    try:
        with contextlib.closing(results(settings, prepared.missing)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    on_note(f"shard {outcome.shard} could not be routed: {outcome.error}")
                else:
                    progress = progress.after(outcome)
                    on_progress(progress)
        return finish(prepared, source, failures)
    except OSError as error:
        raise SweepError(
            f"{error.filename or settings.out}: {error.strerror or error}; {progress.done} of {len(settings.shards)} "
            "shards are finished and kept; run the same command again to go on"
        ) from error


def finish(prepared: Prepared, source: Source | Facts, failures: Sequence[Failure] = ()) -> Manifest:
    """Merge the parts, write the final manifest, and return it. It lists the documents of shards that failed.

    Raises:
        SweepError: no shard could be routed.
        OSError: a file cannot be written.
    """
    settings, out = prepared.settings, Path(prepared.settings.out)
    parts = {shard: settings.part(shard) for shard in range(len(settings.shards))}
    for failure in failures:
        del parts[failure.shard]
    if not parts:
        raise SweepError(f"no shard could be routed; the first failed: {failures[0].error}")
    tables = merge(list(parts.values()), out, source.tokenizer, source.top_k, len(source.layers))
    failed = [entry for failure in failures for entry in _lost(settings.shards[failure.shard], failure)]
    for shard, part in parts.items():
        for row in read_part(part, "failed").to_pylist():
            failed.append({"shard": shard, "file": settings.shards[shard].file, **row})
    checked = parts.get(settings.checked or 0)
    check = [] if checked is None else read_part(checked, "check").to_pylist()
    manifest = dataclasses.replace(
        prepared.manifest,
        capture=tuple(sorted({*tables, *source.capture} - {"strata", "counts"})),
        failed=tuple(sorted(failed, key=lambda entry: (entry["shard"], entry["document"]))),
        invariance={"shard": settings.checked, **check[0]} if check else None,
        times={**prepared.manifest.times, "finished": _now()},
    )
    manifest.write(out)
    for leftover in (out / "parts").glob(".*.tmp"):  # of workers that were killed
        leftover.unlink(missing_ok=True)
    return manifest


def _lost(shard: Shard, failure: Failure) -> list[dict[str, Any]]:
    """Return the entries of the manifest on the documents of a shard that failed."""
    numbers = range(shard.first, shard.first + shard.count)
    common = {"shard": failure.shard, "file": shard.file, "source": None, "error": failure.error}
    return [common | {"document": number} for number in numbers]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
