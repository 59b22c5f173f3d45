"""The lines in which `info` describes a folder that transformers runs."""

import collections
from collections.abc import Iterable, Iterator
from pathlib import Path

import transformers

from model.cli.folder_report import INDENT, size_text, vocabulary
from model.families.facts import Facts, layers_text

_BYTES = {"bfloat16": 2, "float32": 4}


def family_report(facts: Facts, folder: Path) -> list[str]:
    """Return lines on shape, sizes, weights, and what a run records and does not record."""
    return [
        *_shape(facts),
        *_parameters(facts),
        _weights(facts),
        *_cache(facts),
        f"memory       all weights loaded: {_loaded(facts)}",
        f"tokenizer    {vocabulary(folder)}",
        f"engine       transformers {transformers.__version__}, {facts.model_class}",
        *_records(facts),
        *(f"note         {line}" for line in facts.notes),
    ]


def _shape(facts: Facts) -> Iterator[str]:
    wraps = f" with the language model {facts.text_type}" if facts.text_type != facts.model_type else ""
    moe = len(set(facts.block_layers))
    yield f"model        {facts.model_type}{wraps}, {facts.num_layers} layers, {moe} of them MoE layers"
    context = f"context {_number(facts.context)} tokens"
    yield f"width        {_number(facts.width)}, vocabulary {_number(facts.vocab_size)}, {context}"
    heads = f"{_number(facts.num_heads)} heads"
    if facts.num_kv_heads != facts.num_heads:
        heads += f", {_number(facts.num_kv_heads)} for keys and values"
    yield f"attention    {heads}; {_counted(facts.attention or (), 'kinds of layers not stated')}"
    idle = f", and {facts.num_idle:,} choices that compute nothing" if facts.num_idle else ""
    yield f"experts      {facts.num_experts:,} routed in each of {len(facts.blocks):,} blocks{idle}"
    kept = f", from {facts.groups[1]} kept of {facts.groups[0]} groups" if facts.groups else ""
    stated = f"; stated: {', '.join(facts.stated_rule)}" if facts.stated_rule else ""
    yield f"router       top {_number(facts.top_k)}{kept}{stated}; the first run finds its rule"


def _counted(names: Iterable[str], otherwise: str) -> str:
    """Return each name with its number of layers, in the order of their first occurrence."""
    counts = collections.Counter(names)
    return ", ".join(f"{name} in {layers_text(count)}" for name, count in counts.items()) or otherwise


def _parameters(facts: Facts) -> Iterator[str]:
    active = (
        "active ones not known"
        if facts.active_parameters is None
        else f"{facts.active_parameters:,} active for a token"
    )
    yield f"parameters   {facts.parameters:,} in total, {active}, embedding and head counted"


def _weights(facts: Facts) -> str:
    stored = facts.stored
    if stored is None:
        return f"weights      none in this folder, only config.json; files would take {size_text(facts.num_bytes)}"
    files = f"{stored.num_files:,} file{'s' if stored.num_files > 1 else ''}"
    dtypes = ", ".join([*stored.dtypes, *([facts.quant_method] if facts.quant_method else [])])
    return f"weights      {stored.num_tensors:,} tensors in {files}, {stored.num_bytes:,} bytes, {dtypes}"


def _cache(facts: Facts) -> Iterator[str]:
    cache = facts.cache
    if cache is None:
        yield "cache        not known: its layers keep more than keys and values of each token"
        return
    half, full = _BYTES["bfloat16"], _BYTES["float32"]
    yield f"cache        {cache.growing * half:,} bytes per token in bfloat16, {cache.growing * full:,} in float32"
    if cache.windowed:
        yield f"{INDENT}and {cache.windowed * half:,} in bfloat16 for each of the last {cache.window:,} tokens"


def _loaded(facts: Facts) -> str:
    sizes = {facts.dtype: facts.num_bytes} | {name: facts.parameters * size for name, size in _BYTES.items()}
    return ", ".join(f"{size_text(size)} in {name}" for name, size in sizes.items())


def _records(facts: Facts) -> Iterator[str]:
    verdict = "yes" if facts.stored is not None else "this configuration, yes; there are no weights to run"
    yield f"supported    {verdict}; capture {facts.recorded}; float32, bfloat16, float16"
    yield from (f"not captured {reason}" for reason in facts.unrecorded)


def _number(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"
