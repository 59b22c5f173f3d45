"""The memory layout of the weights, for products with few rows.

The product of one row with a matrix takes about as long as reading the matrix. On a CPU with AVX-512, in fp32, PyTorch
reads an input-major matrix two to four times as fast as an output-major one (measured: a 256 x 8,192 head in 0.27 ms
against 1.07 ms; with AVX2 there is no difference). Checkpoints are output-major. Only strides change, not shapes or
values.
"""

import torch
from torch import Tensor, nn

from model.network.moe import Experts
from model.network.transformer import Transformer


def wants_input_major(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a CPU reads matrices of this dtype faster in the input-major layout."""
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return device.type == "cpu" and dtype == torch.float32 and has_avx512


def input_major(matrix: Tensor) -> Tensor:
    """Return a matrix, or a stack of matrices, with input-major strides."""
    return matrix.mT.contiguous().mT


@torch.no_grad()
def lay_out_for_decoding(model: Transformer) -> Transformer:
    """Change the model's weight matrices to input-major in place if that is faster, and return the model.

    A tied head becomes a separate input-major matrix; the embedding stays output-major, because it is read by rows.
    """
    weight = model.embedding.weight
    if not wants_input_major(weight.device, weight.dtype):
        return model
    if model.head is None:
        model.head = nn.Linear(*reversed(weight.shape), bias=False, device="meta")
        model.head.weight = nn.Parameter(weight.clone(), requires_grad=False)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = input_major(module.weight.data)
        if isinstance(module, Experts):
            module.gate_up.data = input_major(module.gate_up.data)
            module.down.data = input_major(module.down.data)
    return model
