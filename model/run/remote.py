"""A connection to the engine at the operator's address: JSON over HTTP.

It uses http or https, no proxy, and follows no redirect to another host. Every wait and the size of every response are
limited. Every failure raises a `RemoteError` of one line.
"""

import contextlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

MOST_BYTES = 256 * 2**20
SECONDS_TO_PROBE = 5.0
SECONDS_TO_ANSWER = 300.0
SECONDS_OF_SILENCE = 60.0
_BLOCK = 1 << 16
_LATER = (401, 403, 408, 429)  # the request may be answered later, or with other rights


class RemoteError(ValueError):
    """The engine cannot be reached, or its response is not usable; the message says what to do."""


class NotThereError(RemoteError):
    """The server has no such route."""


class RefusedError(RemoteError):
    """The server refuses this request, and would refuse it again."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to the host of the operator's address."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]:
            fp.close()
            raise RemoteError("the engine redirects to another host, which is not followed; set the address it means")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Connection:
    """Sends requests to one server, each over a connection of its own."""

    def __init__(self, address: str, seconds: float = SECONDS_TO_ANSWER, silence: float = SECONDS_OF_SILENCE) -> None:
        """Check the operator's address.

        Args:
            address: for example http://localhost:8000; its path is kept, except for /v1 at the end.
            seconds: longest time in seconds for a whole response.
            silence: longest time in seconds that the server may send nothing while it streams events.

        Raises:
            RemoteError: the address is not that of an HTTP server.
        """
        self.address, self._seconds, self._silence = _checked(address), seconds, silence
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameHost())

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the JSON that the server has at a path.

        Raises:
            RemoteError: the server does not answer in time, or its answer is not JSON.
        """
        seconds = min(SECONDS_TO_PROBE, self._seconds)
        with self._opened(path, None, seconds) as response:
            return _parsed(_whole(response, time.monotonic() + seconds))

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """Post a body to a path, and return the JSON of the response.

        Raises:
            RemoteError: the server does not answer in time, or its answer is not JSON.
        """
        with self._opened(path, body, self._seconds) as response:
            return _parsed(_whole(response, time.monotonic() + self._seconds))

    def events(self, path: str, body: dict[str, Any], cancel: threading.Event | None = None) -> Iterator[Any]:
        """Yield the JSON of each server-sent event until `[DONE]`, or until `cancel` is set.

        Raises:
            RemoteError: the stream breaks off, or an event is not JSON.
        """
        deadline, taken = time.monotonic() + self._seconds, 0
        with self._opened(path, body, self._silence) as response:
            while cancel is None or not cancel.is_set():
                line = response.readline(MOST_BYTES + 1)
                taken += len(line)
                if not line:
                    raise RemoteError("the engine broke off its answer")
                _check(taken, deadline)
                if not line.startswith(b"data:"):
                    continue
                event = line[5:].strip()
                if event == b"[DONE]":
                    return
                yield _parsed(event)

    @contextlib.contextmanager
    def _opened(self, path: str, body: dict[str, Any] | None, seconds: float) -> Iterator[Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=seconds) as response:
                yield response
        except RemoteError:
            raise
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error, path) from None
        except TimeoutError:
            raise RemoteError(f"the engine at {self.address} did not answer within {seconds:.0f} s") from None
        except urllib.error.URLError as error:
            reason = error.reason
            if isinstance(reason, TimeoutError):
                raise RemoteError(f"the engine at {self.address} did not answer within {seconds:.0f} s") from None
            raise RemoteError(f"the engine at {self.address} cannot be reached ({_line(reason)})") from None
        except (http.client.HTTPException, OSError) as error:
            raise RemoteError(
                f"the engine at {self.address} broke off ({_line(error) or type(error).__name__})"
            ) from None


def _checked(address: str) -> str:
    try:
        parts = urllib.parse.urlsplit(address.strip())
        named, _ = parts.hostname, parts.port
    except ValueError:
        named, parts = None, urllib.parse.urlsplit("")
    if parts.scheme not in ("http", "https") or not named:
        raise RemoteError("the engine's address must begin with http:// or https:// and name a host")
    if parts.username or parts.password or parts.query or parts.fragment or not address.isprintable():
        raise RemoteError("the engine's address must be scheme, host, port and path only, without a user or a query")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def _refusal(error: urllib.error.HTTPError, path: str) -> RemoteError:
    """Return the error for a request that the server refused, in one line."""
    if error.code in (404, 405, 501):
        return NotThereError(f"the engine has no {path}")
    kind = RefusedError if 400 <= error.code <= 500 and error.code not in _LATER else RemoteError
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        answer = json.loads(error.read(_BLOCK))
        answer = answer.get("error", answer) if isinstance(answer, dict) else answer
        text = answer.get("message", answer) if isinstance(answer, dict) else answer
        return kind(f"the engine refused ({error.code}): {_line(text)}")
    return kind(f"the engine refused with status {error.code}")


def _whole(response: Any, deadline: float) -> bytes:
    blocks: list[bytes] = []
    taken = 0
    while block := response.read1(_BLOCK):
        blocks.append(block)
        taken += len(block)
        _check(taken, deadline)
    return b"".join(blocks)


def _check(taken: int, deadline: float) -> None:
    if taken > MOST_BYTES:
        raise RemoteError(f"the engine's answer is larger than {MOST_BYTES >> 20} MB; ask for fewer tokens")
    if time.monotonic() > deadline:
        raise RemoteError("the engine took too long; ask for fewer tokens")


def _parsed(content: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise RemoteError("the engine answered with something else than JSON; is it the right address?") from None


def _line(value: object) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(value))[:200].strip()
