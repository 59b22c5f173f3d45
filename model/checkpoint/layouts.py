"""Messages on why a folder lacks tensors or files: an unsupported layout, names with a prefix, files not copied.

A list of missing tensors does not show the cause, because it is the same for every layout that this project does not
read. Each public function returns one line with the cause and a remedy, or an empty string.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from model.checkpoint.header import CheckpointError, StoredTensor, read_json

_SHARD = re.compile(r".+-(\d{5})-of-(\d{5})\.safetensors")
_PARALLEL = re.compile(r"model\d+-mp\d+\.safetensors")
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_FEWEST = 5  # fewest missing tensors for which a prefix is looked for
_CONVERT = "convert the checkpoint to the names that transformers writes"

# Pattern in a tensor's name -> the layout that has it, and what to do.
_OTHERS: dict[str, tuple[str, str]] = {
    r"\.base_layer\.": (
        "the weights were saved with an adapter of peft that is not merged",
        "merge it (merge_and_unload) and save again",
    ),
    r"\.switch_mlp\.": ("the experts of a layer are stacked in one tensor, as mlx-lm writes them", _CONVERT),
    r"\.experts\.w(13|2)_weight": ("the experts of a layer are stacked in one tensor, as vLLM keeps them", _CONVERT),
    r"\.fused_qkv_a_proj|\.(mlp|shared_experts|experts\.\d+)\.gate_up_proj": (
        "matrices are fused, as vLLM and SGLang keep them in memory",
        _CONVERT,
    ),
    r"linear_fc[12]|^decoder\.layers\.": ("the names are those of Megatron", _CONVERT),
    r"^tok_embeddings\.|\.attention\.wkv_": ("the names are those of torchtitan", _CONVERT),
    r"\.ffn\.experts\.\d+\.w\d|\.attn\.wkv_[ab]": (
        "the names are those of DeepSeek's own inference code",
        "take the checkpoint before its convert.py",
    ),
    r"^blk\.\d+\.": ("the names are those of llama.cpp", "take the checkpoint before its conversion to GGUF"),
    r"\.block_sparse_moe\.": ("the names are those of Mixtral", "such a model is not of this family"),
    r"\.(qweight|qzeros|weight_packed)$": (
        "the weights are packed integers of a quantised model",
        "take the original in bfloat16 or block FP8",
    ),
}


def likely_cause(stored: Mapping[str, StoredTensor], missing: Iterable[str]) -> str:
    """Return why tensors are missing, judged by the names of the stored tensors; empty if no known cause fits."""
    missing = list(missing)
    if not missing:
        return ""
    for name, tensor in stored.items():
        if len(tensor.shape) == 3 and ".experts." in name:
            said = f"the experts of a layer are stacked in one tensor ({name} of shape {list(tensor.shape)})"
            return f"{said}; save the model with save_pretrained of transformers, which writes one tensor per expert"
    for part, (whose, what_to_do) in _OTHERS.items():
        found = next((name for name in stored if re.search(part, name)), None)
        if found is not None:
            return f"{whose} ({found}); {what_to_do}"
    return _prefix(stored, missing) or _layers(stored, missing)


def _prefix(stored: Mapping[str, StoredTensor], missing: list[str]) -> str:
    """Return the message for names that are right except for a prefix; empty if that is not the cause."""
    inner = [name.removeprefix("model.") for name in missing if name.startswith("model.")]
    for candidate in (name for name in stored if inner and name.endswith(inner[0])):
        begin = candidate.removesuffix(inner[0])
        if len(inner) < _FEWEST or (begin and not begin.endswith(".")) or ".layers." in begin:
            continue
        if sum(begin + rest in stored for rest in inner) >= 0.9 * len(inner):
            if not begin:
                return f"the names lack their beginning, 'model.' ({candidate}); rename the tensors"
            return f"the names begin with {begin!r} where 'model.' is needed ({candidate}); rename the tensors"
    return ""


def _layers(stored: Mapping[str, StoredTensor], missing: list[str]) -> str:
    """Return the message for layers without any tensor, or for a folder without any tensor name of this family."""
    there, absent = ({_layer(name) for name in names} - {None} for names in (stored, missing))
    whole = sorted(layer for layer in absent - there if layer is not None)
    if not stored:
        return ""
    if not there:
        return f"no name is one of a model of this family (the first is {next(iter(stored))}); {_CONVERT}"
    if not whole or len({_layer(name) for name in missing}) > len(whole) + 1:
        return ""
    span = f"layer {whole[0]}" if len(whole) == 1 else f"{len(whole)} layers from {whole[0]} to {whole[-1]}"
    return f"nothing of {span} is here; config.json announces more layers than the files hold, or a file was not copied"


def _layer(name: str) -> int | None:
    found = re.search(r"layers\.(\d{1,9})\.", name)
    return int(found[1]) if found else None


def no_config(folder: Path) -> str:
    """Return a message on the contents of a folder without `config.json`, and a remedy; empty if no known case fits."""
    if (folder / ADAPTER_CONFIG).is_file():
        base = _base(folder)
        return f"it holds an adapter alone{base}; merge it into its base model and give the folder of the result"
    if (folder / "snapshots").is_dir():
        return "it is a repository in the hub's cache; give one of the folders in its snapshots"
    if found := _named(folder, ".gguf"):
        return f"{found} is a file of llama.cpp; give the folder of the model that it was converted from"
    return ""


def _base(folder: Path) -> str:
    try:
        base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    except (CheckpointError, OSError):
        return ""
    return f", of {base!r:.100}" if isinstance(base, str) else ""


def no_weights(folder: Path) -> str:
    """Return a message on a folder without weight files and index, and a remedy; empty if the cause is unknown."""
    names = sorted(path.name for path in folder.iterdir())
    shards = [found for found in map(_SHARD.fullmatch, names) if found]
    if shards:
        count, of = len(shards), int(shards[0][2])
        return f"{shards[0][0]} ({count} of {of} files) lies here without the index that names all; copy it, too"
    others = [name for name in names if name.endswith(".safetensors") and name != ADAPTER_WEIGHTS]
    if parallel := [name for name in others if _PARALLEL.fullmatch(name)]:
        whose = f"{parallel[0]} is one GPU's part of the model, as convert.py of DeepSeek's inference code writes it"
        return f"{whose}; take the checkpoint before that conversion"
    if others:
        return f"{others[0]} is not read under that name; rename a file that holds all tensors"
    if (folder / ADAPTER_WEIGHTS).is_file():
        return "an adapter alone cannot be run; merge it into its base model"
    if found := _named(folder, ".gguf"):
        return f"{found} is a file of llama.cpp, which is not read; take the model that it was converted from"
    return ""


def _named(folder: Path, suffix: str) -> str:
    return next((path.name for path in sorted(folder.iterdir()) if path.suffix == suffix), "")


def lost_shards(folder: Path, index: str, file_names: Iterable[str]) -> str:
    """Return a message on missing files that an index names, and a remedy; empty if no file is missing."""
    wanted = [name for name in file_names if not set(name) & set("/\\\0")]
    lost = [name for name in wanted if not (folder / name).is_symlink() and not (folder / name).exists()]
    if not lost:
        return ""
    first = json.dumps(lost[0], ensure_ascii=False)[1:-1]
    return f"lacks {first}: {len(lost)} of the {len(wanted)} files that {index} names are missing; copy them, too"
