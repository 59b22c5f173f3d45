"""The formulas of DeepSeek-V4 on Architecture, worked out by hand or in numpy, agree with transformers' modules."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

v4 = pytest.importorskip("transformers.models.deepseek_v4.modeling_deepseek_v4")

# Fixture: the affinities of these logits are exactly 2, 1, 0.5 and 1.5.
LOGITS = [math.log(math.exp(root**2) - 1) for root in (2, 1, 0.5, 1.5)]
HIDDEN, SIZE, ROPE, TOKENS = 6, 8, 4, 3  # width of the model, of a head, of its rotated end, and of a block


def config(**changes: Any) -> Any:
    rates = {"compressed_sparse_attention": TOKENS, "heavily_compressed_attention": TOKENS}
    tiny = {"hidden_size": HIDDEN, "head_dim": SIZE, "partial_rotary_factor": ROPE / SIZE, "compress_rates": rates}
    tiny |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "vocab_size": 9, "hc_mult": 2, "num_hidden_layers": 1}
    tiny |= {"layer_types": ["heavily_compressed_attention"], "compress_rope_theta": 100.0, "q_lora_rank": 4}
    return v4.DeepseekV4Config(**tiny | {"index_n_heads": 2, "index_head_dim": SIZE, "index_topk": 2} | changes)


def randomised(module: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return module


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(0))
    return powers / powers.sum(0)


def norm(values: np.ndarray) -> np.ndarray:
    return values / np.sqrt((values**2).mean() + 1e-6)


def rotated(values: np.ndarray, position: int) -> np.ndarray:
    """Return a head with adjacent pairs of its last `ROPE` values rotated."""
    turned = values.copy()
    for pair in range(ROPE // 2):
        angle, at = position * 100.0 ** (-2 * pair / ROPE), SIZE - ROPE + 2 * pair
        x, y = values[at : at + 2]
        turned[at : at + 2] = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return turned


def compressed(compressor: Any, tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random inputs of attention, [token, HIDDEN], the entries of a compressor, and what each token may read."""
    inputs = torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(1))
    latent = torch.randn(1, tokens, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        entries, bias = compressor(inputs[None], latent, torch.arange(tokens)[None], None, 0)
    return inputs.numpy(), entries[0, 0].numpy(), (bias[0, 0] == 0).numpy()


def weights(linear: Any) -> np.ndarray:
    return linear.weight.detach().numpy()


def test_router_by_token_id_weighs_the_experts_of_its_table() -> None:
    router = v4.DeepseekV4HashRouter(config(hidden_size=1))
    router.weight = torch.nn.Parameter(torch.tensor(LOGITS)[:, None])
    router.tid2eid[7] = torch.tensor([0, 3])
    _, weight, experts = router(torch.ones(1, 1, 1), torch.tensor([[7]]))
    assert experts.tolist() == [[0, 3]]  # not the two best by affinity plus anything: the table's
    assert weight[0].tolist() == pytest.approx([1.5 * 2 / 3.5, 1.5 * 1.5 / 3.5])


def test_experts_cut_off_both_branches() -> None:
    cut = SimpleNamespace(limit=10.0, act_fn=torch.nn.functional.silu)
    gate, up = [12.0, -12.0, 1.0], [-20.0, 20.0, 2.0]
    # SiLU(10) x -10; SiLU(-12), which is not cut off, x 10; SiLU(1) x 2.
    by_hand = [-100 / (1 + math.exp(-10)), -120 / (1 + math.exp(12)), 2 / (1 + math.exp(-1))]
    assert v4.DeepseekV4Experts._apply_gate(cut, torch.tensor(gate + up)).tolist() == pytest.approx(by_hand)


def test_sink_takes_weight_and_has_no_value() -> None:
    head = SimpleNamespace(sinks=torch.tensor([math.log(3)]), num_key_value_groups=1, training=False)
    one = torch.zeros(1, 1, 1, 2)
    _, weight = v4.eager_attention_forward(head, one, one, one, None, scaling=1.0)
    assert weight.item() == pytest.approx(0.25)


def test_entry_of_hca_pools_its_block() -> None:
    compressor = randomised(v4.DeepseekV4HCACompressor(config()))
    inputs, entries, readable = compressed(compressor, 2 * TOKENS + 1)
    places = compressor.position_bias.detach().numpy()
    for block in range(2):
        own = inputs[block * TOKENS : (block + 1) * TOKENS]
        share = softmax(own @ weights(compressor.gate_proj).T + places)
        pooled = norm((share * (own @ weights(compressor.kv_proj).T)).sum(0)) * weights(compressor.kv_norm)
        assert entries[block] == pytest.approx(rotated(pooled, TOKENS * block), abs=1e-5)
    assert len(entries) == 2  # the last token's block is not complete
    assert readable.tolist() == [[TOKENS * (b + 1) <= t + 1 for b in range(2)] for t in range(len(inputs))]


def test_entry_of_csa_pools_its_block_and_the_one_before() -> None:
    compressor = randomised(v4.DeepseekV4CSACompressor(config()))
    inputs, entries, _ = compressed(compressor, 3 * TOKENS)
    score = inputs @ weights(compressor.gate_proj).T + np.tile(compressor.position_bias.detach().numpy(), (3, 1))
    value = inputs @ weights(compressor.kv_proj).T
    for block in range(3):
        own = slice(block * TOKENS, (block + 1) * TOKENS)  # a in the formula: the second half of the tensors
        before = slice(max(0, block - 1) * TOKENS, block * TOKENS)  # b in the formula, empty for the first block
        share = softmax(np.concatenate([score[own, SIZE:], score[before, :SIZE]]))
        pooled = (share * np.concatenate([value[own, SIZE:], value[before, :SIZE]])).sum(0)
        expected = rotated(norm(pooled) * weights(compressor.kv_norm), TOKENS * block)
        assert entries[block] == pytest.approx(expected, abs=1e-5)


def test_mix_of_streams() -> None:
    mix = randomised(v4.DeepseekV4HyperConnection(config()))
    streams = torch.randn(1, 1, 2, HIDDEN, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        out, blend, read = mix(streams)
    rows = norm(streams.numpy().ravel()) @ mix.fn.detach().numpy().T
    base, scale = mix.base.detach().numpy(), mix.scale.detach().numpy()
    a, c = (1 / (1 + np.exp(-(scale[i] * rows[2 * i : 2 * i + 2] + base[2 * i : 2 * i + 2]))) for i in range(2))
    b = np.exp((scale[2] * rows[4:] + base[4:]).reshape(2, 2))
    for _ in range(20):
        b /= b.sum(1, keepdims=True)
        b /= b.sum(0, keepdims=True)
    assert read[0, 0].numpy() == pytest.approx(a @ streams[0, 0].numpy(), abs=1e-4)
    assert out[0, 0].numpy() == pytest.approx(2 * c, abs=1e-4)
    assert blend[0, 0].numpy() == pytest.approx(b, abs=1e-4)
    assert np.concatenate([b.sum(0), b.sum(1)]) == pytest.approx(1, abs=1e-3)
