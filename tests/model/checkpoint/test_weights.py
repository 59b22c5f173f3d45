"""Names, shapes and sizes of a checkpoint, and the way from a folder to a model and back."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model.checkpoint.header import CheckpointError
from model.checkpoint.names import slots
from model.checkpoint.weights import inspect, load_model, save_model, weights_sha256
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from tests.model.checkpoint.released import RELEASED_V3
from tests.models import random_model, tiny_config
from tests.parameters import count_parameters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(random_model(tiny_config()), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replaces tensors, or removes those given as None; a double underscore stands for a dot."""
    tensors = load_file(folder / "model.safetensors")
    for key, tensor in changes.items():
        name = key.replace("__", ".")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_released_model_has_the_published_number_of_parameters() -> None:
    config = ModelConfig.from_json(RELEASED_V3)
    assert count_parameters(config) == (671_026_419_200, 37_552_297_472)


def test_released_model_has_the_published_names_and_shapes() -> None:
    shapes = {slot.published: slot.shape for slot in slots(ModelConfig.from_json(RELEASED_V3))}
    attention = "model.layers.60.self_attn"
    assert shapes[f"{attention}.q_a_proj.weight"] == (1536, 7168)
    assert shapes[f"{attention}.q_b_proj.weight"] == (24576, 1536)
    assert shapes[f"{attention}.kv_a_proj_with_mqa.weight"] == (576, 7168)
    assert shapes[f"{attention}.kv_b_proj.weight"] == (32768, 512)
    assert shapes[f"{attention}.o_proj.weight"] == (7168, 16384)
    assert shapes["model.layers.2.mlp.down_proj.weight"] == (7168, 18432)
    assert shapes["model.layers.3.mlp.experts.255.up_proj.weight"] == (2048, 7168)
    assert shapes["model.layers.3.mlp.shared_experts.down_proj.weight"] == (7168, 2048)
    assert shapes["model.layers.3.mlp.gate.e_score_correction_bias"] == (256,)
    # 12 tensors in a dense layer, 9 + 2 + 256 * 3 + 3 in a MoE layer, embedding, norm and head beside them.
    assert len(shapes) == 3 * 12 + 58 * (9 + 2 + 256 * 3 + 3) + 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": True},
        {"q_lora_rank": None, "attention_bias": True},
        {"num_shared_experts": 0, "attention_bias": True},
        {"num_shared_experts": 2, "num_dense_layers": 0},
        {"num_dense_layers": 5},
    ],
)
def test_slots_cover_every_value_of_the_model_once(changes: dict[str, Any]) -> None:
    model = Transformer(tiny_config(**changes))
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    for slot in slots(model.config):
        part = slot.part_of(state[slot.parameter])
        assert part.shape == slot.shape
        part += 1
    assert all(bool((tensor == 1).all()) for tensor in state.values())
    assert count_parameters(model.config)[0] == sum(tensor.numel() for tensor in state.values())


@pytest.mark.parametrize("max_shard_bytes", [None, 20_000, 1])
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"q_lora_rank": None, "attention_bias": True}])
def test_saved_model_loads_bit_for_bit(tmp_path: Path, max_shard_bytes: int | None, changes: dict[str, Any]) -> None:
    model = random_model(tiny_config(**changes))
    save_model(model, tmp_path / "saved", torch.float32, max_shard_bytes)
    loaded = load_model(tmp_path / "saved", "cpu", torch.float32)
    assert loaded.config == model.config
    assert inspect(tmp_path / "saved").problems == ()
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    ids = torch.arange(7).view(1, -1)
    with torch.inference_mode():
        assert torch.equal(loaded(ids), model.eval()(ids))


def test_expert_bias_stays_fp32_in_file_and_model(tmp_path: Path) -> None:
    model = random_model(tiny_config())
    save_model(model, tmp_path / "saved", torch.bfloat16)
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert {str(tensor.dtype) for name, tensor in stored.items() if "correction_bias" not in name} == {"torch.bfloat16"}
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    loaded = load_model(tmp_path / "saved", "cpu", torch.bfloat16)
    assert loaded.embedding.weight.dtype == torch.bfloat16
    for name, bias in loaded.state_dict().items():
        if name.endswith("expert_bias"):
            assert torch.equal(bias, model.state_dict()[name])
            assert bias.dtype == torch.float32


def test_weights_sha256_changes_with_a_weight_and_not_with_the_configuration(folder: Path) -> None:
    before = weights_sha256(folder)
    change_config(folder, bos_token_id=3)
    assert weights_sha256(folder) == before
    change_tensors(folder, model__norm__weight=torch.ones(48))
    assert weights_sha256(folder) != before


def test_loaded_model_is_frozen_and_in_evaluation_mode(folder: Path) -> None:
    model = load_model(folder, "cpu", torch.float32)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_saving_again_replaces_the_other_layout(tmp_path: Path) -> None:
    save_model(random_model(tiny_config()), tmp_path / "saved", torch.float32, max_shard_bytes=20_000)
    other = random_model(tiny_config(hidden_size=16))
    save_model(other, tmp_path / "saved", torch.float32)
    assert load_model(tmp_path / "saved", "cpu", torch.float32).config == other.config
    save_model(random_model(tiny_config()), tmp_path / "saved", torch.float32, max_shard_bytes=20_000)
    assert load_model(tmp_path / "saved", "cpu", torch.float32).config == tiny_config()
    assert not list((tmp_path / "saved").glob(".*"))


def test_missing_tensor_is_named_as_published(folder: Path) -> None:
    change_tensors(folder, model__layers__1__mlp__experts__5__up_proj__weight=None)
    manifest = inspect(folder)
    assert manifest.missing == ("model.layers.1.mlp.experts.5.up_proj.weight",)
    with pytest.raises(CheckpointError, match=r"tensor model\.layers\.1\.mlp\.experts\.5\.up_proj\.weight is missing$"):
        load_model(folder, "cpu", torch.float32)


def test_missing_tensors_are_counted_on_one_line(folder: Path) -> None:
    change_tensors(folder, model__norm__weight=None, lm_head__weight=None)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is missing \(and 1 more problem\)"):
        load_model(folder, "cpu", torch.float32)


def test_misshapen_tensor_is_named_with_both_shapes(folder: Path) -> None:
    change_tensors(folder, model__layers__0__self_attn__kv_b_proj__weight=torch.zeros(16, 88))
    with pytest.raises(
        CheckpointError, match=r"kv_b_proj\.weight has shape \[16, 88\], the configuration asks for \[88"
    ):
        load_model(folder, "cpu", torch.float32)


def test_surplus_and_mtp_tensors_are_listed_and_skipped(folder: Path) -> None:
    before = load_model(folder, "cpu", torch.float32)
    change_tensors(
        folder,
        model__layers__5__eh_proj__weight=torch.zeros(2),
        model__layers__5__enorm__weight=torch.zeros(2),
        model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(1),
    )
    manifest = inspect(folder)
    assert manifest.mtp == ("model.layers.5.eh_proj.weight", "model.layers.5.enorm.weight")
    assert manifest.surplus == ("model.layers.0.self_attn.rotary_emb.inv_freq",)
    assert manifest.problems == ()
    after = load_model(folder, "cpu", torch.float32)
    assert torch.equal(before.norm.weight, after.norm.weight)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "llama"}, "model_type 'llama' is not supported"),
        ({"scoring_func": "softmax"}, "scoring_func 'softmax' is not supported"),
        ({"topk_method": "greedy"}, "topk_method 'greedy' is not supported"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"hidden_size": 1 << 40}, "the configuration asks for"),
        ({"num_hidden_layers": 1 << 40}, "is beyond any such model"),
        ({"n_routed_experts": 1 << 40}, "is beyond any such model"),
        ({"num_hidden_layers": 1000, "n_routed_experts": 10_000}, "1000 layers of 10000 experts are beyond any"),
        ({"routed_scaling_factor": "2.5"}, "routed_scaling_factor must be a number from 0 on, not '2.5'"),
        ({"rope_scaling": {"type": "yarn", "factor": "x", "original_max_position_embeddings": 4}}, "config.json"),
    ],
)
def test_unusable_configuration_is_one_line_and_allocates_nothing(
    folder: Path, changes: dict[str, Any], complaint: str
) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_model(folder, "cpu", torch.float32)
    assert "\n" not in str(caught.value)


@given(
    key=st.sampled_from(sorted(RELEASED_V3)),
    value=st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.integers(0, 3), max_size=2)
    | st.dictionaries(st.sampled_from(["type", "factor", "rope_type"]), st.integers() | st.just("yarn"), max_size=3),
)
def test_no_value_in_the_configuration_escapes_as_another_exception(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("fuzzed") / "model"
    save_model(random_model(tiny_config()), folder, torch.float32)
    change_config(folder, **{key: value})
    complaint = ""
    try:
        load_model(folder, "cpu", torch.float32)
    except CheckpointError as error:
        complaint = str(error)
    assert complaint.isprintable()


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ({"eos_token_id": 7}, "eos_token_id 1 in config.json and 7 in generation_config.json contradict"),
        ({"bos_token_id": 3}, "bos_token_id 0 in config.json and 3 in generation_config.json contradict"),
        ({"eos_token_id": [1, 7], "bos_token_id": 0, "pad_token_id": 9}, ""),
        ({"eos_token_id": None, "temperature": 0.6}, ""),
    ],
)
def test_generation_config_must_not_name_other_special_tokens(
    folder: Path, stated: dict[str, Any], complaint: str
) -> None:
    (folder / "generation_config.json").write_text(json.dumps(stated))
    if not complaint:
        assert (inspect(folder).config.bos_id, inspect(folder).config.eos_id) == (0, 1)
        return
    with pytest.raises(CheckpointError, match=complaint):
        inspect(folder)


def test_generation_config_states_the_end_where_the_configuration_does_not(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "eos_token_id"}))
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert inspect(folder).config.eos_id == 7


def test_truncated_weights_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* the file is truncated or damaged"):
        load_model(folder, "cpu", torch.float32)


def test_tensor_at_an_odd_byte_is_read_or_refused_clearly(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = whole[8 : 8 + length].rstrip() + b" "
    header += b" " * ((len(header) + 1) % 2)  # an odd length puts every tensor at an odd byte
    path.write_bytes(struct.pack("<Q", len(header)) + header + whole[8 + length :])
    model = load_model(folder, "cpu", torch.float32)
    assert torch.equal(model.norm.weight, random_model(tiny_config()).norm.weight)
