"""Tiny random models of every mixture-of-experts family that transformers builds, and folders of them.

Each model has four layers, eight experts and a vocabulary of 257, and every saved tensor is random. `SIZES` holds the
sizes by configuration key, whatever the family; `SPECIAL` holds what one family needs beyond them.
"""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from model.checkpoint.fp8 import quantise
from model.families.blocks import Seam
from model.families.seam import instrument
from model.families.tape import Tape

VOCAB, LAYERS, EXPERTS, TOP_K, WIDTH = 257, 4, 8, 3, 64

# Size -> the configuration keys that mean it.
_KEYS = {
    VOCAB: "vocab_size vocab_size_per_layer_input",
    512: "max_position_embeddings",
    96: "intermediate_size dense_intermediate_size intermediate_size_mlp",
    WIDTH: "hidden_size",
    32: "moe_intermediate_size share_expert_dim shared_intermediate_size shared_expert_intermediate_size "
    "shared_experts_intermediate_size moe_shared_expert_intermediate_size kv_lora_rank",
    24: "q_lora_rank",
    16: "head_dim v_head_dim index_head_dim linear_head_dim linear_key_head_dim linear_value_head_dim mamba_head_dim "
    "mamba_d_head o_lora_rank chunk_size hidden_size_per_layer_input",
    EXPERTS: "n_routed_experts num_experts num_local_experts moe_num_experts qk_rope_head_dim qk_nope_head_dim "
    "index_topk sliding_window mamba_d_state mamba_dt_rank mamba_n_heads mamba_num_heads ssm_state_size hc_lowrank",
    4: "num_hidden_layers num_attention_heads index_n_heads linear_num_heads linear_num_value_heads gated_norm_rank",
    TOP_K: "num_experts_per_tok num_experts_per_token top_k_experts moe_top_k moe_topk moe_k",
    2: "eos_token_id num_key_value_heads linear_num_key_heads n_group num_expert_group n_groups o_groups",
    1: "bos_token_id topk_group n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace "
    "num_dense_layers moe_layer_start_index decoder_sparse_step mamba_n_groups",
    1.7: "routed_scaling_factor route_scale router_scaling_factor moe_routed_scaling_factor moe_router_scaling_factor",
    0: "pad_token_id num_nextn_predict_layers",
}
SIZES = {key: size for size, keys in _KEYS.items() for key in keys.split()}

# Sizes of the towers of images and sound, which these tests never run.
_TOWER_KEYS = {
    1: "depth num_hidden_layers encoder_layers",
    2: "num_heads num_attention_heads num_key_value_heads encoder_attention_heads",
    4: "pos_emb_height pos_emb_width",
    8: "downsample_hidden_size",
    16: "head_dim num_position_embeddings output_channels",
    32: "hidden_size intermediate_size d_model encoder_ffn_dim mlp_dim adapter_in_dim adapter_input_size "
    "vision_output_dim projector_input_dim projector_output_dim",
    WIDTH: "image_size output_dim out_hidden_size text_hidden_size adapter_out_dim",
    VOCAB: "vocab_size",
}
TOWER_SIZES: dict[str, Any] = {key: size for size, keys in _TOWER_KEYS.items() for key in keys.split()} | {
    "deepstack_visual_indexes": [0], "global_attn_indexes": [0], "downsample_channels": [16, 32], "layer_types": None,
    "patch_sizes": [4], "hidden_sizes": [32], "depths": [1], "mlp_layer_types": ["dense"],
}  # fmt: skip


def _turns(first: str, second: str) -> dict[str, list[str]]:
    """Two kinds of attention, layer by layer in turn."""
    return {"layer_types": [first, second] * (LAYERS // 2)}


FIRST_DENSE = {"mlp_layer_types": ["dense", *["sparse"] * (LAYERS - 1)]}
EQUAL_HEADS = {"num_key_value_heads": 4}
LATENT = EQUAL_HEADS | {"head_dim": 8}  # configurations with latent attention give the rotary width here
LINEAR_FULL, FULL_LINEAR = _turns("linear_attention", "full_attention"), _turns("full_attention", "linear_attention")
WINDOW_FULL, FULL_WINDOW = _turns("sliding_attention", "full_attention"), _turns("full_attention", "sliding_attention")
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
INKLING = _turns("hybrid_sliding", "hybrid") | {
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "sliding_window_size": 8,
    "d_rel": 4, "rel_extent": 16,
}  # fmt: skip

SPECIAL: dict[str, dict[str, Any]] = {
    "afmoe": {}, "aria_text": {}, "axk1": LATENT,
    "axk2": LATENT | {"n_group": None, "topk_group": None},
    "bailing_hybrid": LATENT | LINEAR_FULL,
    "beam": WINDOW_FULL | FIRST_DENSE,
    "cohere2_moe": {},
    "dbrx": {
        "d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 512,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10_000.0},
        "ffn_config": {"hidden_size": WIDTH, "ffn_hidden_size": 48, "moe_num_experts": EXPERTS, "moe_top_k": TOP_K},
    },
    "deepseek_ocr2": FIRST_DENSE,
    "deepseek_v2": EQUAL_HEADS | {"topk_method": "group_limited_greedy"},
    "deepseek_v3": LATENT,
    "deepseek_v32": LATENT,
    "deepseek_v4": {
        "num_key_value_heads": 1,
        "layer_types": ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention",
                        "sliding_attention"],
        "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
    "doge": {"is_moe": True, "num_experts": 16},
    "dots1": {},
    "dots3_note_text": LATENT | FIRST_DENSE | _turns("indexed_attention", "sliding_attention") | {
        "head_dim": 16, "per_layer_config": {}},
    "ernie4_5_moe": {},
    "ernie4_5_vl_moe": {"moe_intermediate_size": [32, 24], "rope_parameters": ROPE | {"mrope_section": [2, 2, 4]}},
    "exaone_moe": {}, "flex_olmo": {},
    "flint": FULL_WINDOW | {"mlp_only_layers": [0]},
    "gemma4_text": WINDOW_FULL | {
        "enable_moe_block": True, "per_layer_config": {"1": {"head_dim": 32}, "3": {"head_dim": 32}}},
    "glm4_moe": {},
    "glm4_moe_lite": EQUAL_HEADS,
    "glm4v_moe": {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}},
    "glm5_next": EQUAL_HEADS | FIRST_DENSE | _turns("linear_attention", "indexed_attention") | {
        "head_dim": 0, "qk_rope_head_dim": 0, "qk_nope_head_dim": 16, "index_kpool": 2,
        "indexer_types": ["full"] * LAYERS},
    "glm_moe_dsa": LATENT,
    "gpt_oss": WINDOW_FULL,
    "granitemoe": {},
    "granitemoe_swa": WINDOW_FULL,
    "granitemoehybrid": LINEAR_FULL | {"mamba_expand": 2},
    "granitemoeshared": {}, "hunyuan_v1_moe": {}, "hy_v3": {},
    "hy_v4": LATENT | {"head_dim": 16, "indexer_types": ["full", "shared"] * 2},
    "inkling_text": INKLING | FIRST_DENSE | {"n_shared_experts": 2, "unpadded_vocab_size": None},
    "inkling2_text": INKLING | {"unpadded_vocab_size": VOCAB, "n_layers_per_attn_res_block": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
              "use_mamba_kernels": False},
    "jetmoe": {"kv_channels": 16},
    "kimi_k25": LATENT,
    "kimi_linear": LATENT | LINEAR_FULL | FIRST_DENSE | {"q_lora_rank": None},
    "kolibri1": {},
    "laguna": WINDOW_FULL | {"num_attention_heads_per_layer": [4] * LAYERS, "moe_router_logit_softcapping": 5.0},
    "lfm2_moe": _turns("conv", "full_attention") | {"use_expert_bias": True},
    "llama4_text": {"attention_chunk_size": 8, "interleave_moe_layer_step": 1},
    "longcat_flash": LATENT | {"num_layers": 2, "ffn_hidden_size": 96, "expert_ffn_hidden_size": 32,
                               "zero_expert_num": 3},
    "mellum": {},
    "mimo_v2_flash": WINDOW_FULL | FIRST_DENSE | {"v_head_dim": 12},
    "minimax": LINEAR_FULL | {"block_size": 8, "sliding_window": None},
    "minimax_m2": {},
    "minimax_m3_vl_text": FIRST_DENSE | _turns("full_attention", "minimax_m3_sparse") | {
        "rotary_dim": 8, "index_block_size": 4, "index_topk_blocks": 2},
    "mistral4": EQUAL_HEADS,
    "mistral_large4": LATENT | {
        "layer_types": ["indexed_attention"] * LAYERS, "indexer_types": ["full"] * LAYERS,
        "no_rope_layers": [1, 1, 1, 0], "kv_source_layers": [0, 1, 2, 3]},
    "mixtral": {},
    "muse_spark": WINDOW_FULL | {
        "moe_hidden_size": 48, "layer_rope_theta": [1e4, 0, 1e4, 0], "mlp_layer_types": ["sparse"] * LAYERS},
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "moe"], "moe_latent_size": 40,
                   "use_mamba_kernels": False},
    "olmoe": {},
    "phimoe": {"num_experts_per_tok": 2, "router_jitter_noise": 0.1},
    "qwen2_moe": {},
    "qwen3_5_moe_text": LINEAR_FULL,
    "qwen3_moe": {"norm_topk_prob": True},
    "qwen3_next": LINEAR_FULL,
    "qwen3_omni_moe_thinker": {"sliding_window": None, "rope_parameters": ROPE | {"mrope_section": [4, 2, 2]}},
    "qwen3_vl_moe": {},
    "qwen4_exp_text": _turns("linear_attention", "indexed_attention") | {
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 8,
        "indexer_compress_ratio": 2, "ple_layer_ids": [], "hc_count": 2},
    "solar_open": {},
    "step3p7": FULL_WINDOW | FIRST_DENSE | {
        "num_sliding_attention_heads": 4, "query_pre_attn_scalar": 16,
        "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "unlimited_ocr": {},
    "zaya": {"router_hidden_size": 16, "layer_types": ["hybrid"] * LAYERS, "num_experts_per_tok": 1},
}  # fmt: skip
FAMILIES = tuple(SPECIAL)
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
# Model type of a multimodal configuration -> that of the language model in it. Folders on a hub state the first.
WRAPPERS = {
    "aria": "aria_text", "dots3_note": "dots3_note_text", "gemma4": "gemma4_text", "inkling_mm_model": "inkling_text",
    "inkling2": "inkling2_text", "llama4": "llama4_text", "minimax_m3_vl": "minimax_m3_vl_text",
    "qwen3_5_moe": "qwen3_5_moe_text", "qwen4_exp": "qwen4_exp_text",
}  # fmt: skip


def config_of(model_type: str, **changes: Any) -> PretrainedConfig:
    """Return the tiny configuration of a family; `changes` overrides keys of its text model."""
    config_class = CONFIG_MAPPING[model_type]
    special = SPECIAL[WRAPPERS.get(model_type, model_type)] | changes
    if "text_config" not in config_class.sub_configs:
        return config_class(**_sizes_for(config_class()) | special)
    default = config_class()
    parts: dict[str, Any] = {
        "text_config": _sizes_for(default.text_config) | special | {"model_type": default.text_config.model_type}
    }
    for name in config_class.sub_configs.keys() - {"text_config"}:
        if getattr(default, name, None) is not None:
            parts[name] = _tower_sizes(getattr(default, name))
    for name in ("projector_hidden_size", "projection_intermediate_size", "out_hidden_size"):
        if hasattr(default, name):
            parts[name] = WIDTH
    # Ids of image and sound tokens must lie in the small vocabulary.
    marks = [key for key in default.to_dict() if key.endswith(("token_id", "token_index"))]
    others = sorted(key for key in marks if not key.startswith(("bos", "eos", "pad")))
    return config_class(**parts | {key: 3 + place for place, key in enumerate(others)})


def _sizes_for(default: PretrainedConfig) -> dict[str, Any]:
    """Return the sizes whose keys the configuration has; of a key with two names, the configuration's own."""
    keys = set(default.to_dict()) | set(default.attribute_map)
    return {key: size for key, size in SIZES.items() if key in keys and default.attribute_map.get(key) not in SIZES}


def _tower_sizes(default: PretrainedConfig) -> dict[str, Any]:
    inner: dict[str, Any] = {
        name: _tower_sizes(getattr(default, name)) for name in default.sub_configs if hasattr(default, name)
    }
    if default.to_dict().get("per_layer_config"):
        inner["per_layer_config"] = {}
    return {key: size for key, size in TOWER_SIZES.items() if hasattr(default, key)} | inner


def build(model_type: str, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """Return a random model of a family in evaluation mode; `changes` overrides configuration keys."""
    torch.manual_seed(seed)
    config = config_of(model_type, **changes)
    autos = (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM)
    if model_type in WRAPPERS:  # a class for text alone would write a folder of the language model
        autos = autos[::-1]
    auto = next(auto for auto in autos if type(config) in auto._model_mapping)
    model = auto.from_config(config, dtype=dtype).eval()
    randomise(model)
    return model


@torch.no_grad()
def randomise(model: PreTrainedModel) -> None:
    """Draw every saved tensor anew: parameters and buffers."""
    for name, tensor in model.state_dict().items():
        _draw(name, tensor)


def _draw(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        if tensor.dim() == 2:  # the table of a hash layer: distinct experts for each token
            tensor.copy_(torch.rand(tensor.shape[0], EXPERTS).argsort(-1)[:, : tensor.shape[1]])
    elif tensor.dim() > 1:
        tensor.normal_(0, 0.3 if "gate." in name or "router" in name else 0.1)
    elif tensor.numel() > 1 and bool((tensor == 1).all()):
        tensor.uniform_(0.7, 1.3)
    elif "bias" in name and tensor.numel() in (EXPERTS, EXPERTS + 1, EXPERTS + 3):
        tensor.normal_(0, 0.02 if tensor.numel() == EXPERTS + 1 else 0.2)
    else:
        tensor.normal_(0, 0.1)


@functools.cache
def saved(model_type: str) -> Path:
    """Return the folder of a family's random model, written on the first call of this process by `save_pretrained`."""
    folder = _folders() / model_type
    build(model_type).save_pretrained(folder)
    return folder


@functools.cache
def saved_fp8(model_type: str) -> Path:
    """Return a copy of `saved` in FP8: projections with a scale per block, norms and the rest in bfloat16.

    Selection biases stay in float32, as DeepSeek publishes them.
    """
    folder = Path(shutil.copytree(saved(model_type), _folders() / f"{model_type}_fp8"))
    tensors: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith("proj.weight"):
            tensors[name], tensors[f"{name}_scale_inv"] = quantise(weight, torch.float32)
        else:
            tensors[name] = weight if name.endswith("bias") else weight.bfloat16()
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16", "quantization_config": FP8}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@functools.cache
def _folders() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="families-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Watched(NamedTuple):
    """A random model with the hooks of the seam."""

    model: PreTrainedModel
    seam: Seam

    def logits(self, token_ids: Sequence[int], tape: Tape | None = None) -> Tensor:
        """Return the logits [T, V] of one forward pass, recorded on the tape if there is one."""
        ids_BT, position_ids = torch.tensor([token_ids]), torch.arange(len(token_ids))[None]
        with torch.inference_mode(), nullcontext() if tape is None else tape.running():
            return self.model(input_ids=ids_BT, position_ids=position_ids, use_cache=False).logits[0]


@functools.cache
def watched(model_type: str) -> Watched:
    """Return a family's random model with hooks, made on the first call of this process; tests must not change it."""
    model = build(model_type)
    return Watched(model, instrument(model))
