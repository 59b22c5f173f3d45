"""The probe points: a tape that records none of them, and the recorder, which records all."""

import torch

from model.network.tape import Tape
from model.run.recorder import Recorder
from tests.models import random_model, tiny_config


class Nothing(Tape):
    """A tape that records no probe point."""


def test_tape_that_wants_nothing_needs_no_method() -> None:
    model, ids = random_model(tiny_config()), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(model(ids, tape=Nothing()), model(ids))


def test_recorder_has_a_method_of_its_own_for_every_probe_point() -> None:
    points = {name for name, value in vars(Tape).items() if callable(value) and not name.startswith("_")}
    assert {"layer_input", "layer_output", "attention", "selection", "routing"} <= points
    assert points <= set(vars(Recorder))
