"""Samples the next token: greedy, or with temperature, top-k and top-p.

Shape suffixes: V vocabulary.
"""

import torch
from torch import Tensor

from model.run.request import RequestError, RunRequest


def choose(logits_V: Tensor, request: RunRequest, generator: torch.Generator) -> int:
    """Return the next token's id. The draw is made on the CPU, so that a seed gives the same text on every device.

    Raises:
        RequestError: the request generates tokens, and a logit is NaN or infinite.
    """
    finite = bool(logits_V.isfinite().all())
    if not finite and request.max_new_tokens:
        raise RequestError(
            "the model's logits are not finite, so that no token can be chosen; audit its weights, or use float32"
        )
    if request.temperature == 0 or not finite:  # the token after the last one is not fed
        return int(logits_V.argmax())
    kept_V = cut_off(logits_V.float().cpu() / request.temperature, request.top_k, request.top_p)
    return int(torch.multinomial(kept_V.softmax(-1), 1, generator=generator))


def cut_off(logits_V: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set logits outside the `top_k` likeliest, and outside the likeliest that reach `top_p`, to minus infinity."""
    if 0 < top_k < len(logits_V):
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        sorted_V, order_V = logits_V.sort(descending=True)
        mass_before_V = sorted_V.softmax(-1).cumsum(-1) - sorted_V.softmax(-1)
        logits_V = logits_V.index_fill(0, order_V[mass_before_V >= top_p], -torch.inf)
    return logits_V
