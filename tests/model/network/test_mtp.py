"""The multi-token-prediction module: against transformers' own, its cache, its inputs, and what a checkpoint holds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_layers import MtpModel

from model.checkpoint.names import mtp_copies, mtp_slots
from model.checkpoint.weights import inspect, load_model, save_model
from model.network.cache import LatentCache
from model.network.transformer import Transformer
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config
from tests.parity import example_ids, make_reference, randomise, save_reference

CPU = torch.device("cpu")
SPARSE = {"model_type": "deepseek_v32", "index_heads": 16, "index_head_dim": 16, "index_topk": 9}


def published(module: MtpModel, layer: int) -> dict[str, Tensor]:
    """The tensors of transformers' module under the names of a released checkpoint."""
    tensors = {}
    for name, tensor in module.layers[0].state_dict().items():
        name = name.replace("mtp_block.", "").replace("post_norm.", "shared_head.norm.")
        tensors[f"model.layers.{layer}.{name}"] = tensor.clone()
    experts = f"model.layers.{layer}.mlp.experts"
    gate_up, down = tensors.pop(f"{experts}.gate_up_proj"), tensors.pop(f"{experts}.down_proj")
    for expert, (gate, up) in enumerate(g.chunk(2) for g in gate_up):
        parts = {"gate_proj": gate, "up_proj": up, "down_proj": down[expert]}
        tensors |= {f"{experts}.{expert}.{name}.weight": part.clone() for name, part in parts.items()}
    return tensors


@pytest.mark.parametrize("variant", ["plain", "yarn", "tied head", "attention bias"])
@torch.no_grad()
def test_agrees_with_transformers(variant: str, tmp_path: Path) -> None:
    reference, ids = make_reference(variant), example_ids()
    module = MtpModel(reference, 1).eval()
    generator = torch.Generator().manual_seed(3)
    for name, tensor in [*module.layers[0].named_parameters(), *module.layers[0].named_buffers()]:
        randomise(name, tensor, generator)
    states = reference.model(ids).last_hidden_state[:, :-1]  # after the final norm
    positions = torch.arange(1, ids.shape[1])[None]
    expected = reference.lm_head(module.forward_layer(0, states, positions, None, input_ids=ids[:, 1:]))

    save_reference(reference, tmp_path, variant)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | published(module, reference.config.num_hidden_layers), tmp_path / "model.safetensors")
    ours = load_model(tmp_path, "cpu", torch.float32)
    assert ours.mtp is not None
    drafted = ours.draft_logits(ours.hidden(ids)[:, :-1], ids[:, 1:])
    assert float(expected.abs().max()) > 1
    assert relative_error(drafted, expected) <= 2 * ROUNDING


@pytest.mark.parametrize("changes", [{}, SPARSE, {"tie_embeddings": True}])
@torch.no_grad()
def test_token_by_token_is_all_at_once(changes: dict[str, object]) -> None:
    model, ids = random_model(tiny_config(has_mtp=True, **changes)), torch.arange(3, 29)[None] * 11 % 320
    states, following = model.hidden(ids)[:, :-1], ids[:, 1:]
    at_once = model.draft_logits(states, following)
    cache = LatentCache(model.config, 25, CPU, torch.float32, layers=(model.config.num_layers,))
    pieces = [slice(0, 9), slice(9, 10), slice(10, 12), *(slice(i, i + 1) for i in range(12, 25))]
    stepped = [model.draft_logits(states[:, piece], following[:, piece], cache) for piece in pieces]
    assert cache.length == 25
    assert relative_error(torch.cat(stepped, 1), at_once) <= ROUNDING


@torch.no_grad()
def test_hidden_state_before_and_after_the_final_norm_differ_unless_the_norm_is_constant() -> None:
    """The norm that follows removes a common scale of the state, but not a different scale of each channel."""
    normed, raw = (
        random_model(tiny_config(has_mtp=True, mtp_reads_normed=flag, norm_eps=1e-12)) for flag in (True, False)
    )
    ids = torch.arange(5, 25)[None]

    def drafts(model: Transformer) -> Tensor:
        return model.draft_logits(model.hidden(ids)[:, :-1], ids[:, 1:])

    assert not torch.allclose(drafts(normed), drafts(raw), atol=1e-2)
    for model in (normed, raw):
        model.norm.weight.fill_(1.3)
    assert relative_error(drafts(normed), drafts(raw)) <= ROUNDING


@torch.no_grad()
def test_embedding_comes_first() -> None:
    model, ids = random_model(tiny_config(has_mtp=True)), torch.arange(5, 25)[None]
    assert model.mtp is not None
    states, width = model.hidden(ids)[:, :-1], model.config.hidden_size
    before = model.draft_logits(states, ids[:, 1:])
    model.mtp.join.weight[:, width:] = 0  # no hidden state
    assert torch.equal(model.draft_logits(states, ids[:, 1:]), model.draft_logits(0 * states, ids[:, 1:]))
    assert not torch.equal(model.draft_logits(states, ids[:, 1:]), before)


@torch.no_grad()
def test_module_changes_nothing_of_the_model() -> None:
    config, ids = tiny_config(has_mtp=True), torch.arange(5, 25)[None]
    model, plain = random_model(config), Transformer(tiny_config()).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(model(ids), plain(ids))
    assert len(model.routers()) == len(model.experts()) == len(config.moe_layers) == 4


@pytest.fixture(params=[{}, SPARSE], ids=["V3", "V3.2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_model(random_model(tiny_config(has_mtp=True, **request.param)), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def change(folder: Path, **changes: Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    for key, tensor in changes.items():
        name = f"model.layers.5.{key.replace('__', '.')}"
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")


@torch.no_grad()
def test_folder_gives_back_the_module_and_ignores_the_copies(folder: Path) -> None:
    first, ids = load_model(folder, "cpu", torch.float32), torch.arange(5, 25)[None]
    before = first.draft_logits(first.hidden(ids)[:, :-1], ids[:, 1:])
    copies = [name.removeprefix("model.layers.5.") for name in mtp_copies(first.config)]
    change(folder, **{name.replace(".", "__"): torch.zeros(320, 48) for name in copies})
    manifest = inspect(folder)
    assert manifest.config.has_mtp
    assert not manifest.surplus
    assert len(manifest.mtp) == len(list(mtp_slots(manifest.config))) + 2
    again = load_model(folder, "cpu", torch.float32)
    assert torch.equal(again.draft_logits(again.hidden(ids)[:, :-1], ids[:, 1:]), before)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"enorm__weight": None}, "tensor model.layers.5.enorm.weight is missing"),
        ({"eh_proj__weight": torch.zeros(96, 48)}, "eh_proj.weight has shape [96, 48]"),
        ({"hnorm__weight": torch.zeros(48, dtype=torch.int64)}, "hnorm.weight is stored as I64"),
    ],
)
def test_module_that_cannot_be_used_is_skipped_with_its_reason(
    folder: Path, changes: dict[str, Tensor | None], problem: str
) -> None:
    change(folder, **changes)
    manifest = inspect(folder)
    assert problem in manifest.mtp_problem
    assert not manifest.problems
    assert load_model(folder, "cpu", torch.float32).mtp is None


def test_announced_module_that_is_not_there_is_none(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in tensors.items() if ".layers.5." not in name}, folder / "model.safetensors")
    manifest = inspect(folder)
    assert manifest.published["num_nextn_predict_layers"] == 1
    assert (manifest.config.has_mtp, manifest.mtp, manifest.mtp_problem) == (False, (), "")


@torch.no_grad()
def test_module_in_block_fp8_keeps_its_joining_matrix(folder: Path) -> None:
    model = load_model(folder, "cpu", torch.float32)
    save_model(model, folder, torch.float32, fp8_scales=torch.float32)
    stored = inspect(folder).stored
    assert stored["model.layers.5.eh_proj.weight"].dtype == "F32"
    assert stored["model.layers.5.mlp.experts.3.up_proj.weight"].dtype == "F8_E4M3"
    again = load_model(folder, "cpu", torch.float32)
    assert again.mtp is not None
    assert model.mtp is not None
    assert torch.equal(again.mtp.join.weight, model.mtp.join.weight)
    torch.testing.assert_close(again.mtp.block.ffn.experts.down, model.mtp.block.ffn.experts.down, atol=0.05, rtol=0.1)
