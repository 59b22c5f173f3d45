"""The lines in which `info` describes a model folder, from its configuration and headers."""

from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoint.beside import notes
from model.checkpoint.chat_template import template_file
from model.checkpoint.header import printable
from model.checkpoint.sizes import FP8, ModelSizes, model_sizes
from model.checkpoint.vocabulary import OTHER_FILES

if TYPE_CHECKING:
    from model.checkpoint.weights import Manifest

_LISTED_NAMES = 50
_LISTED_PROBLEMS = 5
INDENT = " " * 13


def folder_report(manifest: "Manifest", folder: Path) -> list[str]:
    """Return lines on shape, sizes, present and missing tensors, and supported and skipped parts of a folder."""
    sizes = model_sizes(manifest.config)
    return [
        *_describe_shape(manifest),
        *_describe_parameters(manifest, sizes),
        *_describe_files(manifest, sizes),
        *_describe_cache(sizes),
        *_describe_memory(manifest, sizes),
        f"tokenizer    {vocabulary(folder)}",
        *_describe_manifest(manifest),
        *_describe_support(manifest),
        *(f"note         {line}" for line in notes(manifest, folder)),
    ]


def _describe_shape(manifest: "Manifest") -> list[str]:
    config = manifest.config
    queries = "full" if config.q_lora_rank is None else f"rank {config.q_lora_rank}"
    context = f"{config.max_positions:,} tokens" + (f" (YaRN x{config.yarn.factor:g})" if config.yarn else "")
    experts = f"{config.num_experts} routed of width {config.expert_width} in {config.num_groups} groups"
    lines = [
        f"model        {config.model_type}, {config.num_layers} layers, the first {config.num_dense_layers} dense",
        f"width        {config.hidden_size}, vocabulary {config.vocab_size:,}, context {context}",
        f"attention    {config.num_heads} heads, queries {queries}, latent {config.kv_lora_rank}",
        f"experts      {experts}, {config.num_shared_experts} shared",
        f"router       top {config.top_k} of {config.num_kept_groups} kept groups, scale {config.routed_scale:g}",
    ]
    if config.is_sparse:
        shape = f"{config.index_heads} heads of width {config.index_head_dim} in {len(config.indexer_layers)} layers"
        lines.insert(3, f"indexer      {shape}, {config.index_topk:,} keys kept")
    return lines


def _describe_parameters(manifest: "Manifest", sizes: ModelSizes) -> list[str]:
    head = "the shared embedding and head" if manifest.config.tie_embeddings else "embedding and head"
    lines = [f"parameters   {sizes.total:,} in total, {sizes.active:,} active for a token, {head} counted"]
    for part in sizes.parts:
        share = f"{100 * part.parameters / sizes.total:.2f} %"
        active = "" if part.active == part.parameters else f", {part.active:,} active"
        lines.append(f"{INDENT}{part.name:<18} {part.parameters:>15,} {share:>8}{active}")
    if mtp := _mtp_parameters(manifest, sizes):
        lines.append(f"{INDENT}{'MTP':<18} {mtp:>15,} beside the total: multi-token prediction, copies included")
    return lines


def _mtp_parameters(manifest: "Manifest", sizes: ModelSizes) -> int:
    """Return the number of parameters of the multi-token-prediction layer.

    These are the stored parameters; in a folder without weights, the parameters that the configuration announces.
    """
    if manifest.has_weights:
        return manifest.num_mtp_parameters
    return sizes.mtp_parameters if manifest.config.has_mtp else 0


def _describe_files(manifest: "Manifest", sizes: ModelSizes) -> list[str]:
    forms = ", ".join(f"{size_text(size)} in {name}" for name, size in sizes.files.items() if name in ("bfloat16", FP8))
    if not manifest.has_weights:
        return [f"weights      none in this folder, only config.json; files would take {forms}"]
    stored = manifest.stored.values()
    num_bytes = sum(tensor.num_bytes for tensor in stored)
    dtypes = ", ".join(sorted({tensor.dtype for tensor in stored}))
    num_files = len({tensor.file for tensor in stored})
    files = f"{num_files:,} file{'s' if num_files > 1 else ''}"
    return [f"weights      {len(stored):,} tensors in {files}, {num_bytes:,} bytes, {dtypes}"]


def _describe_cache(sizes: ModelSizes) -> list[str]:
    half, full = sizes.cache["bfloat16"], sizes.cache["float32"]
    others = ", ".join(f"{name} {size:,}" for name, size in half.items() if name != "MLA")
    return [
        f"cache        {half['MLA']:,} bytes per token in bfloat16, {full['MLA']:,} in float32",
        f"{INDENT}other forms of attention with these heads, in bfloat16: {others}",
    ]


def _describe_memory(manifest: "Manifest", sizes: ModelSizes) -> list[str]:
    top_k, num_experts = manifest.config.top_k, manifest.config.num_experts
    lines = [f"memory       all weights loaded: {size_text(sizes.loaded['float32'])} in float32, "]
    lines[0] += f"{size_text(sizes.loaded['bfloat16'])} in bfloat16"
    for dtype, streamed in sizes.streamed.items():
        layer = f"largest layer {size_text(streamed.layer)}"
        if manifest.config.moe_layers:
            layer += f", with {top_k} experts {size_text(streamed.one_token)}"
            layer += f", with all {num_experts} {size_text(streamed.all_experts)}"
        lines.append(f"{INDENT}from disk in {dtype}: {layer}; head {size_text(streamed.head)}")
    return lines


def vocabulary(folder: Path) -> str:
    """Return which vocabulary of a folder is read, and which is not."""
    if (folder / "tokenizer.json").is_file():
        template = template_file(folder)
        return f"tokenizer.json, with a chat template in {template}" if template else "tokenizer.json"
    others = [name for name in OTHER_FILES if (folder / name).is_file()]
    unread = f"; {' and '.join(others)} is not read, convert it to tokenizer.json" if others else ""
    return f"none: token ids only{unread}"


def _describe_manifest(manifest: "Manifest") -> list[str]:
    """Return lines that say whether every tensor of the configuration is present, or name the first problems."""
    if not manifest.has_weights:
        return [f"manifest     {len(manifest.missing):,} tensors are needed, none are here"]
    num_needed = len(manifest.present) + len(manifest.missing)
    counts = {"missing": len(manifest.missing), "mis-shaped": len(manifest.misshapen)}
    counts |= {"unreadable": len(manifest.unsupported), "surplus": len(manifest.surplus)}
    if not manifest.problems:
        return [f"manifest     complete: {num_needed:,} tensors, {counts['surplus']:,} surplus"]
    text = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    lines = [f"manifest     incomplete: of {num_needed:,} tensors {text}"]
    if cause := manifest.cause:
        lines.append(f"{INDENT}{printable(cause)}")
    missing = tuple(f"tensor {name} is missing" for name in manifest.missing)
    for problems in (missing, manifest.misshapen, manifest.unsupported):
        lines += _first_ones(problems, _LISTED_PROBLEMS)
    return lines


def _describe_support(manifest: "Manifest") -> list[str]:
    indexer, drafts = "indexer, " if manifest.config.is_sparse else "", ", drafts" if manifest.config.has_mtp else ""
    verdict = f"yes; capture router, attention, {indexer}inputs, logits{drafts}; float32, bfloat16, float16"
    if not manifest.has_weights:
        verdict = "this configuration, yes; there are no weights to run"
    elif manifest.problems:
        verdict = "no"
    lines = [f"supported    {verdict}"]
    mtp_tensors = f"{len(manifest.mtp):,} tensors of layer {manifest.config.num_layers}, multi-token prediction"
    if manifest.mtp_problem:
        lines += [f"skipped      {mtp_tensors}:", INDENT + printable(manifest.mtp_problem)]
    elif manifest.mtp:
        lines.append(f"drafts       yes; by {mtp_tensors}")
    if manifest.surplus:
        lines.append(f"skipped      {len(manifest.surplus):,} tensors that the configuration does not account for:")
        lines += _first_ones(manifest.surplus, _LISTED_NAMES)
    return lines


def _first_ones(names: tuple[str, ...], number: int) -> list[str]:
    lines = [INDENT + printable(name) for name in names[:number]]
    return lines + ([f"{INDENT}and {len(names) - number:,} more"] if len(names) > number else [])


def size_text(num_bytes: int) -> str:
    """Return a number of bytes as text, with three digits and a decimal unit.

    >>> size_text(1_342_052_868_096)
    '1.34 TB'
    """
    value, units = float(num_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
