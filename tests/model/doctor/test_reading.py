"""Reading of a folder: threads end before files close, and experts in one tensor are measured one by one."""

import threading
import time

import pytest
import torch

from model.checkpoint.disk import DiskTensors
from model.checkpoint.files import ModelFolder
from model.checkpoint.names import EXPERT_KIND, Place
from model.doctor import reading
from model.doctor.reading import Stopped, layers, own_layout
from model.doctor.weights import examine_weights
from tests.families import EXPERTS, saved


def test_nothing_is_read_any_more_when_the_files_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, at_work, closed = threading.Event(), [], []
    scan, close = vars(reading)["_scan"], DiskTensors.close

    def slow(*arguments: object) -> object:
        at_work.append(1)
        time.sleep(0.05)
        scanned = scan(*arguments)  # type: ignore[arg-type]
        at_work.pop()
        return scanned

    def noted(disk: DiskTensors) -> None:
        closed.append(len(at_work))
        close(disk)

    monkeypatch.setattr(reading, "_scan", slow)
    monkeypatch.setattr(DiskTensors, "close", noted)
    with pytest.raises(Stopped):
        examine_weights(saved("qwen3_moe"), lambda progress: cancel.set(), cancel)
    assert closed == [0]


def test_experts_in_one_tensor_are_measured_one_by_one() -> None:
    name = "model.layers.2.mlp.experts.down_proj"
    with ModelFolder(saved("gpt_oss")) as folder:
        layout = dict(own_layout(folder)) | {name: Place(2, None, "down_proj", EXPERT_KIND, EXPERTS)}
        measured = [tensor for _, tensors in layers(folder, layout, lambda progress: None, None) for tensor in tensors]
        whole = folder.read_as(name, torch.float32)
    experts = [tensor for tensor in measured if tensor.stored.name == name]
    assert [tensor.place.expert for tensor in experts] == list(range(EXPERTS))
    assert [tensor.stored.shape for tensor in experts] == [tuple(whole.shape[1:])] * EXPERTS
    assert [tensor.rms for tensor in experts] == pytest.approx([float(each.square().mean().sqrt()) for each in whole])
