from tests.model.trace.test_decision import softmax_gate
from tests.pages.observe.routing.traces import losers


def test_softmax_has_no_losers_to_a_bias() -> None:
    assert not any(mask.any() for name, mask in losers(softmax_gate()).items() if "bias" in name)
