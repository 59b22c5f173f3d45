"""Attention of a pass placed over all tokens of a run: windows, compressed blocks, and keys that cannot be told."""

import torch

from model.families.recorder import over_tokens


def weights(num_rows: int, num_keys: int) -> torch.Tensor:
    return torch.arange(1.0, 1 + num_rows * num_keys).reshape(1, num_rows, num_keys)


def test_a_prompt_has_all_its_keys() -> None:
    whole = weights(5, 5)
    assert torch.equal(over_tokens(whole, 5, None, False), whole)


def test_a_prompt_of_compressed_attention_is_cut_before_its_blocks() -> None:
    assert torch.equal(over_tokens(weights(4, 6), 4, 2, True), weights(4, 6)[..., :4])


def test_a_window_belongs_to_the_last_tokens() -> None:
    placed = over_tokens(weights(1, 3), 7, 3, False)
    assert placed[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]


def test_later_passes_of_compressed_attention_keep_a_window_then_blocks() -> None:
    placed = over_tokens(weights(1, 5), 7, 3, True)
    assert placed[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert over_tokens(weights(1, 7), 7, 3, True)[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]


def test_keys_that_cannot_be_told_are_unknown() -> None:
    assert over_tokens(weights(1, 5), 7, 3, False).isnan().all()
    assert over_tokens(weights(1, 5), 7, None, False).isnan().all()
    assert over_tokens(weights(1, 2), 7, 3, True).isnan().all()
