"""The predictions of a run: the log-probability of each token, and the likeliest next tokens.

Shape suffixes: T new positions, V vocabulary.
"""

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

NUM_CANDIDATES = 20
# Rows of the log-softmax in memory at once: 64 rows of a 129,280-entry vocabulary are 33 MB.
LOGPROB_ROWS = 64
# Logits in memory at once, 537 MB in fp32: a whole prompt of an embedded model, 1,024 tokens of the released one.
LOGITS_AT_ONCE = 1 << 27


def rows_at_once(vocab_size: int) -> int:
    """Return the number of positions whose logits are computed at once, a multiple of `LOGPROB_ROWS`."""
    return max(1, LOGITS_AT_ONCE // vocab_size // LOGPROB_ROWS) * LOGPROB_ROWS


class Predictions:
    """What the logits of a run say about each token and the token after it.

    The last row of log-probabilities is kept for the first token of the next step.
    """

    def __init__(self, keep_logits: bool) -> None:
        """Start a run; with `keep_logits`, `take` also returns all logits."""
        self._keep_logits = keep_logits
        self._next_logprobs_V: Tensor | None = None  # log-probabilities of the next token to feed

    def take(self, token_ids: list[int], logits: Iterable[Tensor]) -> dict[str, np.ndarray]:
        """Return the log-probability of each token, the likeliest next tokens after it, and captured logits, by name.

        Args:
            token_ids: the tokens in this forward pass.
            logits: logits of the tokens, in blocks [T, V]; each block is freed before the next block is computed.
        """
        before_V = self._next_logprobs_V
        of_token = [] if before_V is None else [before_V[token_ids[:1]]]
        candidates, wanted, following = [], [], iter(token_ids[1:])
        for block_TV in logits:
            if self._keep_logits:
                wanted.append(block_TV.float().cpu().numpy())
            for rows_TV in block_TV.split(LOGPROB_ROWS):
                logprobs_TV = rows_TV.float().log_softmax(-1)
                ids = list(itertools.islice(following, len(rows_TV)))
                ids_T1 = torch.tensor(ids, dtype=torch.long, device=rows_TV.device)[:, None]
                of_token.append(logprobs_TV[: len(ids)].gather(-1, ids_T1)[:, 0])
                candidates.append(logprobs_TV.topk(min(NUM_CANDIDATES, logprobs_TV.shape[-1]), dim=-1))
                self._next_logprobs_V = logprobs_TV[-1]
        logprob = torch.cat(of_token).cpu().numpy()
        return {
            "logprob": np.append(np.float32(np.nan), logprob) if before_V is None else logprob,
            "candidate_id": torch.cat([top.indices for top in candidates]).cpu().numpy().astype(np.int32),
            "candidate_logprob": torch.cat([top.values for top in candidates]).cpu().numpy(),
        } | ({"logits": np.concatenate(wanted)} if wanted else {})
