"""Our engines, one elsewhere and the tests' fake one are what the pages expect of an engine."""

import inspect
import subprocess
import sys
from pathlib import Path

import torch

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.protocol import EngineProtocol, LocalEngineProtocol
from model.run.remote import Connection
from model.run.served import Served
from tests.engines import TINY, random_ids
from tests.models import random_model, tiny_config
from tests.pages.fakes import FakeEngine
from tests.served import new_vllm, serving


def takes_what_the_protocol_asks(method: object, asked: object) -> bool:
    own, names = inspect.signature(method).parameters, inspect.signature(asked).parameters  # type: ignore[arg-type]
    return list(own)[: len(names)] == list(names)


def test_engines_in_memory_and_on_the_disk(tmp_path: Path) -> None:
    save_model(random_model(tiny_config()), tmp_path / "tiny", torch.float32)
    for engine in (Engine.load(tmp_path / "tiny", "cpu"), Engine.from_disk(tmp_path / "tiny", "cpu"), FakeEngine()):
        assert isinstance(engine, LocalEngineProtocol)
        assert takes_what_the_protocol_asks(type(engine).stream, EngineProtocol.stream)
        assert takes_what_the_protocol_asks(type(engine).encode, LocalEngineProtocol.encode)


def test_engine_elsewhere() -> None:
    with serving(new_vllm(random_ids())) as (address, _):
        engine = Served(Connection(address), TINY)
    assert isinstance(engine, EngineProtocol)
    assert not isinstance(engine, LocalEngineProtocol)
    assert takes_what_the_protocol_asks(Served.stream, EngineProtocol.stream)


def test_protocol_needs_no_torch() -> None:
    code = "import sys, model.run.protocol; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0
