"""Checks a folder's tensors against its configuration: missing tensors, wrong shapes, contradicting numbers.

The tensors count as right: if most layers agree on a number and `config.json` states another number, the configuration
is wrong. One finding then covers all tensors that seem to be missing because of the wrong number. A folder whose layout
cannot be read also gets a single finding, which says what to do.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model.checkpoint.fp8 import quantization_problem
from model.checkpoint.header import READABLE_DTYPES, SCALED_DTYPE, StoredTensor
from model.checkpoint.names import (
    EMBEDDING,
    FULL_QUERY,
    HEAD,
    MTP_PARTS,
    ROUTER,
    ROUTER_BIAS,
    STATED_BY,
    Place,
    is_quantisation,
    place_of,
)
from model.checkpoint.weights import Manifest
from model.doctor.findings import ERROR, NOTE, WARNING, Finding, shortened
from model.network.config import SPARSE_TYPES

NAME, CONFIG = "manifest", "config"
_HOLE = (
    "The model cannot be loaded. Usually a shard that was not copied, an index of another upload, or a conversion that "
    "does not know the tensor."
)
_CONTRADICTION = (
    "config.json belongs to another model, or was edited by hand. Loaders that trust it skip tensors, or refuse."
)
_PUBLISHED = re.compile(r"\b(?:model|lm_head)\.\S+")
_LISTED = 8  # up to this many missing tensors are listed one by one; more are grouped by expert or layer
_NAMED = 6  # most experts or layers that a finding names
_FEW = 3  # up to this many tensors that cannot be read for one reason are listed one by one
_QUOTED = re.compile(r"tensor (\S+) ")
# Key of `STATED_BY` -> published keys; the size in the shape is the value of the key times their values.
_UNITS = {"n_shared_experts": ("moe_intermediate_size",), "num_attention_heads": ("v_head_dim",)}


def check_config(published: Mapping[str, Any], stored: Mapping[str, StoredTensor], refusal: str) -> list[Finding]:
    """Return the findings on a configuration that contradicts the tensors, or itself.

    Args:
        published: the object in config.json.
        stored: published name -> stored tensor.
        refusal: why the configuration is unusable; empty if it is usable.
    """
    findings = [*_shapes(published, stored), *_layers(published, stored), *_head(published, stored)]
    findings += _groups(published)
    if refusal and not any(finding.severity == ERROR for finding in findings):
        findings.append(Finding(ERROR, CONFIG, f"config.json cannot be used: {refusal}", _CONTRADICTION, {}))
    return findings


def check_manifest(manifest: Manifest, contradictions: int) -> Iterator[Finding]:
    """Yield the findings on tensors that are missing, mis-shaped, unreadable or unexpected.

    Args:
        manifest: comparison of the folder with its configuration.
        contradictions: number of findings on the configuration; any of them explains why tensors seem to be missing.
    """
    misshapen = [_hole(_name_in(line), line) for line in manifest.misshapen]
    if problem := quantization_problem(manifest.published):
        yield _other_form(manifest, problem)
        return
    if cause := "" if contradictions else manifest.cause:
        yield _foreign(manifest, cause)
        yield from _unreadable(manifest)
        return
    if contradictions and (manifest.missing or misshapen):
        number = len(manifest.missing)
        numbers = {"missing": number, "mis-shaped": len(misshapen)}
        what = f"as config.json stands, {number:,} tensors are missing and {len(misshapen):,} are mis-shaped"
        yield Finding(ERROR, NAME, what, "This follows from the contradictions in config.json.", numbers)
    else:
        yield from shortened(_holes(manifest.missing), "groups of missing tensors")
        yield from shortened(misshapen, "mis-shaped tensors")
    yield from _unreadable(manifest)
    if manifest.mtp_problem:
        what = f"the multi-token-prediction layer is not used: {manifest.mtp_problem}"
        meaning = "The model cannot draft tokens; its own text is not affected."
        yield Finding(WARNING, NAME, what, meaning, {"tensors": len(manifest.mtp)}, manifest.config.num_layers)
    if manifest.surplus:
        first, number = manifest.surplus[0], len(manifest.surplus)
        is_layer = (place_of(first).layer or 0) > manifest.config.num_layers
        what = f"{number:,} tensors that the configuration does not account for, the first is {first}"
        meaning = "They are skipped. Harmless if they are buffers of an engine; not if they are layers or experts."
        yield Finding(WARNING if is_layer else NOTE, NAME, what, meaning, {"tensors": number})
    announced = manifest.published.get("num_nextn_predict_layers")
    if announced and not manifest.mtp:
        what = f"config.json announces {announced} multi-token-prediction layer, the files hold none"
        meaning = "Some tools write this key for every model. The model cannot draft tokens."
        yield Finding(NOTE, NAME, what, meaning, {"announced": _plain(announced), "held": 0})


def _other_form(manifest: Manifest, problem: str) -> Finding:
    """Return the finding on a checkpoint in an unsupported quantisation."""
    evidence = {
        "missing": len(manifest.missing),
        "mis-shaped": len(manifest.misshapen),
        "scales and packed tensors": sum(map(is_quantisation, manifest.stored)),
    }
    meaning = (
        "The weights are stored in a form that is not read here, so the model cannot be loaded; convert them to "
        "bfloat16 or to block FP8. If they are in bfloat16 already, take the key out of config.json."
    )
    return Finding(ERROR, NAME, f"config.json: {problem}", meaning, evidence)


def _foreign(manifest: Manifest, cause: str) -> Finding:
    """Return the finding on a folder whose layout cannot be read; it replaces the findings on missing tensors."""
    evidence = {"missing": len(manifest.missing), "held": len(manifest.stored), "unknown": len(manifest.surplus)}
    return Finding(ERROR, NAME, cause, "The model cannot be loaded; no tensor is damaged by that.", evidence)


def _holes(missing: Sequence[str]) -> list[Finding]:
    """Return the findings on missing tensors: one per tensor, or, if many are missing, one per group.

    A group holds the experts or layers that lack the same parts.
    """
    if len(missing) <= _LISTED:
        return [_hole(name, f"{_spelled(name)} is missing") for name in missing]
    lacking: dict[tuple[int | None, int | None], list[str]] = collections.defaultdict(list)
    for name in missing:
        place = place_of(name)
        lacking[place.layer, place.expert].append(place.part.removesuffix(".weight"))
    alike: dict[tuple[str, tuple[str, ...]], list[tuple[int | None, int | None]]] = collections.defaultdict(list)
    for (layer, expert), parts in lacking.items():
        kind = "" if layer is None else "layer" if expert is None else "expert"
        alike[kind, tuple(parts)].append((layer, expert))
    return [_group(kind, parts, places) for (kind, parts), places in alike.items()]


def _group(kind: str, parts: tuple[str, ...], places: list[tuple[int | None, int | None]]) -> Finding:
    named = ", ".join(parts[:_NAMED]) + (f" and {len(parts) - _NAMED} more parts" if len(parts) > _NAMED else "")
    verb = "is" if len(parts) == 1 else "are"
    layer, expert = places[0]
    if not kind:
        return Finding(ERROR, NAME, f"{named} {verb} missing", _HOLE, {"tensors": len(parts)})
    spelled = [f"L{layer}" if expert is None else f"L{layer}E{expert}" for layer, expert in places[:_NAMED]]
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    kinds = kind if len(places) == 1 else f"{kind}s"
    what = f"{named} {verb} missing in {len(places):,} {kinds}: {', '.join(spelled)}{more}"
    return Finding(ERROR, NAME, what, _HOLE, {"tensors": len(parts) * len(places)}, layer, expert)


def _unreadable(manifest: Manifest) -> Iterator[Finding]:
    """Yield a finding for each unreadable tensor, or one finding for many tensors with the same reason."""
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for line in manifest.unsupported:
        alike[_PUBLISHED.sub("", line)].append(line)
    for lines in alike.values():
        first = lines[0]
        if len(lines) <= _FEW:
            yield from (_hole(_name_in(line), line) for line in lines)
        else:
            hole = _hole(_name_in(first), f"{len(lines):,} tensors cannot be read, the first because {first}")
            yield dataclasses.replace(hole, evidence={"tensors": len(lines)})


def _hole(name: str, what: str) -> Finding:
    place = place_of(name)
    return Finding(ERROR, NAME, what, _HOLE, {}, place.layer, place.expert, name)


def _spelled(name: str) -> str:
    place = place_of(name)
    where = (
        "" if place.layer is None else f"L{place.layer} " if place.expert is None else f"L{place.layer}E{place.expert} "
    )
    return f"{where}{place.part} ({name})" if where else name


def _name_in(line: str) -> str:
    """Return the name of the tensor in a message of the manifest; empty if the message names no tensor."""
    match = _QUOTED.search(line)
    return match[1] if match else ""


def _shapes(published: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    shapes: dict[str, collections.Counter[tuple[int, ...]]] = collections.defaultdict(collections.Counter)
    for name, tensor in stored.items():
        if tensor.dtype not in (*READABLE_DTYPES, SCALED_DTYPE):
            continue  # packed integers have another shape than the weights that they stand for
        shapes[place_of(name).part][tensor.shape] += 1
    for key, (part, axis) in STATED_BY.items():
        if part not in shapes or (key not in published and key != "q_lora_rank"):
            continue
        shape, number = shapes[part].most_common(1)[0]
        unit = 1
        for other in _UNITS.get(key, ()):
            unit *= _whole(published.get(other)) or 0
        if axis >= len(shape) or not unit or number * 2 <= shapes[part].total():
            continue
        held, stated = shape[axis] / unit, published.get(key)
        if held != stated:
            what = f"config.json states {key} {stated}, {number:,} tensors `{part}` say {held:g}"
            yield Finding(
                ERROR, CONFIG, what, _CONTRADICTION, {"stated": _plain(stated), "held": held, "tensors": number}
            )
    if published.get("q_lora_rank") is not None and FULL_QUERY in shapes:
        what = f"config.json states q_lora_rank {published['q_lora_rank']}, the layers have one full query matrix"
        yield Finding(ERROR, CONFIG, what, _CONTRADICTION, {"stated": _plain(published["q_lora_rank"])})


def _layers(published: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    places = [place_of(name) for name in stored if not is_quantisation(name)]
    announced = _whole(published.get("num_hidden_layers"))
    mtp = {place.layer for place in places if place.part in MTP_PARTS and place.layer is not None}
    if announced is not None and _whole(published.get("num_nextn_predict_layers")) == 1:
        mtp.add(announced)  # also if the files hold only a part of this layer
    layers = {place.layer for place in places if place.layer is not None} - mtp
    held = max(layers, default=-1) + 1
    if layers and announced is not None and held != announced:
        beyond = sorted(layer for layer in layers if layer >= announced)
        what = f"config.json announces {announced} layers, the files hold {held}"
        evidence = {"announced": announced, "held": held, "beyond": len(beyond)}
        yield Finding(ERROR, CONFIG, what, _CONTRADICTION, evidence, beyond[0] if beyond else None)
    routed = _layers_with(ROUTER, places) - mtp
    dense = _whole(published.get("first_k_dense_replace"))
    if routed and dense is not None and min(routed) != dense:
        what = f"config.json says that the first {dense} layers are dense; the first router is in L{min(routed)}"
        yield Finding(ERROR, CONFIG, what, _CONTRADICTION, {"stated": dense, "held": min(routed)}, min(routed))
    yield from _experts(published, places)
    indexed = sum(".indexer." in place.part for place in places)
    if indexed and published.get("model_type") not in SPARSE_TYPES:
        what = f"config.json says {published.get('model_type')}, the files hold {indexed:,} tensors of indexers"
        meaning = "The model was trained with sparse attention; without it, long prompts give other results."
        yield Finding(WARNING, CONFIG, what, meaning, {"tensors": indexed})


def _layers_with(part: str, places: list[Place]) -> set[int]:
    return {place.layer for place in places if place.part == part and place.layer is not None}


def _experts(published: Mapping[str, Any], places: list[Place]) -> Iterator[Finding]:
    """Yield findings on expert numbers beyond the stated number of experts, and on biases that V2 does not have."""
    stated = _whole(published.get("n_routed_experts"))
    by_layer: dict[int, set[int]] = collections.defaultdict(set)
    for place in places:
        if place.layer is not None and place.expert is not None:
            by_layer[place.layer].add(place.expert)
    for layer, experts in sorted(by_layer.items()):
        if stated is not None and max(experts) >= stated:
            held = max(experts) + 1
            what = f"L{layer} holds {held} experts, config.json states n_routed_experts {stated}"
            yield Finding(ERROR, CONFIG, what, _CONTRADICTION, {"stated": stated, "held": held}, layer)
            return
    biased = _layers_with(ROUTER_BIAS, places)
    if published.get("model_type") == "deepseek_v2" and biased:
        what = "config.json says deepseek_v2, whose router has no bias, the files hold one"
        yield Finding(ERROR, CONFIG, what, _CONTRADICTION, {"layers with a bias": len(biased)}, min(biased))


def _head(published: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> Iterator[Finding]:
    tied = bool(published.get("tie_word_embeddings"))
    if not tied and HEAD not in stored and EMBEDDING in stored:
        what = "config.json says that embedding and head are two matrices, the files hold one"
        meaning = "The key tie_word_embeddings is wrong, or the head was left out of the files."
        yield Finding(ERROR, CONFIG, what, meaning, {"tie_word_embeddings": "false"}, tensor=HEAD)


def check_tied(published: Mapping[str, Any], embedding: bytes | None, head: bytes | None) -> Iterator[Finding]:
    """Yield a finding if the files hold a head although the configuration ties the head to the embedding.

    Args:
        published: the object in config.json.
        embedding: checksum of the embedding; None if the files hold no embedding.
        head: checksum of the head; None if the files hold no head.
    """
    if not published.get("tie_word_embeddings") or embedding is None or head is None:
        return
    same = embedding == head
    what = f"config.json ties the head to the embedding, the files hold {'a copy' if same else 'another head'}"
    meaning = (
        "The copy is not used." if same else "Loaders that trust the key predict with the embedding, not with the head."
    )
    evidence = {"equal to the byte": "yes" if same else "no"}
    yield Finding(NOTE if same else ERROR, CONFIG, what, meaning, evidence, tensor=HEAD)


def _groups(published: Mapping[str, Any]) -> Iterator[Finding]:
    groups, kept = _whole(published.get("n_group")), _whole(published.get("topk_group"))
    experts, top_k = _whole(published.get("n_routed_experts")), _whole(published.get("num_experts_per_tok"))
    if not groups or not experts:
        return
    if experts % groups:
        what = f"config.json states n_group {groups}, which does not divide {experts} experts"
        yield Finding(ERROR, CONFIG, what, _CONTRADICTION, {"n_group": groups, "n_routed_experts": experts})
    elif kept and top_k and (kept > groups or top_k > kept * (experts // groups)):
        what = f"config.json keeps {kept} of {groups} groups, too few experts for num_experts_per_tok {top_k}"
        evidence = {"topk_group": kept, "n_group": groups, "num_experts_per_tok": top_k}
        yield Finding(ERROR, CONFIG, what, _CONTRADICTION, evidence)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(value: Any) -> int | float | str:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:80]
