"""Loading a model for all sessions."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import streamlit as st

from model.families import choose
from model.run.abilities import Abilities
from model.run.request import RequestError, RunRequest
from pages.common import limits, models
from pages.frame.sidebar.described import describe
from tests.pages.fakes import FakeEngine


def test_a_model_of_damaged_weights_is_loaded_so_that_it_can_be_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged:
        abilities, description = Abilities(), {"name": "damaged"}

        def run(self, request: RunRequest) -> None:
            raise RequestError("the model's logits are not finite")

    damaged = Damaged()
    monkeypatch.setattr(choose, "load", lambda folder, **options: damaged)
    assert models.load(Path("damaged")) is damaged


def test_allowed_folders_are_offered_after_the_embedded_ones(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "presets" / "mini").mkdir(parents=True)
    (tmp_path / "presets" / "mini" / "config.json").write_text("{}")
    monkeypatch.setattr(models, "PRESETS", tmp_path / "presets")
    monkeypatch.setenv(models.VARIABLE, f"{tmp_path / 'mine'}:{tmp_path / 'other' / 'mini'}:")
    assert list(models.available()) == ["mini", "mine", str(tmp_path / "other" / "mini")]
    monkeypatch.delenv(models.VARIABLE)
    assert list(models.available()) == ["mini"]


def test_engines_are_loaded_once_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    loaded = []
    monkeypatch.setattr(models, "load", lambda folder, job=None: loaded.append(folder) or FakeEngine())
    monkeypatch.setattr(limits, "KEPT_MODELS", 2)
    engines = models.Engines()
    a, b, c = (tmp_path / name for name in "abc")
    assert engines.get(a) is engines.get(a)
    for folder in (b, a, c):
        engines.get(folder)
    assert loaded == [a, b, c]
    assert engines.has(a)
    assert not engines.has(b)


def test_a_model_that_loads_slowly_keeps_nobody_from_a_loaded_one(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    begun, finish, loads = threading.Event(), threading.Event(), []

    def load(folder, job=None):
        loads.append(folder)
        if folder.name == "slow":
            begun.set()
            assert finish.wait(30)
        return FakeEngine()

    monkeypatch.setattr(models, "load", load)
    engines, slow, loaded = models.Engines(), tmp_path / "slow", tmp_path / "loaded"
    ready = engines.get(loaded)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(engines.get, slow) for _ in range(2)]
        assert begun.wait(30)
        assert pool.submit(engines.get, loaded).result(30) is ready
        assert not any(one.done() for one in waiting)
        finish.set()
    assert waiting[0].result() is waiting[1].result()
    assert loads == [loaded, slow]


def test_a_model_that_could_not_be_loaded_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    outcomes = iter([ValueError("damaged"), FakeEngine()])

    def load(folder, job=None):
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    monkeypatch.setattr(models, "load", load)
    engines = models.Engines()
    with pytest.raises(ValueError, match="damaged"):
        engines.get(tmp_path)
    assert isinstance(engines.get(tmp_path), FakeEngine)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (MemoryError(), "mini cannot be loaded: the machine ran out of memory"),
        (RuntimeError("can't allocate memory: you tried to allocate 9 bytes"), "the machine ran out of memory"),
        (PermissionError(13, "Permission denied", "/srv/secret/mini/config.json"), "config.json: Permission denied"),
    ],
)
def test_a_load_that_fails_is_one_line_and_the_next_one_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem: Exception, message: str
) -> None:
    def load(folder: Path, job: object) -> None:
        raise problem

    monkeypatch.setattr(models, "load", load)
    engines = models.Engines()
    with pytest.raises(RequestError, match=message) as caught:
        engines.get(tmp_path / "mini")
    assert "/srv" not in str(caught.value)
    engines.warm(tmp_path / "mini")
    monkeypatch.setattr(models, "load", lambda folder, job=None: FakeEngine())
    assert isinstance(engines.get(tmp_path / "mini"), FakeEngine)


@pytest.mark.parametrize("what", ["gone", "a pipe", "a folder", "a device", "no JSON"])
def test_a_folder_that_changes_while_the_app_runs_is_one_line(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if what == "a pipe":
            os.mkfifo(folder / name)
        elif what == "a folder":
            (folder / name).mkdir()
        elif what == "a device":
            (folder / name).symlink_to("/dev/zero")
        else:
            (folder / name).write_text("{")
    if what == "gone":
        shutil.rmtree(folder)
    st.cache_data.clear()
    assert models.config(folder) == {}
    assert not describe(folder).card
    with pytest.raises(ValueError, match="model") as caught:
        models.Engines().get(folder)
    assert "\n" not in str(caught.value)


def test_an_error_names_a_model_by_its_folder_without_the_path_on_the_server(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"^mine lacks config\.json$"), models.path_hidden(tmp_path / "mine"):
        raise ValueError(f"{tmp_path / 'mine'} lacks config.json")
    with pytest.raises(RequestError, match=r"^mine/config\.json: k is 3$"), models.path_hidden(tmp_path / "mine"):
        raise ValueError(f"{tmp_path / 'mine' / 'config.json'}: k is 3")
    with pytest.raises(ZeroDivisionError), models.path_hidden(tmp_path / "mine"):
        raise ZeroDivisionError
