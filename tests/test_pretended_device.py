"""The pretended GPU refuses what CUDA refuses, allows what CUDA allows, and computes what the CPU computes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import attention
from model.network.indexer import causal_mask
from tests.models import random_model, tiny_config
from tests.pretended_device import NUM_GPUS, pretend

pretend()
GPU = torch.device("pretended", 0)
MIXED = "Expected all tensors to be on the same device, but found at least two devices"
OWN_WORDS = "Expected query, key, and value to have the same device type"  # of the operation itself

# Each takes two tensors [3, 3] and a tensor of three ids, and works if all are on one device.
MIXTURES: dict[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "sum": lambda x, other, ids: x + other,
    "sum in place": lambda x, other, ids: x.add_(other),
    "comparison": lambda x, other, ids: x < other,
    "product": lambda x, other, ids: x @ other,
    "linear": lambda x, other, ids: F.linear(x, other),
    "concatenation": lambda x, other, ids: torch.cat([x, other]),
    "stack": lambda x, other, ids: torch.stack([x, other]),
    "where": lambda x, other, ids: torch.where(x > 0, x, other),
    "mask": lambda x, other, ids: x.masked_fill(other > 0, 0.0),
    "attention": lambda x, other, ids: F.scaled_dot_product_attention(x[None], x[None], other[None]),
    "norm": lambda x, other, ids: F.rms_norm(x, (3,), other[0]),
    "embedding": lambda x, other, ids: F.embedding(ids, x),
    "rows": lambda x, other, ids: x.index_select(0, ids),
    "gather": lambda x, other, ids: x.gather(-1, ids[:, None]),
    "scatter": lambda x, other, ids: x.scatter_(-1, ids[:, None], 1.0),
    "added rows": lambda x, other, ids: x.index_add(0, ids, x),
    "written values": lambda x, other, ids: x.__setitem__(x > 0, other[0, 0].expand(int((x > 0).sum()))),
    "equality": lambda x, other, ids: torch.equal(x, other),
    "list": lambda x, other, ids: torch._foreach_add([x], [other]),
    "two numbers": lambda x, other, ids: torch.stack([x.sum(), other.sum()]),
}


def values(seed: int = 0) -> Tensor:
    return torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES.keys())
@pytest.mark.parametrize("inference", [False, True])
def test_mixing_devices_is_refused(mixture: Callable[..., object], inference: bool) -> None:
    ids = torch.tensor([2, 0, 1])
    with torch.inference_mode(inference):
        mixture(values(), values(1), ids)
        mixture(values().to(GPU), values(1).to(GPU), ids.to(GPU))
        with pytest.raises(RuntimeError, match=f"{MIXED}|{OWN_WORDS}"):
            mixture(values().to(GPU), values(1), ids)


def test_gpus_are_devices_of_their_own() -> None:
    one, other = (values().to(f"pretended:{number}") for number in range(NUM_GPUS))
    with pytest.raises(RuntimeError, match=MIXED):
        one + other
    assert torch.equal(one + other.to(one.device), one * 2)
    with pytest.raises(RuntimeError, match=f"invalid device ordinal {NUM_GPUS}"):
        values().to(f"pretended:{NUM_GPUS}")


def test_ids_of_a_gpu_do_not_index_the_cpu() -> None:
    with pytest.raises(RuntimeError, match=MIXED):
        values()[torch.tensor([1], device=GPU)]
    with pytest.raises(RuntimeError, match=MIXED):
        values()[values().to(GPU) > 0]


@pytest.mark.parametrize("read", [Tensor.numpy, np.asarray, lambda x: np.stack([x])])
def test_numpy_does_not_read_a_gpu(read: Callable[[Tensor], object]) -> None:
    with pytest.raises(TypeError, match="can't convert pretended:0 device type tensor to numpy"):
        read(values().to(GPU))


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: torch.rand(3, device=GPU, generator=generator),
        lambda generator: torch.zeros(3, device=GPU).normal_(generator=generator),
        lambda generator: torch.multinomial(torch.ones(3, device=GPU), 1, generator=generator),
    ],
)
def test_generator_of_the_cpu_does_not_draw_on_a_gpu(draw: Callable[[torch.Generator], object]) -> None:
    with pytest.raises(RuntimeError, match="Expected a 'pretended' device type for generator but found 'cpu'"):
        draw(torch.Generator())


def test_what_cuda_allows_is_allowed() -> None:
    x, number, ids = values().to(GPU), torch.tensor(2.0), torch.tensor([0, 2])
    for result in (x * number, number - x, x.clone().fill_(number), x.masked_fill(x > 0, number), x[ids], x[:, ids]):
        assert result.device == GPU
    x[ids, ids] = number
    x[0] = values()[0]
    x[:2].copy_(values()[:2])
    values().copy_(x)
    assert x.to("cpu").device.type == "cpu"
    assert x.to(GPU) is x
    assert (x.tolist(), float(x[2, 2]), bool((x[2, 2] == 2).all())) == (x.cpu().tolist(), 2.0, True)


def test_everything_stays_on_the_device_and_has_the_cpus_values() -> None:
    def run(device: torch.device | str) -> list[Tensor]:
        x = values().to(device)
        made = [torch.zeros(2, device=device), torch.tensor([1, 2], device=device), torch.arange(3, device=device)]
        made += [torch.empty_like(x).fill_(1), x.new_ones(2), torch.full_like(x, 3), torch.eye(2, device=device)]
        view = x[:, 1:]
        view.mul_(2)  # seen through `x`
        view[0] = 5
        out = torch.empty(2, 3, device=device)
        torch.index_select(x, 0, torch.tensor([1, 0], device=device), out=out)
        best = x.topk(2)
        return [
            *made,
            x,
            view,
            out,
            best.values,
            best.indices,
            *x.split(2),
            torch.view_as_complex(x[:, :2].contiguous()),
        ]

    on_gpu, on_cpu = run(GPU), run("cpu")
    assert {tensor.device for tensor in on_gpu} == {GPU}
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert torch.equal(one.cpu(), other)


def test_other_threads_see_the_device_too() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: torch.zeros(2, device=GPU).device).result() == GPU
        assert pool.submit(lambda: torch.ones(2).to(GPU).tolist()).result() == [1, 1]
        with pytest.raises(RuntimeError, match=MIXED):
            pool.submit(lambda: values().to(GPU) + values()).result()


def test_gradients_are_those_of_the_cpu() -> None:
    def gradients(device: torch.device | str) -> list[Tensor]:
        model = random_model(tiny_config(num_layers=2)).to(device).train()
        loss = model(torch.tensor([[1, 2, 3]], device=device)).logsumexp(-1).mean()
        with torch.autograd.set_multithreading_enabled(False):
            return list(
                torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
            )

    for one, other in zip(gradients(GPU), gradients("cpu"), strict=True):
        torch.testing.assert_close(one.cpu() if one is not None else None, other)


def test_a_planted_mixture_in_the_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = random_model(tiny_config(num_layers=2)), torch.tensor([[1, 2, 3, 4, 5]])
    monkeypatch.setattr(
        attention, "causal_mask", lambda rows, keys, device: causal_mask(rows, keys, torch.device("cpu"))
    )

    def weights(device: torch.device | str) -> Tensor:
        query = model.to(device).embedding(ids.to(device))[None]
        return attention.attention_weights(query, query, 1.0)

    assert weights("cpu").shape[-2:] == (5, 5)
    with pytest.raises(RuntimeError, match=rf"{MIXED}, pretended:0 and cpu! \(in masked_fill\)"):
        weights(GPU)
