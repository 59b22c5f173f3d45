"""Mixed precision: products under autocast, weights in fp32."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def norm_warning_ignored() -> Iterator[None]:
    """Silence the warning about the norms inside attention.

    Under autocast these norms read bf16 and have fp32 weights; PyTorch has no fused kernel for this combination.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        yield
