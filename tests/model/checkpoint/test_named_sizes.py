import pytest

from model.checkpoint.named_sizes import sizes_of


def test_the_released_v3_has_its_published_size() -> None:
    size = sizes_of("deepseek-v3")
    assert (size.parameters, size.active) == (671_026_419_200, 37_552_297_472)
    assert size.config["n_routed_experts"] == 256


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="gpt-9"):
        sizes_of("gpt-9")
