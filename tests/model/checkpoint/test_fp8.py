"""Block FP8 against an independent dequantisation in plain numpy, and FP8 folders against models built from that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model.checkpoint.files import ModelFolder
from model.checkpoint.fp8 import dequantise, grid, quantise
from model.checkpoint.header import CheckpointError
from model.checkpoint.weights import inspect, load_model, save_model
from model.network.config import ModelConfig
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SCALES = [torch.float32, torch.float8_e8m0fnu]
NAN_BYTES = (0x7F, 0xFF)
# No width is a multiple of 128, and most are beyond it, so that there are ragged last blocks on both axes.
RAGGED = dict(
    hidden_size=200,
    q_lora_rank=136,
    kv_lora_rank=72,
    nope_head_dim=40,
    rope_head_dim=16,
    value_head_dim=36,
    dense_width=260,
    expert_width=132,
    num_layers=3,
)
O_PROJ = "model.layers.0.self_attn.o_proj.weight"


def number_of_byte(byte: int) -> float:
    """Return the value of an E4M3 byte by the format's definition.

    The exponent has 4 bits and the bias 7, the fraction 3 bits; there is no infinity, and one NaN per sign.
    """
    sign, exponent, fraction = (-1.0) ** (byte >> 7), (byte >> 3) & 15, byte & 7
    if exponent == 15 and fraction == 7:
        return float("nan")
    if exponent == 0:
        return sign * fraction / 8 * 2.0**-6
    return sign * (1 + fraction / 8) * 2.0 ** (exponent - 7)


NUMBERS = np.array([number_of_byte(byte) for byte in range(256)])


def numpy_scales(scale: torch.Tensor) -> np.ndarray:
    if scale.dtype == torch.float8_e8m0fnu:
        return 2.0 ** (scale.view(torch.uint8).numpy().astype(np.float64) - 127)
    return scale.numpy().astype(np.float64)


def numpy_dequantised(weight: torch.Tensor, scale: torch.Tensor) -> np.ndarray:
    """Return dequantised weights in fp64, weight by weight, without any code of the project."""
    rows, columns = np.indices(tuple(weight.shape))
    return NUMBERS[weight.view(torch.uint8).numpy()] * numpy_scales(scale)[rows // 128, columns // 128]


def random_bytes(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    return weight.masked_fill(weight.bitwise_and(0x7F) == 0x7F, 0x30).view(torch.float8_e4m3fn)


def random_scales(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.float32:
        return torch.rand(shape, generator=generator) * 1e-2 + 1e-5
    return torch.randint(110, 130, shape, generator=generator).to(torch.uint8).view(torch.float8_e8m0fnu)


def dequantised(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    target = torch.full(weight.shape, torch.nan, dtype=dtype)
    dequantise(weight, scale, target)
    return target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 3.7e-4, 2.0**-100, 2.0**6, 200.0, 2.0**10, 2.0**100])
def test_every_byte_becomes_its_number(dtype: torch.dtype, scale: float) -> None:
    finite = [byte for byte in range(256) if byte not in NAN_BYTES]
    weight = torch.tensor(finite, dtype=torch.uint8).view(2, -1).view(torch.float8_e4m3fn)
    scale_11 = torch.full((1, 1), scale)
    exact = torch.from_numpy(NUMBERS[finite]).view(2, -1) * scale_11.double()
    result = dequantised(weight, scale_11, dtype)
    # The product of two fp32 numbers is rounded to fp32, and from there to the target.
    assert torch.equal(result, exact.float().to(dtype))
    assert torch.equal(result.signbit(), exact.signbit())


@pytest.mark.parametrize("byte", NAN_BYTES)
def test_nan_is_refused_and_not_taken_for_480(byte: int) -> None:
    weight = torch.zeros(200, 130, dtype=torch.uint8)
    weight[199, 129] = byte
    with pytest.raises(CheckpointError, match="a weight is NaN"):
        dequantised(weight.view(torch.float8_e4m3fn), torch.ones(2, 2))


@pytest.mark.parametrize(
    "scale",
    [
        torch.tensor([[torch.nan]]),
        torch.tensor([[torch.inf]]),
        torch.tensor([[255]], dtype=torch.uint8).view(SCALES[1]),
    ],
)
def test_scale_that_is_no_number_is_refused(scale: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match="a scale is NaN or infinite"):
        dequantised(random_bytes((3, 3)), scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("shape", [(576, 256), (1, 1), (128, 128), (129, 127), (300, 513), (7168, 129)])
def test_matches_the_independent_dequantisation(
    shape: tuple[int, int], scales: torch.dtype, dtype: torch.dtype
) -> None:
    weight, scale = random_bytes(shape), random_scales(grid(shape), scales)
    expected = torch.from_numpy(numpy_dequantised(weight, scale)).float()
    assert torch.equal(dequantised(weight, scale, dtype), expected.to(dtype))


def test_ragged_fixture_counts_blocks_of_128_from_the_top() -> None:
    weight = torch.ones(192, 256).to(torch.float8_e4m3fn)
    result = dequantised(weight, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert [result[0, 0], result[127, 128], result[128, 0], result[191, 255]] == [1, 2, 3, 4]
    assert result.sum() == 106_496


def test_576_rows_have_5_rows_of_scales() -> None:
    assert grid((576, 256)) == (5, 2)
    scale = torch.arange(1.0, 11.0).view(5, 2)
    result = dequantised(torch.ones(576, 256).to(torch.float8_e4m3fn), scale)
    assert [result[511, 0], result[512, 0], result[575, 255]] == [7, 9, 10]


@pytest.mark.parametrize("shape", [(4, 2), (5, 1), (2, 5), (5, 2, 1), (10,)])
def test_scales_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"the scales have shape .*, not \[5, 2\]"):
        dequantised(random_bytes((576, 256)), torch.ones(shape))


def test_fills_rows_of_a_larger_tensor_and_transposed_ones() -> None:
    weight, scale = random_bytes((130, 140)), random_scales((2, 2))
    stacked, lying = torch.zeros(2, 300, 140), torch.zeros(140, 130)
    dequantise(weight, scale, stacked[1, 130:260])
    dequantise(weight, scale, lying.mT)
    assert torch.equal(stacked[1, 130:260], dequantised(weight, scale))
    assert torch.equal(lying.mT, dequantised(weight, scale))
    assert stacked[0].count_nonzero() == stacked[1, :130].count_nonzero() == stacked[1, 260:].count_nonzero() == 0


@pytest.mark.parametrize("scales", SCALES)
@given(
    num_rows=st.integers(1, 300),
    num_columns=st.integers(1, 300),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 1e4]),
    seed=st.integers(0, 100),
)
def test_quantised_weights_are_near_and_again_quantised_the_same(
    scales: torch.dtype, num_rows: int, num_columns: int, size: float, seed: int
) -> None:
    weight = torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed)) * size
    stored, scale = quantise(weight, scales)
    assert (stored.dtype, scale.dtype) == (torch.float8_e4m3fn, scales)
    result = dequantised(stored, scale)
    largest = torch.from_numpy(numpy_scales(scale)).repeat_interleave(128, 0).repeat_interleave(128, 1)
    step = 2.0**-10 * largest[:num_rows, :num_columns]  # half a step of the subnormal numbers
    assert ((result - weight).abs() <= weight.abs() * 2.0**-4 * 1.0001 + step).all()
    assert torch.equal(dequantised(*quantise(result, scales)), result)


def test_quantising_uses_the_whole_range_and_keeps_zeros() -> None:
    weight = torch.zeros(130, 257)
    weight[0, 0], weight[129, 256] = -3.0, 5.0
    stored, scale = quantise(weight)
    assert (stored[0, 0].float(), stored[129, 256].float()) == (-448, 448)
    assert scale[0, 1] == 1  # a block of zeros
    assert torch.equal(dequantised(stored, scale), weight)
    stored, scale = quantise(weight, torch.float8_e8m0fnu)
    assert scale[0, 0].float() == 2.0**-7  # 3 / 448 rounded up


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_has_no_fp8_form_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="only finite weights"):
        quantise(torch.full((2, 2), value))
    with pytest.raises(ValueError, match="scales cannot be"):
        quantise(torch.ones(2, 2), torch.bfloat16)


# Whole folders.


def ragged_config(**changes: object) -> ModelConfig:
    return tiny_config(**(RAGGED | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(random_model(ragged_config()), tmp_path / "model", torch.float32, fp8_scales=torch.float32)
    return tmp_path / "model"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors")


def refused(folder: Path, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_model(folder, "cpu", torch.float32)
    assert "\n" not in str(caught.value)


def shard_apart(folder: Path) -> None:
    """Write the weights to one file and their scales to another."""
    tensors = load_file(folder / "model.safetensors")
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith("_scale_inv")}
    weights = {name: tensor for name, tensor in tensors.items() if name not in scales}
    save_file(weights, folder / "a.safetensors")
    save_file(scales, folder / "b.safetensors")
    weight_map = dict.fromkeys(weights, "a.safetensors") | dict.fromkeys(scales, "b.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def rebuilt(folder: Path) -> dict[str, torch.Tensor]:
    """Return every published tensor in fp32; FP8 tensors are dequantised by `numpy_dequantised`."""
    tensors = load_file(folder / "model.safetensors")
    return {
        name: torch.from_numpy(numpy_dequantised(tensor, tensors[f"{name}_scale_inv"])).float()
        if tensor.dtype == torch.float8_e4m3fn
        else tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith("_scale_inv")
    }


@pytest.mark.parametrize("scales", SCALES)
def test_model_in_fp8_computes_what_one_of_our_own_dequantised_weights_does(
    tmp_path: Path, scales: torch.dtype
) -> None:
    fp8, plain = tmp_path / "fp8", tmp_path / "plain"
    save_model(random_model(ragged_config()), fp8, torch.float32, fp8_scales=scales)
    save_model(random_model(ragged_config()), plain, torch.float32)
    save_file(rebuilt(fp8), plain / "model.safetensors")
    shard_apart(fp8)
    expected = load_model(plain, "cpu", torch.float32)
    loaded = load_model(fp8, "cpu", torch.float32)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    ids = torch.arange(1, 60).view(1, -1)
    with torch.inference_mode():
        logits = loaded(ids)
        assert relative_error(logits, expected(ids)) <= ROUNDING
        unquantised = random_model(ragged_config())(ids)
    assert logits.abs().max() > 1
    assert 1e-3 < (logits - unquantised).abs().mean() < 1.5  # FP8 is not for nothing, and not something else


def test_block_size_is_not_the_ratio_of_the_shapes() -> None:
    """192 rows and 2 rows of scales are blocks of 128 and 64, not two of 96, as the ratio of the shapes suggests."""
    weight, scale = random_bytes((192, 128)), torch.tensor([[1.0], [2.0]])
    expected = torch.from_numpy(NUMBERS[weight.view(torch.uint8).numpy()]).float()
    assert torch.equal(dequantised(weight, scale)[100], expected[100])


@pytest.mark.parametrize("max_shard_bytes", [None, 100_000])
@pytest.mark.parametrize("scales", SCALES)
def test_saved_projections_are_fp8_and_all_else_is_as_before(
    tmp_path: Path, scales: torch.dtype, max_shard_bytes: int | None
) -> None:
    model = random_model(ragged_config(model_type="deepseek_v32", index_heads=3, index_head_dim=20, index_topk=8))
    save_model(model, tmp_path / "m", torch.bfloat16, max_shard_bytes, scales)
    with ModelFolder(tmp_path / "m") as opened:
        fp8 = {name.split(".")[-2] for name, stored in opened.tensors.items() if stored.dtype == "F8_E4M3"}
        other = {name.split(".")[-2] for name, stored in opened.tensors.items() if stored.dtype == "BF16"}
        expected = {name: opened.read_as(name, torch.float32) for name in opened.tensors if "scale_inv" not in name}
    projections = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}
    projections |= {"gate_proj", "up_proj", "down_proj", "wq_b", "wk"}
    assert fp8 == projections
    norms = {"norm", "input_layernorm", "post_attention_layernorm", "q_a_layernorm", "kv_a_layernorm", "k_norm"}
    assert other == norms | {"embed_tokens", "lm_head", "gate", "weights_proj"}
    stated = json.loads((tmp_path / "m" / "config.json").read_text())["quantization_config"]
    assert stated["weight_block_size"] == [128, 128]
    assert stated.get("scale_fmt") == (None if scales == torch.float32 else "ue8m0")
    manifest = inspect(tmp_path / "m")
    assert (manifest.problems, manifest.surplus) == ((), ())
    loaded = load_model(tmp_path / "m", "cpu", torch.float32)
    save_model(loaded, tmp_path / "again", torch.float32)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_loading_in_a_narrow_dtype_rounds_each_weight(folder: Path, dtype: torch.dtype) -> None:
    expected = rebuilt(folder)[O_PROJ].to(dtype)
    with ModelFolder(folder) as opened:
        assert torch.equal(opened.read_as(O_PROJ, dtype), expected)
    assert torch.equal(load_model(folder, "cpu", dtype).blocks[0].attention.output.weight, expected)


def test_folder_is_loaded_when_the_scale_lies_in_an_earlier_or_later_shard(folder: Path) -> None:
    before = load_model(folder, "cpu", torch.float32)
    shard_apart(folder)
    after = load_model(folder, "cpu", torch.float32)
    assert torch.equal(before.blocks[0].attention.output.weight, after.blocks[0].attention.output.weight)


def test_missing_scale_is_named(folder: Path) -> None:
    change_tensors(folder, {f"{O_PROJ}_scale_inv": None})
    assert len(inspect(folder).unsupported) == 1
    refused(folder, rf"tensor {O_PROJ}_scale_inv is missing, without which {O_PROJ} cannot be read")


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (3, 2), (2, 2, 1), ()])
def test_misshapen_scale_is_named_with_both_shapes(folder: Path, shape: tuple[int, ...]) -> None:
    change_tensors(folder, {f"{O_PROJ}_scale_inv": torch.ones(shape)})
    refused(folder, rf"{O_PROJ}_scale_inv has shape .*, its weight needs \[2, 2\]")


def test_scale_of_another_kind_is_refused(folder: Path) -> None:
    change_tensors(folder, {f"{O_PROJ}_scale_inv": torch.ones(2, 2, dtype=torch.bfloat16)})
    refused(folder, rf"{O_PROJ}_scale_inv is stored as BF16; scales must be F32 or F8_E8M0")


def test_damaged_value_is_refused_with_the_name_of_its_tensor(folder: Path) -> None:
    weight = load_file(folder / "model.safetensors")[O_PROJ].view(torch.uint8).clone()
    weight[3, 3] = 0x7F
    change_tensors(folder, {O_PROJ: weight.view(torch.float8_e4m3fn)})
    refused(folder, rf"tensor {O_PROJ} cannot be read \(a weight is NaN\)")


def test_vector_in_fp8_is_refused(folder: Path) -> None:
    change_tensors(folder, {"model.norm.weight": torch.ones(200).to(torch.float8_e4m3fn)})
    refused(folder, r"model\.norm\.weight is stored as F8_E4M3 but is no matrix")


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ({"weight_block_size": [64, 128]}, r"weight_block_size \[64, 128\] is not supported; only \[128, 128\] is"),
        ({"weight_block_size": None}, "weight_block_size None is not supported"),
        ({"quant_method": "gptq"}, "quant_method 'gptq' is not supported"),
        ({"quant_method": None}, "quant_method None is not supported"),
        ({"fmt": "e5m2"}, "fmt 'e5m2' is not supported; only 'e4m3' is"),
    ],
)
def test_other_quantisation_is_refused_in_one_line(folder: Path, stated: dict[str, Any], complaint: str) -> None:
    published = json.loads((folder / "config.json").read_text())["quantization_config"]
    change_config(folder, quantization_config=published | stated)
    assert len(inspect(folder).unsupported) == 1
    refused(folder, rf"config\.json: quantization_config: {complaint}")


def test_other_quantisation_is_refused_where_no_weight_is_fp8(tmp_path: Path) -> None:
    save_model(random_model(tiny_config()), tmp_path / "model", torch.float32)
    change_config(tmp_path / "model", quantization_config={"quant_method": "awq"})
    refused(tmp_path / "model", "quant_method 'awq' is not supported")
    change_config(tmp_path / "model", quantization_config="fp8")
    refused(tmp_path / "model", "quantization_config must be an object")


def test_packed_weights_are_refused_by_the_name_of_their_quantisation_and_not_by_their_shapes(tmp_path: Path) -> None:
    save_model(random_model(tiny_config()), tmp_path / "model", torch.float32)
    packed = {
        name: torch.zeros(7, 1, dtype=torch.uint8) for name in load_file(tmp_path / "model" / "model.safetensors")
    }
    change_tensors(tmp_path / "model", packed)
    change_config(tmp_path / "model", quantization_config={"quant_method": "mxfp4"})
    refused(tmp_path / "model", r"config\.json: quantization_config: quant_method 'mxfp4' is not supported.* take the")
    assert "more problem" not in inspect(tmp_path / "model").summary


def test_fp8_without_a_stated_block_size_is_refused_and_not_guessed(folder: Path) -> None:
    change_config(folder, quantization_config=None)
    refused(folder, r"config\.json has no quantization_config, which FP8 weights such as .* need")


def test_scale_without_an_fp8_weight_is_listed_and_skipped(tmp_path: Path) -> None:
    save_model(random_model(tiny_config()), tmp_path / "model", torch.float32)
    change_tensors(tmp_path / "model", {f"{O_PROJ}_scale_inv": torch.ones(1, 1)})
    manifest = inspect(tmp_path / "model")
    assert manifest.surplus == (f"{O_PROJ}_scale_inv",)
    assert manifest.problems == ()
