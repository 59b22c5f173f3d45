"""The first stage of an audit: reads every weight of a folder once, layer by layer.

Memory holds the statistics of one layer at a time. One thread reads, and two threads measure. The audit reads every
tensor in the files, whatever the configuration states, so a contradicting configuration does not stop the audit.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from model.checkpoint.embedded import name_of
from model.checkpoint.files import CONFIG_NAME, ModelFolder, find_file
from model.checkpoint.header import CheckpointError, read_json
from model.checkpoint.layouts import no_config
from model.checkpoint.names import BIAS_KIND, EMBEDDING, EXPERT_KIND, HEAD, ROUTER_KIND, is_quantisation
from model.checkpoint.weights import inspect
from model.doctor import (
    bias,
    blocks,
    experts,
    gate,
    layer_copies,
    manifest,
    other_files,
    reading,
    tokenizer,
    unscaled,
    values,
)
from model.doctor.findings import ERROR, Check, Finding, Report, make_report, shortened
from model.doctor.reading import Headers, Progress, Stopped, own_layout
from model.doctor.tensors import Scanned
from model.families.choose import OWN, engine_for

STAGE = "weights"


@dataclasses.dataclass
class _Totals:
    """Statistics of all layers, which are compared after the last layer."""

    is_own: bool  # as in `Headers`
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
    return read_json(find_file(folder, CONFIG_NAME))


def _own_headers(folder: ModelFolder, published: Mapping[str, object]) -> Headers:
    held, refusal = None, ""
    try:
        held = inspect(folder.path)
    except CheckpointError as problem:
        refusal = str(problem).removeprefix(f"{folder.path / CONFIG_NAME}: ")
    findings = manifest.check_config(published, folder.tensors, refusal)
    if held is not None:
        findings += manifest.check_manifest(held, len(findings))
        findings += other_files.check_beside(held, folder.path)
    count = f"{len(folder.tensors):,} tensors"
    checks = [
        Check(manifest.CONFIG, STAGE, f"config.json against the shapes of {count}"),
        Check(manifest.NAME, STAGE, f"names, shapes and dtypes of {count}"),
        Check(other_files.NAME, STAGE, "adapters, other weights, keys without effect, tensors in several files"),
    ]
    return Headers(own_layout(folder), checks, findings, is_own=True)


def _headers(folder: ModelFolder, published: Mapping[str, object]) -> Headers:
    if engine_for(folder.path) == OWN:
        return _own_headers(folder, published)
    from model.doctor.family import family_headers

    return family_headers(folder)


def _examine(
    folder: ModelFolder,
    published: Mapping[str, object],
    on_progress: Callable[[Progress], None],
    cancel: threading.Event | None,
) -> Report:
    headers = _headers(folder, published)
    findings = headers.findings
    vocabulary, about_ids = tokenizer.check_tokenizer(folder.path, *tokenizer.stated_ids(published))
    findings += about_ids
    totals = _Totals(headers.is_own)
    try:
        for layer, tensors in reading.layers(folder, headers.layout, on_progress, cancel):
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
    if headers.is_own:
        findings += manifest.check_tied(published, totals.digests.get(EMBEDDING), totals.digests.get(HEAD))
    return make_report(name_of(folder.path), [*headers.checks, *_checks(folder, totals), vocabulary], findings)


def _one_layer(layer: int | None, tensors: list[Scanned], totals: _Totals) -> Iterator[Finding]:
    totals.num_tensors += len({tensor.stored.name for tensor in tensors})
    projections: dict[str, dict[int, Scanned]] = collections.defaultdict(dict)
    for tensor in tensors:
        for finding in values.check_values(tensor, vectors_may_be_zero=not totals.is_own):
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
            if place.kind != BIAS_KIND:  # which has a check of its own
                totals.sizes[place.part][layer] = tensor.typical
        elif place.kind == EXPERT_KIND:
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
    if tensor.place.kind == ROUTER_KIND and tensor.values.ndim == 2:
        totals.layers[gate.NAME].add(layer)
        yield from gate.check_gate(layer, tensor.values)
    elif tensor.place.kind == BIAS_KIND and tensor.values.size == max(tensor.values.shape, default=0):
        biases = tensor.values.reshape(-1)  # Ernie stores a matrix of one row
        totals.layers[bias.NAME].add(layer)
        totals.biases[layer] = biases
        totals.bias_dtypes[layer] = tensor.stored.dtype
        yield from bias.check_bias(layer, biases, is_bounded=totals.is_own)


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
        check(
            gate.NAME,
            f"length and angles of the router rows of {len(totals.layers[gate.NAME]):,} layers",
            "router with a row per expert",
        ),
        check(
            experts.NAME,
            f"{totals.num_experts:,} experts, each against the others of its layer",
            "routed experts in a dtype that is measured",
        ),
        check(blocks.NAME, f"{totals.num_blocks:,} blocks of 128 x 128 with their scales", "FP8 matrices"),
    ]
