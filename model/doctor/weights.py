"""The first stage of an audit: reads every weight of a folder once, layer by layer.

Memory holds the statistics of one layer at a time. One thread reads, and two threads measure. The audit reads every
tensor in the files, whatever the configuration states, so a contradicting configuration does not stop the audit.
"""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from model.checkpoint.disk import DiskTensors
from model.checkpoint.embedded import name_of
from model.checkpoint.files import CONFIG_NAME, ModelFolder, find_file
from model.checkpoint.header import READABLE_DTYPES, SCALED_DTYPE, CheckpointError, read_json
from model.checkpoint.layouts import no_config
from model.checkpoint.names import (
    EMBEDDING,
    EXPERT_PROJECTIONS,
    HEAD,
    ROUTER,
    ROUTER_BIAS,
    is_quantisation,
    place_of,
    scale_name,
    scaled_weight,
)
from model.checkpoint.weights import inspect
from model.doctor import bias, blocks, experts, gate, layer_copies, manifest, other_files, tokenizer, unscaled, values
from model.doctor.findings import ERROR, Check, Finding, Report, make_report, shortened
from model.doctor.tensors import Scanned, scan
from model.network.config import MODEL_TYPES, ConfigError
from model.network.config_keys import refuse_other_family

STAGE = "weights"
_AT_ONCE = 2  # tensors that are measured in parallel


class Stopped(CheckpointError):
    """The audit was stopped; the message says after how many tensors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the first stage of an audit, which reads every weight."""

    done: int  # number of measured tensors
    count: int  # number of all tensors
    bytes_read: int

    @property
    def share(self) -> float:
        """The share of tensors that are measured."""
        return self.done / max(1, self.count)


@dataclasses.dataclass
class _Totals:
    """Statistics of all layers, which are compared after the last layer."""

    biases: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    bias_dtypes: dict[int, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, dict[int, float]] = dataclasses.field(default_factory=lambda: collections.defaultdict(dict))
    digests: dict[str, bytes] = dataclasses.field(default_factory=dict)  # checksums of the tensors outside layers
    num_tensors: int = 0
    num_blocks: int = 0
    layers: dict[str, set[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(set))
    num_experts: int = 0
    # (part, expert) -> layer -> digest, of every matrix that is not zero
    matrices: layer_copies.Digests = dataclasses.field(default_factory=lambda: collections.defaultdict(dict))
    # severity -> findings on NaN, infinity and zeros
    broken: dict[str, list[Finding]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    unscaled: list[Scanned] = dataclasses.field(default_factory=list)  # values of FP8 in another dtype


def examine_weights(
    folder: str | Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    cancel: threading.Event | None = None,
) -> Report:
    """Return the report on a folder's configuration, headers and weights.

    Raises:
        CheckpointError: there is nothing to audit: no folder, no usable JSON in config.json, another model type, no
            weights, or only pickled weights. Faults in the weights are findings, not errors.
        Stopped: `cancel` was set; it is checked after each tensor.
    """
    with np.errstate(all="ignore"):  # NaN and infinity are findings, and what follows from them is NaN
        return _examine_folder(Path(folder), on_progress, cancel)


def _examine_folder(folder: Path, on_progress: Callable[[Progress], None], cancel: threading.Event | None) -> Report:
    published = _published(folder)
    try:
        opened = ModelFolder(folder, needs_weights=False)
    except CheckpointError as problem:
        if "pickled" in str(problem):
            raise
        what, meaning = _within(folder, problem), "No weight can be read until this is fixed; nothing else was checked."
        finding = Finding(ERROR, manifest.NAME, what, meaning, {})
        return make_report(name_of(folder), [Check(manifest.NAME, STAGE, "headers of the weight files")], [finding])
    with opened:
        if not opened.has_weights:
            raise CheckpointError(f"{folder} holds no weights; give a folder with model.safetensors")
        return _examine(opened, published, on_progress, cancel)


def _within(folder: Path, problem: Exception) -> str:
    """Return the message of an error without the folder's path, because a report must not show paths."""
    return str(problem).replace(f"{folder}/", "").replace(f"{folder} ", "the folder ")


def _published(folder: Path) -> Mapping[str, object]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give one that holds {CONFIG_NAME}")
    if not (folder / CONFIG_NAME).exists() and (cause := no_config(folder)):
        raise CheckpointError(f"{folder} lacks {CONFIG_NAME}: {cause}")
    published = read_json(find_file(folder, CONFIG_NAME))
    try:
        refuse_other_family(published, MODEL_TYPES)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    return published


def _examine(
    folder: ModelFolder,
    published: Mapping[str, object],
    on_progress: Callable[[Progress], None],
    cancel: threading.Event | None,
) -> Report:
    held, refusal = None, ""
    try:
        held = inspect(folder.path)
    except CheckpointError as problem:
        refusal = str(problem).removeprefix(f"{folder.path / CONFIG_NAME}: ")
    findings = manifest.check_config(published, folder.tensors, refusal)
    if held is not None:
        findings += manifest.check_manifest(held, len(findings))
        findings += other_files.check_beside(held, folder.path)
    vocabulary, about_ids = tokenizer.check_tokenizer(
        folder.path, published.get("vocab_size"), published.get("bos_token_id")
    )
    findings += about_ids
    totals = _Totals()
    try:
        for layer, tensors in _layers(folder, on_progress, cancel):
            findings += _one_layer(layer, tensors, totals)
        findings += other_files.check_repeated(folder.path, folder.tensors, cancel)
    except Stopped:
        raise
    except CheckpointError as problem:  # a file that was cut off or taken away while it was read
        meaning = "The files changed while they were read, or the disk is damaged; later tensors were not read."
        findings.append(Finding(ERROR, values.NAME, f"reading ended: {_within(folder.path, problem)}", meaning, {}))
    for alike in totals.broken.values():
        findings += shortened(alike, "tensors with zeros, NaN or infinity")
    findings += unscaled.check_unscaled(totals.unscaled, folder.tensors)
    findings += layer_copies.check_layers(totals.matrices)
    findings += bias.compare_layers(totals.biases, totals.bias_dtypes)
    findings += values.compare_sizes(totals.sizes)
    findings += manifest.check_tied(published, totals.digests.get(EMBEDDING), totals.digests.get(HEAD))
    return make_report(name_of(folder.path), [*_checks(folder, totals), vocabulary], findings)


def _one_layer(layer: int | None, tensors: list[Scanned], totals: _Totals) -> Iterator[Finding]:
    totals.num_tensors += len(tensors)
    projections: dict[str, dict[int, Scanned]] = collections.defaultdict(dict)
    for tensor in tensors:
        for finding in values.check_values(tensor):
            totals.broken[finding.severity].append(finding)
        place = tensor.place
        if is_quantisation(tensor.stored.name):
            continue
        if layer is not None and len(tensor.stored.shape) == 2 and tensor.num_zero < tensor.size:
            totals.matrices[place.part, place.expert][layer] = tensor.digest
        if unscaled.is_unscaled(tensor):
            totals.unscaled.append(tensor)
        if layer is None:
            totals.digests[tensor.stored.name] = tensor.digest
        elif place.expert is None:
            if place.part != ROUTER_BIAS:  # which has a check of its own
                totals.sizes[place.part][layer] = tensor.typical
        elif place.part in EXPERT_PROJECTIONS:
            projections[place.part][place.expert] = tensor
        if place.expert is None:
            yield from blocks.check_blocks([tensor])
        totals.num_blocks += 0 if tensor.blocks is None else tensor.blocks.scale.size
        if layer is not None:
            totals.layers[values.NAME].add(layer)
            if tensor.blocks is not None:
                totals.layers[blocks.NAME].add(layer)
        if layer is not None and tensor.values is not None and not (tensor.num_nan or tensor.num_infinite):
            yield from _router(layer, tensor, totals)
    if layer is None or not projections:
        return
    yield from _experts(layer, projections, totals)


def _experts(layer: int, projections: experts.Projections, totals: _Totals) -> Iterator[Finding]:
    totals.layers[experts.NAME].add(layer)
    totals.num_experts += max(map(len, projections.values()))
    yield from experts.check_experts(layer, projections)
    for part, by_expert in projections.items():
        totals.sizes[f"experts.{part}"][layer] = values.typical_size(by_expert.values())
        by_shape: dict[tuple[int, ...], list[Scanned]] = collections.defaultdict(list)
        for tensor in by_expert.values():
            by_shape[tensor.stored.shape].append(tensor)
        for alike in by_shape.values():
            yield from blocks.check_blocks(alike)


def _router(layer: int, tensor: Scanned, totals: _Totals) -> Iterator[Finding]:
    assert tensor.values is not None
    if tensor.place.part == ROUTER and tensor.values.ndim == 2:
        totals.layers[gate.NAME].add(layer)
        yield from gate.check_gate(layer, tensor.values)
    elif tensor.place.part == ROUTER_BIAS and tensor.values.ndim == 1 and tensor.values.size:
        totals.layers[bias.NAME].add(layer)
        totals.biases[layer] = tensor.values
        totals.bias_dtypes[layer] = tensor.stored.dtype
        yield from bias.check_bias(layer, tensor.values)


# --- reading ---------------------------------------------------------------------------------------------------------


def _layers(
    folder: ModelFolder, on_progress: Callable[[Progress], None], cancel: threading.Event | None
) -> Iterator[tuple[int | None, list[Scanned]]]:
    """Yield the statistics of every readable tensor, layer by layer.

    The embedding comes before the layers; other tensors outside the layers come after them.
    """
    names = sorted((name for name in folder.tensors if _is_weight(folder, name)), key=_order)
    disk = DiskTensors(folder)
    measured: list[Scanned] = []
    try:
        with contextlib.closing(_scans(folder, disk, names)) as scans:  # ends all threads before the disk closes
            for done, tensor in enumerate(scans, 1):
                if measured and measured[-1].place.layer != tensor.place.layer:
                    yield measured[-1].place.layer, measured
                    measured = []
                measured.append(tensor)
                on_progress(Progress(done, len(names), disk.bytes_read))
                if cancel is not None and cancel.is_set():
                    raise Stopped(f"stopped after {done:,} of {len(names):,} tensors")
        if measured:
            yield measured[-1].place.layer, measured
    finally:
        disk.forget()
        disk.close()


def _scans(folder: ModelFolder, disk: DiskTensors, names: list[str]) -> Generator[Scanned, None, None]:
    disk.announce(names)
    waiting: collections.deque[Future[Scanned]] = collections.deque()
    with ThreadPoolExecutor(_AT_ONCE, "measure") as pool:
        try:
            for name in names:
                waiting.append(pool.submit(_scan, folder, disk, name))
                if len(waiting) > _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _scan(folder: ModelFolder, disk: DiskTensors, name: str) -> Scanned:
    scale = None
    raw = disk.raw(name)
    if folder.tensors[name].dtype == SCALED_DTYPE and not folder.problem(name):
        scale = disk.raw(scale_name(name))
    return scan(folder.tensors[name], raw, scale)


def _is_weight(folder: ModelFolder, name: str) -> bool:
    """Whether a tensor is measured on its own; block scales are read together with their weights."""
    dtype = folder.tensors[name].dtype
    return (dtype in READABLE_DTYPES or dtype == SCALED_DTYPE) and scaled_weight(name) not in folder.tensors


def _order(name: str) -> tuple[int, int, str, int]:
    """Return the key that sorts tensors: embedding, layers with their experts, the rest, as in most files."""
    place = place_of(name)
    if place.layer is None:
        return (0 if name == EMBEDDING else 2, 0, name, 0)
    return (1, place.layer, "" if place.expert is None else "experts", place.expert or 0)


# --- checks ----------------------------------------------------------------------------------------------------------


def _checks(folder: ModelFolder, totals: _Totals) -> list[Check]:
    def layers(name: str) -> tuple[int, ...]:
        return tuple(sorted(totals.layers[name]))

    def check(name: str, looked_at: str, what: str) -> Check:
        numbers = layers(name)
        return Check(name, STAGE, looked_at if numbers else "", numbers, "" if numbers else f"the folder has no {what}")

    num_bytes = sum(stored.num_bytes for stored in folder.tensors.values())
    num_biases = sum(map(len, totals.biases.values()))
    return [
        Check(manifest.CONFIG, STAGE, f"config.json against the shapes of {len(folder.tensors):,} tensors"),
        Check(manifest.NAME, STAGE, f"names, shapes and dtypes of {len(folder.tensors):,} tensors"),
        Check(other_files.NAME, STAGE, "adapters, other weights, keys without effect, tensors in several files"),
        Check(
            values.NAME,
            STAGE,
            f"every value of {totals.num_tensors:,} tensors, {num_bytes / 1e9:.3g} GB",
            layers(values.NAME),
        ),
        Check(values.SIZES, STAGE, f"{len(totals.sizes):,} kinds of tensors from layer to layer", layers(values.NAME)),
        Check(layer_copies.NAME, STAGE, "every matrix against the same one of other layers", layers(values.NAME)),
        Check(
            unscaled.NAME, STAGE, f"values of {totals.num_tensors:,} tensors against FP8's, scales without FP8 weights"
        ),
        check(bias.NAME, f"{num_biases:,} biases in {len(totals.biases):,} layers", "selection bias"),
        check(gate.NAME, f"length and angles of the router rows of {len(totals.layers[gate.NAME]):,} layers", "router"),
        check(experts.NAME, f"{totals.num_experts:,} experts, each against the others of its layer", "routed experts"),
        check(blocks.NAME, f"{totals.num_blocks:,} blocks of 128 x 128 with their scales", "FP8 matrices"),
    ]
