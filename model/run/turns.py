"""A queue for work that takes turns, fair by visitor, and the queue of all forward passes of this process.

Each ticket of the queue belongs to a visitor. The visitor who has used the least time is next; among equals, the first
come is the first served. A visitor who was away starts level with the visitor who is being served, so newcomers are
served at once, and nobody can save up time. This is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with
the measured time of a turn as its cost.

`PASSES` is the queue in which the engines of this process take a turn for each forward pass. One pass runs at a time:
passes in several threads of one interpreter are no faster. Engines that wait for the disk take no turns.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

QUANTUM = 0.1  # seconds: a turn that has lasted this long is given up at the next `pause`
SECONDS_BETWEEN_CHECKS = 0.2  # while a thread waits for its turn, it checks `cancel` and reports its place so often

Item = TypeVar("Item")


class Ticket:
    """A place in the queue, then a turn."""

    def __init__(self, visitor: Hashable, level: float, arrival: int) -> None:
        self.visitor, self.level, self.arrival = visitor, level, arrival  # the level at which it joined, then began
        self.began: float | None = None  # when the turn began
        self.granted = threading.Lock()  # released when the turn begins
        self.granted.acquire()


class Turns:
    """A queue for a fixed number of turns; whoever has a turn may run.

    Attributes:
        free: number of turns that nobody has.
        waiting: tickets whose turn has not begun.
    """

    def __init__(self, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the queue with `number` free turns."""
        self.free, self._clock = number, clock
        self.waiting: list[Ticket] = []
        self._used: dict[Hashable, float] = {}  # seconds of recent visitors; those below the level are left out
        self._level = 0.0  # seconds used by the visitor whose turn began last
        self._arrivals = itertools.count()
        self._lock = threading.Lock()
        self._thread = threading.local()

    # --- tickets -----------------------------------------------------------------------------------------------------

    def join(self, visitor: Hashable = None) -> Ticket:
        """Return a ticket of the visitor, which `leave` gives back; None is a visitor who has not been served yet."""
        with self._lock:
            ticket = Ticket(visitor, self._level, next(self._arrivals))
            self.waiting.append(ticket)
            self._begin_next()
        return ticket

    def begin(self, ticket: Ticket, seconds: float) -> bool:
        """Wait up to `seconds` for a ticket's turn and return whether it came; the turn lasts until `leave`."""
        return ticket.granted.acquire(timeout=seconds)

    def leave(self, ticket: Ticket) -> None:
        """Give a ticket back: end its turn if the turn began, else free its place in the queue."""
        with self._lock:
            if ticket.began is None:
                self.waiting.remove(ticket)
                return
            self._charge(ticket)
            self.free += 1
            self._begin_next()

    def ahead(self, ticket: Ticket) -> int:
        """Return how many waiting tickets are served before this one."""
        with self._lock:
            return sum(self._order(other) < self._order(ticket) for other in self.waiting)

    def _order(self, ticket: Ticket) -> tuple[float, int]:
        """Return the key by which waiting tickets are served: the seconds that the visitor has used, then arrival."""
        return max(ticket.level, self._used.get(ticket.visitor, 0.0)), ticket.arrival

    def _charge(self, ticket: Ticket) -> None:
        if ticket.visitor is not None and ticket.began is not None:
            self._used[ticket.visitor] = self._order(ticket)[0] + self._clock() - ticket.began

    def _begin_next(self) -> None:
        while self.free > 0 and self.waiting:
            ticket = min(self.waiting, key=self._order)
            self.waiting.remove(ticket)
            self.free -= 1
            ticket.level, ticket.began = self._order(ticket)[0], self._clock()
            self._level = max(self._level, ticket.level)
            self._used = {visitor: used for visitor, used in self._used.items() if used >= self._level}
            ticket.granted.release()

    # --- turns of a thread -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def acting_for(self, visitor: Hashable, on_wait: Callable[[int], None] = lambda place: None) -> Iterator[None]:
        """Take this thread's turns as the visitor; `on_wait` receives its place while it waits long."""
        self._thread.visitor, self._thread.on_wait = visitor, on_wait
        try:
            yield
        finally:
            del self._thread.visitor, self._thread.on_wait

    @contextlib.contextmanager
    def turn(self, cancel: threading.Event | None = None) -> Iterator[bool]:
        """Wait for a turn of this thread and hold it; yield False if `cancel` was set before the turn came.

        A turn within a turn is the same turn.
        """
        if hasattr(self._thread, "ticket"):
            yield True
            return
        ticket = self.join(self.visitor)
        try:
            if self._wait(ticket, cancel):
                self._thread.ticket = ticket
                yield True
            else:
                yield False
        finally:
            self.leave(self._thread.__dict__.pop("ticket", ticket))

    @contextlib.contextmanager
    def held(self, visitor: Hashable, seconds: float) -> Iterator[None]:
        """Hold a turn of the visitor, which `release` may end early; go on without one if none came in `seconds`."""
        self._thread.held = self.join(visitor)
        self.begin(self._thread.held, seconds)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """End the turn that `held` gave to this thread, or its wait for one; nothing without either."""
        if (ticket := self._thread.__dict__.pop("held", None)) is not None:
            self.leave(ticket)

    def each(self, items: Iterable[Item], cancel: threading.Event | None = None) -> Iterator[Item]:
        """Yield the items, each computed within a turn of its own; end early if `cancel` is set before a turn came."""
        iterator = iter(items)
        while True:
            with self.turn(cancel) as has_turn:
                if not has_turn:
                    return
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    @property
    def visitor(self) -> Hashable:
        """The visitor whose turns this thread takes; a thread that acts for nobody is a visitor of its own."""
        return getattr(self._thread, "visitor", threading.get_ident())

    def show_place(self, place: int) -> None:
        """Report a place of this thread in the queue to its visitor; 0: it need not wait."""
        on_wait: Callable[[int], None] | None = getattr(self._thread, "on_wait", None)
        if on_wait is not None:
            on_wait(place)

    def add_wait(self, seconds: float) -> None:
        """Add a wait to `seconds_waited` of this thread."""
        self._thread.waited = self.seconds_waited + seconds

    @property
    def seconds_waited(self) -> float:
        """How long this thread has waited for its turns, in all."""
        return getattr(self._thread, "waited", 0.0)

    def pause(self) -> None:
        """Let others go first if this thread has a turn that has lasted `QUANTUM`; call it between two steps."""
        ticket: Ticket | None = getattr(self._thread, "ticket", None)
        if ticket is None or ticket.began is None or not self.waiting or self._clock() - ticket.began < QUANTUM:
            return
        del self._thread.ticket
        self.leave(ticket)
        self._thread.ticket = self.join(ticket.visitor)
        self._wait(self._thread.ticket, None)

    def _wait(self, ticket: Ticket, cancel: threading.Event | None) -> bool:
        began, has_waited = self._clock(), False
        while not self.begin(ticket, SECONDS_BETWEEN_CHECKS):
            if cancel is not None and cancel.is_set():
                return False
            self.show_place(self.ahead(ticket) + 1)
            has_waited = True
        self.add_wait(self._clock() - began)
        if has_waited:
            self.show_place(0)
        return True


PASSES = Turns(1)
