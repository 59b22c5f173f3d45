"""Reads the configuration of a model folder for transformers, without trusting it.

transformers never reads the folder itself: this project reads `config.json` and the headers, removes the keys that name
code, kernels or other files, and hands over a configuration object and tensors. No request leaves the machine.
"""

import dataclasses
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig

from model.checkpoint.files import CONFIG_NAME, ModelFolder
from model.checkpoint.header import CheckpointError, first_line
from model.checkpoint.layouts import ADAPTER_CONFIG
from model.trace.shape import MOST_LAYERS

# Keys of config.json that would make transformers fetch or run code, read another file, or change the arithmetic.
_REMOVED = ("auto_map", "transformers_weights", "kernel_config", "use_kernels", "fusion_config", "distributed_config")
_PLAIN_KERNELS = (None, "eager", "sdpa")
# quant_method -> the package that decodes it on this machine; None: transformers itself does.
QUANTISED = {"fp8": None, "mxfp4": None, "compressed-tensors": "compressed_tensors", "bitsandbytes": "bitsandbytes"}
DECODED = ("fp8", "mxfp4")  # kept quantised only where a kernel of a hub is at hand, so always decoded here


_QUANTISATION_KEYS = ("quantization_config", "compression_config")
# Keys for the number of layers: of language models, and of towers for images and sound.
_LAYER_KEYS = (
    *("num_hidden_layers", "num_layers", "n_layers", "n_layer", "depth", "depths"),
    *("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers", "num_nextn_predict_layers"),
)
_LAYER_LISTS = ("layer_types", "layers_block_type", "mlp_layer_types", "hybrid_override_pattern")


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What a folder's `config.json` states, checked, and the class of transformers that runs it."""

    config: Mapping[str, Any]  # as published
    model_class: Any
    settings: PretrainedConfig  # of `model_class`; without the keys in `_REMOVED`
    quant_method: str | None
    dtype: torch.dtype  # of the weights as published; the dtype to decode to, if they are quantised
    notes: tuple[str, ...]  # what a user may not expect, one line each


def work_offline() -> None:
    """Forbid transformers requests, progress bars, notices, warnings, and loading by several threads, in this process.

    Loading by several threads reads all files ahead of their use, so that the weights are in memory twice.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DEACTIVATE_ASYNC_LOAD": "1"}
    vars(sys.modules["huggingface_hub.constants"])["HF_HUB_OFFLINE"] = True  # read from the environment only once
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"transformers(\.|$)")  # folder.py refuses or notes what they are about


work_offline()


def read_published(folder: ModelFolder) -> Published:
    """Return the checked configuration of an opened folder.

    Raises:
        CheckpointError: transformers has no model for it, it needs code of its own, or it is quantised in a form that
            this machine does not decode.
    """
    path, config = folder.path / CONFIG_NAME, folder.config
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointError(f"{path}: {_unknown(config)}")
    _check_layers(path, config, CONFIG_MAPPING[model_type])
    quant_method = _quant_method(path, config)
    settings = _settings(path, _cleaned(path, config, quant_method), CONFIG_MAPPING[model_type])
    if quant_method is None and isinstance(added := getattr(settings, "quantization_config", None), dict):
        quant_method = _quant_method(path, {"quantization_config": added})  # by the class, as for Inkling 2
        settings = _settings(
            path, _cleaned(path, {**config, "quantization_config": added}, quant_method), type(settings)
        )
    model_class = _class_of(path, config, type(settings))
    notes = [*_notes(folder, config, quant_method)]
    if model_class.config_class is not type(settings):
        settings = settings.get_text_config()
    elif settings.get_text_config() is not settings:
        text = settings.get_text_config().model_type
        notes.append(
            f"{model_type} wraps the language model {text}; a run uses that model alone, without images or sound"
        )
    return Published(config, model_class, settings, quant_method, _dtype(folder, settings), tuple(notes))


def _unknown(config: Mapping[str, Any]) -> str:
    """Return why transformers has no model for a configuration, and what to do, in one line."""
    model_type, version = config.get("model_type"), transformers.__version__
    if not isinstance(model_type, str) or not model_type:
        return "model_type is missing, so the family is not known; add it, or take the folder that transformers wrote"
    if config.get("auto_map"):
        return (
            f"{model_type!r} needs Python code from its folder (auto_map), and such code is never run; take a "
            "checkpoint that transformers runs without it"
        )
    written = config.get("transformers_version")
    by = f" (the file was written by {written!s:.20})" if written else ""
    return (
        f"transformers {version} does not know model_type {model_type!r:.80}{by}; "
        "a newer version may: pip install -U transformers"
    )


def _check_layers(path: Path, config: Mapping[str, Any], settings_class: Any) -> None:
    """Check the number of layers of a model and of its towers before their lists are built.

    Raises:
        CheckpointError: it is above `MOST_LAYERS`.
    """
    own_key = getattr(settings_class, "attribute_map", {}).get("num_hidden_layers")
    for part in _parts(config):
        for key in {*_LAYER_KEYS, *_LAYER_LISTS, own_key} & part.keys():
            value = part[key]
            number = len(value) if isinstance(value, list | str) else value
            if isinstance(number, int | float) and number > MOST_LAYERS:
                raise CheckpointError(f"{path}: {key} means {number:,} layers; at most {MOST_LAYERS:,} are built")


def _class_of(path: Path, config: Mapping[str, Any], settings_class: Any) -> Any:
    """Return the class of transformers for a configuration: the one that it names, else the widest that fits."""
    causal: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    others: list[Any] = [
        transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        transformers.MODEL_FOR_MULTIMODAL_LM_MAPPING,
    ]
    wraps = "text_config" in settings_class.sub_configs
    mappings = [*others, causal] if wraps else [causal, *others]
    classes = [mapping[settings_class] for mapping in mappings if settings_class in mapping]
    named = config.get("architectures")
    for candidate in classes:
        if isinstance(named, list) and candidate.__name__ in named:
            return candidate
    if not classes:
        raise CheckpointError(f"{path}: transformers has no model of {config['model_type']!r} that generates text")
    return classes[0]


def _settings(path: Path, config: dict[str, Any], settings_class: type[PretrainedConfig]) -> PretrainedConfig:
    try:
        return settings_class.from_dict(config)
    except Exception as error:  # the classes validate with errors of several kinds
        cause = first_line(error.__cause__ or error)
        raise CheckpointError(f"{path} is not a configuration of {config['model_type']!r}: {cause}") from None


def _cleaned(path: Path, config: Mapping[str, Any], quant_method: str | None) -> dict[str, Any]:
    """Return a configuration without kernels, code and other files; FP8 and MXFP4 are marked to be decoded."""
    cleaned = _without(path, config)
    for part in _parts(cleaned):
        stated = part.get("quantization_config")
        if quant_method in DECODED and isinstance(stated, dict):
            stated["dequantize"] = True
    return cleaned


def _without(path: Path, value: Any) -> Any:
    if isinstance(value, list):
        return [_without(path, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"__float__"}:  # as transformers writes infinity
        try:
            return float(value["__float__"])
        except (TypeError, ValueError, OverflowError):
            stated = value["__float__"]
            raise CheckpointError(f"{path}: __float__ states {stated!r:.40}, which is not a number") from None
    return {
        key: _without(path, inner) for key, inner in value.items() if key not in _REMOVED and not _names_kernel(key)
    }


def _names_kernel(key: str) -> bool:
    return key.removesuffix("_internal").endswith("_implementation")


def _kernels(value: Any) -> Iterator[str]:
    """Yield the kernels that a configuration names at any depth."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _kernels(item)
    if isinstance(value, Mapping):
        named = [value[key] for key in value if _names_kernel(key)]
        yield from (str(kernel) for kernel in named if not isinstance(kernel, Mapping) and kernel not in _PLAIN_KERNELS)


def _parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and every configuration within it, at any depth."""
    if isinstance(config, Mapping):
        yield config
        for name, inner in config.items():
            if name not in _QUANTISATION_KEYS:
                yield from _parts(inner)


def _quant_method(path: Path, config: Mapping[str, Any]) -> str | None:
    """Return the quantisation that a configuration states; None if it states none."""
    parts = _parts(config)
    stated = next((part[key] for part in parts for key in _QUANTISATION_KEYS if part.get(key)), None)
    if stated is None:
        return None
    method = stated.get("quant_method") if isinstance(stated, Mapping) else None
    instead = f"take the checkpoint in bfloat16, or convert it to one of {', '.join(QUANTISED)}"
    if not isinstance(method, str) or method not in QUANTISED:
        raise CheckpointError(f"{path}: weights with quant_method {method!r:.40} are not read; {instead}")
    package = QUANTISED[method]
    if package and importlib.util.find_spec(package) is None:
        raise CheckpointError(f"{path}: quant_method {method!r} needs a package: pip install {method}; or {instead}")
    return method


def _dtype(folder: ModelFolder, settings: PretrainedConfig) -> torch.dtype:
    """Return the dtype that a configuration states, else the dtype of most stored bytes."""
    for place in (settings, settings.get_text_config()):
        stated = getattr(place, "dtype", None)
        if isinstance(stated, str):
            stated = getattr(torch, stated, None)
        if isinstance(stated, torch.dtype) and stated.is_floating_point and stated.itemsize > 1:
            return stated
    sizes = {"F32": 0, "F16": 0, "BF16": 0}
    for tensor in folder.tensors.values():
        if tensor.dtype in sizes:
            sizes[tensor.dtype] += tensor.num_bytes
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return dtypes[max(sizes, key=lambda name: sizes[name])]


def _notes(folder: ModelFolder, config: Mapping[str, Any], quant_method: str | None) -> Iterator[str]:
    if kernels := sorted(set(_kernels(config))):
        yield f"{CONFIG_NAME} names the kernel {kernels[0]!r:.80}, which is not loaded; PyTorch's own is used"
    if config.get("auto_map"):
        yield "the folder brings Python code (auto_map), which is not run; the class of transformers is used"
    if quant_method:
        yield f"weights are stored as {quant_method} and decoded on loading"
    if (folder.path / ADAPTER_CONFIG).exists():
        yield "the adapter beside the weights is not applied; merge it (merge_and_unload of peft) to see its effect"
