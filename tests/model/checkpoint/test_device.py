"""The device that a model goes to."""

import pytest
import torch

from model.checkpoint.device import DeviceError, choose_device


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there_is, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there_is=there_is: there_is)
        assert choose_device("auto", for_training=True).type == device
    assert choose_device("cpu", for_training=True) == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="there is no device 'gpu' here; use 'auto' or 'cpu'"):
        choose_device("gpu", for_training=True)
