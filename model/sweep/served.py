"""An engine that serves the model as the source of a sweep: ids of selected experts alone.

Each window is a request of its own with one token to generate, several at a time. The rules of `model.trace.imports`
read the answers: a token without a row is refused and counted, and an answer that breaks a rule fails its document.

Shape suffixes: N tokens of all windows, T tokens of one, L MoE layers, K selected experts.
"""

import concurrent.futures
import dataclasses
import errno
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.checkpoint.embedded import find_model
from model.checkpoint.named import named_model
from model.checkpoint.tokenizer import Tokenizer
from model.run.remote import Connection, NotThereError, RefusedError, RemoteError
from model.run.request import Capture, RunRequest
from model.run.served import Served
from model.sweep.settings import Settings, SweepError
from model.sweep.source import Decisions
from model.sweep.windows import Window
from model.trace import limits
from model.trace.imports.building import UNKNOWN
from model.trace.trace import TraceError

IN_FLIGHT = 16  # requests at a time
_WAITS = (1.0, 5.0)  # seconds before an engine that does not answer is asked again
_PROBE = 8  # tokens of the request that shows whether the engine sends experts


class ServedSource:
    """See `model.sweep.source.Source`."""

    capture: frozenset[str] = frozenset()

    def __init__(self, engine: Served, tokenizer: Tokenizer, address: str) -> None:
        """Use an engine, and ask it once whether it sends experts.

        Raises:
            SweepError: the engine does not answer, or sends no experts of this model.
        """
        shape, config = engine.shape, engine.named.config
        self.tokenizer, self.layers, self.num_experts = tokenizer, shape.moe_layers, shape.num_experts
        self.top_k, self.vocab_size = shape.top_k, max(tokenizer.size, config.get("vocab_size", 0))
        most = min(limits.MOST_TOKENS, limits.MOST_CHOICES // (len(shape.moe_layers) * shape.top_k))
        self.context = min(most, config.get("max_position_embeddings", most), engine.context or most) - 1
        self._engine, self._address = engine, address
        self._answers: dict[int, tuple[Window, np.ndarray]] = {}  # of a batch that failed, by the window's `id`
        probe = [*tokenizer.first_ids, *range(100, 100 + _PROBE)][:_PROBE]
        try:
            self._ask(np.array(probe))
        except (RemoteError, TraceError, ConnectionError) as error:
            raise SweepError(f"the engine at {address} cannot be swept: {getattr(error, 'strerror', error)}") from None

    @property
    def description(self) -> Mapping[str, Any]:
        return self._engine.named.description()

    @property
    def origin(self) -> Mapping[str, Any]:
        version = ".".join(map(str, self._engine.version))
        return {"source": f"{self._engine.kind} {version}".strip(), "device": None, "dtype": None}

    def decisions(self, windows: Sequence[Window]) -> Decisions:
        """Return the experts of all windows.

        If a window fails, the answers of the others are kept for the next calls, which ask for each window alone.

        Raises:
            TraceError, RemoteError: an answer breaks a rule of imports, or the engine refuses a window.
            ConnectionError: the engine does not answer.
        """
        missing = [window for window in windows if id(window) not in self._answers]
        errors: list[Exception] = []
        with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as threads:
            answers = [threads.submit(self._ask, window.token_ids) for window in missing]
            for window, answer in zip(missing, answers, strict=True):
                try:
                    self._answers[id(window)] = window, answer.result()
                except (RemoteError, TraceError) as error:
                    errors.append(error)
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        if errors:
            raise errors[0]
        ids_NLK = np.concatenate([self._answers.pop(id(window))[1] for window in windows])
        refused_N = (ids_NLK == UNKNOWN).any((1, 2))
        ids_NLK[refused_N] = np.arange(self.top_k)
        return Decisions(np.sort(ids_NLK, -1), refused_N=refused_N)

    def _ask(self, token_ids_T: np.ndarray) -> np.ndarray:
        """Return the experts of a window, [T, L, K]; `UNKNOWN` where the engine sent none.

        Raises:
            TraceError, RemoteError: the answer breaks a rule of imports, or the engine refuses the window.
            ConnectionError: the engine does not answer, also when it is asked again.
        """
        ids = tuple(token_ids_T.tolist())
        request = RunRequest(token_ids=ids, max_new_tokens=1, capture=Capture(frozenset()))
        for wait in (*_WAITS, None):
            try:
                return self._answer(request, ids)
            except (RefusedError, NotThereError):
                raise
            except RemoteError as error:
                if wait is None:
                    raise ConnectionError(errno.ECONNABORTED, str(error), self._address) from None
                time.sleep(wait)
        raise AssertionError

    def _answer(self, request: RunRequest, ids: tuple[int, ...]) -> np.ndarray:
        steps = self._engine.stream(request)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            trace = end.value
        if tuple(token.id for token in trace.tokens[: len(ids)]) != ids:
            raise TraceError("the engine ran other tokens than it was sent")
        return trace.data["expert_id"].values[: len(ids)].astype(np.int64)


def open_served(settings: Settings) -> ServedSource:
    """Return the engine at the address in the settings as a source; the model's folder has its tokenizer and config.

    Raises:
        ValueError: the engine does not answer, or the model's configuration or tokenizer is missing.
    """
    assert settings.engine is not None
    named = named_model(settings.model)
    if named.encode is None:
        raise SweepError(f"{settings.model} has no tokenizer.json, so texts cannot be encoded")
    named = dataclasses.replace(named, label=None, bias=None)
    engine = Served(Connection(settings.engine), named, settings.engine_kind)
    return ServedSource(engine, Tokenizer.load(find_model(settings.model)), settings.engine)
