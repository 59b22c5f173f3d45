"""Samples the next token: greedy, or with temperature, top-k and top-p.

Shape suffixes: V vocabulary.
"""

import torch
from torch import Tensor

from model.run.request import RequestError, RunRequest


def choose(logits_V: Tensor, request: RunRequest, generator: torch.Generator) -> int:
    """Return the id of the next token. The draw is made on the CPU, so a seed gives the same draws on every device.

    Raises:
        RequestError: the request generates tokens, and a logit is NaN or infinite.
    """
    finite = bool(logits_V.isfinite().all())
    if not finite and request.max_new_tokens:
        raise RequestError(
            "the model's logits are not finite, so that no token can be chosen; audit its weights, or use float32"
        )
    if request.temperature == 0 or not finite:  # without generation, the token chosen here is never fed
        return int(logits_V.argmax())
    kept_V = cut_off(logits_V.float().cpu() / request.temperature, request.top_k, request.top_p)
    return int(torch.multinomial(kept_V.softmax(-1), 1, generator=generator))


def cut_off(logits_V: Tensor, top_k: int, top_p: float) -> Tensor:
    """Return the logits with minus infinity for each token that top-k or top-p excludes.

    Args:
        logits_V: logits, already divided by the temperature.
        top_k: number of likeliest tokens to keep; 0: all.
        top_p: keep the likeliest tokens until their probabilities sum to `top_p`; 1: all.
    """
    if 0 < top_k < len(logits_V):
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        sorted_V, order_V = logits_V.sort(descending=True)
        mass_before_V = sorted_V.softmax(-1).cumsum(-1) - sorted_V.softmax(-1)
        logits_V = logits_V.index_fill(0, order_V[mass_before_V >= top_p], -torch.inf)
    return logits_V
