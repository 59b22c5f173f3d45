"""The memory layout of the weights, for products with few rows.

A product of one row with a matrix reads the whole matrix once and does little else. On a CPU with AVX-512, in fp32, the
library reads an input-major matrix two to four times as fast as an output-major one, the layout of checkpoints
(measured: a 256 x 8,192 head 0.27 ms against 1.07 ms; with AVX2 there is no difference). Only strides change, not
shapes or values.
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
    """Return the matrix (or stack of matrices) with input-major strides."""
    return matrix.mT.contiguous().mT


@torch.no_grad()
def lay_out_for_decoding(model: Transformer) -> Transformer:
    """Store the matrices of all products input-major, in place, where that is faster; return the model.

    A tied head becomes a separate matrix, because the embedding is read by rows.
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
