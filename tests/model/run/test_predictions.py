"""Log-probabilities and candidates, against log-softmax in float64 over steps of any length."""

import numpy as np
import pytest
import torch

from model.run.predictions import NUM_CANDIDATES, Predictions
from tests.closeness import ROUNDING, relative_error


@pytest.mark.parametrize("cuts", [(12,), (5, 6, 11), (1, 2, 3)])
def test_steps_and_blocks_give_the_log_probability_of_each_token(cuts: tuple[int, ...]) -> None:
    logits_TV = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    ids = list(range(3, 15))
    predictions, parts = Predictions(keep_logits=True), []
    for start, end in zip((0, *cuts), (*cuts, 12), strict=True):
        if start < end:
            parts.append(predictions.take(ids[start:end], logits_TV[start:end].split(2)))
    together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    expected_TV = logits_TV.double().log_softmax(-1).numpy()
    assert np.isnan(together["logprob"][0])
    assert relative_error(together["logprob"][1:], expected_TV[np.arange(11), ids[1:]]) < ROUNDING
    order_TV = np.argsort(-expected_TV, axis=-1)[:, :NUM_CANDIDATES]
    np.testing.assert_array_equal(together["candidate_id"], order_TV)
    assert relative_error(together["candidate_logprob"], np.take_along_axis(expected_TV, order_TV, -1)) < ROUNDING
    np.testing.assert_array_equal(together["logits"], logits_TV.numpy())


def test_a_vocabulary_smaller_than_the_list_gives_all_of_it() -> None:
    arrays = Predictions(keep_logits=False).take([1], [torch.zeros(1, 7)])
    assert arrays["candidate_id"].shape == (1, 7)
    assert "logits" not in arrays
