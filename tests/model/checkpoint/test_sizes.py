"""Sizes of released models equal the published ones exactly, and sizes of tiny models those of the real tensors."""

import functools
import math
from typing import Any

import pytest
import torch

from model.checkpoint.names import mtp_copies, mtp_slots, slots
from model.checkpoint.sizes import FP8, PARTS, ModelSizes, model_sizes
from model.checkpoint.weights import save_model, takes_fp8
from model.network.cache import LatentCache
from model.network.config import ModelConfig
from tests.model.checkpoint.released import RELEASED_V3, RELEASED_V32
from tests.models import random_model, tiny_config
from tests.parameters import count_parameters

V3, V32 = ModelConfig.from_json(RELEASED_V3), ModelConfig.from_json(RELEASED_V32)
SPARSE = dict(model_type="deepseek_v32", index_heads=3, index_head_dim=20, index_topk=8)


@functools.cache
def released_sizes(config: ModelConfig) -> ModelSizes:
    """Return the sizes, counted once for all tests: the released models have 91,991 tensors."""
    return model_sizes(config)


def num_scales(config: ModelConfig) -> int:
    """Return the number of block scales of the main model and of its multi-token-prediction layer."""

    def of(some: list[Any]) -> int:
        return sum(math.ceil(s.shape[0] / 128) * math.ceil(s.shape[1] / 128) for s in some if takes_fp8(s))

    return of([*slots(config), *mtp_slots(config)])


def num_tensors(config: ModelConfig) -> int:
    """Return the number of tensors in the released files: weights, FP8 scales, and copies of embedding and head."""
    every = [*slots(config), *mtp_slots(config)]
    return len(every) + sum(map(takes_fp8, every)) + len(mtp_copies(config))


def test_released_v3_has_the_published_number_of_parameters() -> None:
    sizes = released_sizes(V3)
    assert (sizes.total, sizes.active) == (671_026_419_200, 37_552_297_472)
    assert {part.name: part.parameters for part in sizes.parts} == {
        "embedding": 926_679_040,
        "attention": 61 * (1536 * 7168 + 24576 * 1536 + 576 * 7168 + 32768 * 512 + 7168 * 16384),
        "dense feed-forward": 3 * 3 * 18432 * 7168,
        "routers": 58 * (256 * 7168 + 256),
        "routed experts": 58 * 256 * 3 * 2048 * 7168,
        "shared experts": 58 * 3 * 2048 * 7168,
        "norms": 61 * (2 * 7168 + 1536 + 512) + 7168,
        "head": 926_679_040,
    }
    active = {part.name: part.active for part in sizes.parts if part.active != part.parameters}
    assert active == {"routed experts": 58 * 8 * 3 * 2048 * 7168}


def test_released_v3_has_the_published_size_on_disk() -> None:
    sizes = released_sizes(V3)
    assert sizes.total + sizes.mtp_parameters == 684_489_845_504
    assert sizes.total + sizes.mtp_parameters + num_scales(V3) == 684_531_386_000
    assert sizes.files[FP8] + sizes.mtp_files[FP8] == 688_574_839_360
    biases = 58 * 256  # fp32 in every file
    assert sizes.files["bfloat16"] == 2 * sizes.total + 2 * biases
    assert num_tensors(V3) == 91_991
    assert sizes.files["float32"] == 4 * sizes.total
    assert sizes.loaded["float32"] == 4 * (sizes.total + 11_610_068_224)  # its prediction layer is loaded, too


def test_released_v32_has_an_indexer_in_every_layer() -> None:
    sizes = released_sizes(V32)
    indexer = 8192 * 1536 + 128 * 7168 + 2 * 128 + 64 * 7168
    assert sizes.total - released_sizes(V3).total == 61 * indexer
    assert next(part.parameters for part in sizes.parts if part.name == "indexer") == 61 * indexer
    assert sizes.total + sizes.mtp_parameters + num_scales(V32) == 685_396_921_376
    assert num_tensors(V32) == 92_425


def test_cache_of_the_released_models() -> None:
    assert released_sizes(V3).cache["bfloat16"]["MLA"] == 70_272
    assert released_sizes(V3).cache["float32"]["MLA"] == 2 * 70_272
    assert (
        released_sizes(V32).cache["bfloat16"]["MLA"] == 70_272 + 15_616
    )  # an index key of 128 values more in each layer


def test_streaming_the_released_model_needs_one_layer_and_its_experts() -> None:
    streamed = released_sizes(V3).streamed["bfloat16"]
    attention = 1536 * 7168 + 24576 * 1536 + 576 * 7168 + 32768 * 512 + 7168 * 16384
    norms, expert, gate = 2 * 7168 + 1536 + 512, 3 * 2048 * 7168, 256 * 7168
    assert streamed.layer == 2 * (attention + norms + 3 * 18432 * 7168)
    mixture = 2 * (attention + norms + expert + gate) + 4 * 256
    assert streamed.one_token == mixture + 2 * 8 * expert
    assert streamed.all_experts == mixture + 2 * 256 * expert
    assert streamed.head == 2 * (129280 * 7168 + 7168)


CHANGES: list[dict[str, Any]] = [
    {},
    SPARSE,
    {"tie_embeddings": True},
    {"num_dense_layers": 5},
    {"num_dense_layers": 0, "num_shared_experts": 2},
    {"q_lora_rank": None, "attention_bias": True, "num_shared_experts": 0},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_parts_are_the_whole_model(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    sizes = model_sizes(config)
    assert (sizes.total, sizes.active) == count_parameters(config)
    assert sizes.total == sum(tensor.numel() for tensor in random_model(config).state_dict().values())
    assert [part.name for part in sizes.parts] == [name for name in PARTS if name in {p.name for p in sizes.parts}]
    assert ("indexer" in {part.name for part in sizes.parts}) is config.is_sparse


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("form", ["float32", "bfloat16", FP8])
def test_files_are_as_large_as_those_that_are_written(tmp_path: Any, changes: dict[str, Any], form: str) -> None:
    from model.checkpoint.files import ModelFolder

    config = tiny_config(**changes)
    dtype = torch.float32 if form == "float32" else torch.bfloat16
    save_model(random_model(config), tmp_path / "m", dtype, fp8_scales=torch.float32 if form == FP8 else None)
    with ModelFolder(tmp_path / "m") as opened:
        written = sum(tensor.num_bytes for tensor in opened.tensors.values())
    assert written == model_sizes(config).files[form]


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_is_as_large_as_that_which_a_run_makes(changes: dict[str, Any], dtype: torch.dtype) -> None:
    config = tiny_config(**changes)
    made = LatentCache(config, 1, torch.device("meta"), dtype).bytes_per_token
    assert made == model_sizes(config).cache[str(dtype).removeprefix("torch.")]["MLA"]


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_loaded_model_takes_as_many_bytes_as_said(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    from model.network.layout import lay_out_for_decoding

    for changes in CHANGES:
        config = tiny_config(**changes)
        model = lay_out_for_decoding(random_model(config))
        held = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
        assert sum(held.values()) == model_sizes(config).loaded["float32"]


def test_model_without_mixture_layers_streams_no_experts() -> None:
    streamed = model_sizes(tiny_config(num_dense_layers=5)).streamed["float32"]
    assert streamed.layer == streamed.one_token == streamed.all_experts
    tied = model_sizes(tiny_config(tie_embeddings=True)).streamed["float32"]
    assert tied.head == model_sizes(tiny_config()).streamed["float32"].head
