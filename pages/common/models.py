"""The models that a visitor can choose, and the loaded models, which all sessions share."""

import collections
import contextlib
import functools
import gc
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.checkpoint.embedded import PRESETS, folders_by_name, name_of
from model.run import apart
from model.run.request import Capture, RequestError, RunRequest
from model.trace.trace import Trace
from pages.common import jobs, limits
from pages.common.jobs import Job

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer
    from model.families.engine import TransformersEngine
    from model.run.engine import Engine

    AnyEngine = Engine | TransformersEngine

_LOGGER = logging.getLogger(__name__)
VARIABLE = "MOE_LOUPE_MODELS"
SERVES = False  # whether this process is the app's server, which gives its models a process of their own
SECONDS_BETWEEN_CHECKS = 0.2  # while a visitor waits for a model that another one loads


def available() -> Mapping[str, Path]:
    """Return folders by model name: the embedded models, then the folders that the operator allows."""
    return folders_by_name(PRESETS, os.environ.get(VARIABLE, ""))


def chosen() -> str:
    """Return the name of the model that the sidebar shows.

    Raises:
        RequestError: no model is installed.
    """
    names, name = list(available()), st.session_state.get("model")
    if not names:
        raise RequestError(f"no model is installed; name a model folder in {VARIABLE} and start again")
    return name if name in names else names[0]


@functools.lru_cache(maxsize=64)  # asked for several times by each page
def _takes_questions(folder: Path) -> bool:
    from model.checkpoint.chat_template import takes_questions

    return takes_questions(folder)


def answers() -> bool:
    """Return whether the chosen model was trained to answer questions, and its turns are known."""
    named = available()
    return bool(named) and _takes_questions(named[chosen()])


class Engines:
    """Load each model once, and drop the least recently used model beyond the limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both dictionaries; never held while a model is loaded
        self._loaded: collections.OrderedDict[Path, AnyEngine] = collections.OrderedDict()
        self._loading: collections.defaultdict[Path, threading.Lock] = collections.defaultdict(threading.Lock)

    def has(self, folder: Path) -> bool:
        """Return whether the model in a folder is loaded."""
        return folder in self._loaded

    def get(self, folder: Path, job: Job | None = None) -> "AnyEngine":
        """Return the model in a folder, loading it if needed; concurrent callers wait for the same load.

        Args:
            folder: the folder.
            job: shows the progress of loading; stopping it ends its wait, or the loading that it began.

        Raises:
            ValueError: the folder cannot be read, memory is short, or the job was stopped; the message is one line.
        """
        if (engine := self._look_up(folder)) is not None:
            return engine
        with self._lock:
            loading = self._loading[folder]
        while not loading.acquire(timeout=SECONDS_BETWEEN_CHECKS):
            if job is not None and job.cancel.is_set():
                raise RequestError("stopped while the model was being loaded")
        try:
            return self._look_up(folder) or self._keep(folder, _load_or_refuse(folder, job))
        finally:
            loading.release()

    def _look_up(self, folder: Path) -> "AnyEngine | None":
        with self._lock:
            if folder in self._loaded:
                self._loaded.move_to_end(folder)
            return self._loaded.get(folder)

    def _keep(self, folder: Path, engine: "AnyEngine") -> "AnyEngine":
        with self._lock:
            self._loaded[folder] = engine
            while len(self._loaded) > limits.KEPT_MODELS:
                self._loaded.popitem(last=False)
        return engine

    def warm(self, folder: Path) -> None:
        """Load a model ahead of its first run. An unreadable folder is ignored: a visitor's run will show the error."""
        try:
            self.get(folder)
        except ValueError:
            return


@contextlib.contextmanager
def path_hidden(folder: Path) -> Iterator[None]:
    """Raise errors about a model's files again, with the model's name in place of its path on the server.

    Raises:
        RequestError: the code in this context raised a `ValueError` whose message holds the path.
    """
    try:
        yield
    except ValueError as error:
        if str(folder) not in str(error):
            raise
        raise RequestError(str(error).replace(str(folder), name_of(folder))) from error


def _load_or_refuse(folder: Path, job: Job | None) -> "AnyEngine":
    try:
        with path_hidden(folder):
            return load(folder, job)
    except (OSError, MemoryError, RuntimeError) as error:
        _LOGGER.exception("%s cannot be loaded", folder)
        raise RequestError(f"{name_of(folder)} cannot be loaded: {jobs.failure(error)}") from None


def load(folder: Path, job: Job | None = None) -> "AnyEngine":
    """Load a model and run it once, so that the libraries choose their kernels; return the model.

    A model that does not fit into memory stays on disk and is not run. `job` shows the progress, and can be stopped.
    """
    from model.families.choose import load as load_engine
    from model.run.engine import spare_cores

    spare_cores(limits.SPARED_CORES)
    shown = job or Job()
    engine = load_engine(
        folder, on_progress=lambda done, total: shown.advance(0.0, _loading(done, total)), cancel=shown.cancel
    )
    if engine.abilities.exclusive:
        return engine
    capture = Capture(frozenset({"router", "attention", "inputs"}) & engine.abilities.captures)
    with contextlib.suppress(RequestError):  # damaged weights give no logits; the visitor's run will show this error
        engine.run(RunRequest(token_ids=(0,) * 8, max_new_tokens=1, capture=capture))
    assert engine.description  # computes the checksum of the weights, once
    gc.collect()
    gc.freeze()  # so that later garbage collections skip the loaded model
    if SERVES:
        apart.begin(engine, limits.APART_BYTES, limits.SPARED_CORES)
    return engine


def _loading(done: int, total: int) -> str:
    return f"Loading the model: {done / 1e9:,.1f} of {total / 1e9:,.1f} GB"


@st.cache_resource(show_spinner=False)
def engines() -> Engines:
    """Return the loaded models of this server."""
    return Engines()


@st.cache_resource(show_spinner=False)
def warm(folder: Path) -> threading.Timer:
    """Start and return a timer that begins to load a model after one second, when the first page has been drawn."""
    timer = threading.Timer(1.0, engines().warm, (folder,))
    timer.daemon = True
    timer.start()
    return timer


@st.cache_data(show_spinner=False)
def config(folder: Path) -> dict[str, Any]:
    """Return a model's published configuration; an empty dict if it cannot be read."""
    from model.checkpoint.header import CheckpointError, read_json

    try:
        return read_json(folder / "config.json")
    except CheckpointError:
        return {}


@st.cache_resource(show_spinner=False, max_entries=8)
def _tokenizer(folder: Path) -> "Tokenizer | None":
    from model.checkpoint.tokenizer import Tokenizer

    try:
        return Tokenizer.load(folder)
    except ValueError:
        return None


def vocabulary(trace: Trace) -> "Tokenizer | None":
    """Return the tokenizer that made a trace; None if no installed model has it."""
    sha256 = trace.model.get("tokenizer_sha256")
    tokenizers = (_tokenizer(folder) for folder in available().values()) if sha256 else ()
    return next((tokenizer for tokenizer in tokenizers if tokenizer is not None and tokenizer.sha256 == sha256), None)
