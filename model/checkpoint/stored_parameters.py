"""The number of parameters in a model folder, from the headers of its weight files, without torch."""

import math
from pathlib import Path

from model.checkpoint.header import CheckpointError, read_header
from model.checkpoint.names import place_of, scaled_weight


def count(folder: Path, mtp: str) -> tuple[int, int]:
    """Return the number of parameters in all, and in routed experts; (0, 0) if a header is unreadable.

    Block scales are not counted, nor tensors whose names begin with `mtp`, the prefix of multi-token prediction.
    """
    total = of_experts = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            stored = read_header(path)
        except CheckpointError:
            return 0, 0
        for name, tensor in stored.items():
            if not name.startswith(mtp) and scaled_weight(name) is None:
                number = math.prod(tensor.shape)
                total += number
                of_experts += number if place_of(name).expert is not None else 0
    return total, of_experts
