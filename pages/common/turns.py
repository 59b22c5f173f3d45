"""A queue for what visitors run: a fixed number runs at once, first come, first served."""

import collections
import threading


class Turns:
    """A queue for a fixed number of turns; whoever has a turn may run."""

    def __init__(self, number: int) -> None:
        """Create the queue with `number` free turns."""
        self._free = number
        self._queue: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    def join(self) -> object:
        """Take the last place in the queue and return its ticket, which `leave` gives back."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
        return ticket

    def ahead(self, ticket: object) -> int:
        """Return how many tickets have an earlier place in the queue."""
        with self._changed:
            return self._queue.index(ticket) if ticket in self._queue else 0

    def begin(self, ticket: object, seconds: float) -> bool:
        """Wait up to `seconds` for a ticket's turn and return whether it came; the turn lasts until `leave`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free > 0 and self._queue[0] is ticket, seconds):
                return False
            self._free -= 1
            self._queue.popleft()
            self._changed.notify_all()
            return True

    def leave(self, ticket: object) -> None:
        """Give a ticket back: free its turn if the turn began, else its place in the queue."""
        with self._changed:
            if ticket in self._queue:
                self._queue.remove(ticket)
            else:
                self._free += 1
            self._changed.notify_all()
