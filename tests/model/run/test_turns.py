"""Fair by visitor, first come, first served, with any number of threads."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.run import turns as module
from model.run.turns import QUANTUM, Turns


def test_turns_are_given_in_the_order_of_arrival() -> None:
    turns, order, tickets = Turns(1), [], []
    holder = turns.join()
    assert turns.begin(holder, 0)

    def wait(number: int) -> None:
        while not turns.begin(tickets[number], 0.01):  # as jobs do, which look for a Stop in between
            time.sleep(0.002 * (number % 3))
        order.append(number)
        turns.leave(tickets[number])

    for _ in range(40):
        tickets.append(turns.join())
    assert [turns.ahead(ticket) for ticket in tickets] == list(range(40))
    threads = [threading.Thread(target=wait, args=(number,)) for number in reversed(range(40))]
    for thread in threads:
        thread.start()
    turns.leave(holder)
    for thread in threads:
        thread.join(30)
    assert order == list(range(40))


def test_one_that_leaves_the_queue_does_not_hold_it_up() -> None:
    turns = Turns(1)
    first, second, third = turns.join(), turns.join(), turns.join()
    assert turns.begin(first, 0)
    turns.leave(second)
    assert not turns.begin(third, 0.01)
    turns.leave(first)
    assert turns.begin(third, 0)


def test_never_more_than_the_number_at_once() -> None:
    turns, running, most = Turns(3), [], []

    def work() -> None:
        ticket = turns.join()
        while not turns.begin(ticket, 0.01):
            pass
        running.append(1)
        most.append(len(running))
        time.sleep(0.005)
        running.pop()
        turns.leave(ticket)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(most) == 3
    assert turns.begin(turns.join(), 0)


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def serve(turns: Turns, clock: Clock, costs: dict[str, float], number: int) -> list[str]:
    """Let visitors, who always have one ticket in the queue, take a number of turns; return who was served."""
    tickets, order = {visitor: turns.join(visitor) for visitor in costs}, []
    for _ in range(number):
        visitor = next(name for name in tickets if turns.begin(tickets[name], 0))
        order.append(visitor)
        clock.now += costs[visitor]
        done, tickets[visitor] = tickets[visitor], turns.join(visitor)
        turns.leave(done)
    for ticket in tickets.values():
        turns.leave(ticket)
    return order


def test_visitors_share_the_time_not_the_number_of_turns() -> None:
    clock = Clock()
    order = serve(Turns(1, clock), clock, {"long": 1.0, "a": 0.25, "b": 0.25}, 90)
    assert order[:3] == ["long", "a", "b"]
    assert abs(order.count("a") - 4 * order.count("long")) <= 4
    assert abs(order.count("a") - order.count("b")) <= 1


@given(costs=st.lists(st.floats(0.001, 5.0), min_size=2, max_size=6), number=st.integers(20, 200))
def test_used_times_differ_by_at_most_one_turn_of_each(costs: list[float], number: int) -> None:
    clock, by_name = Clock(), {str(index): cost for index, cost in enumerate(costs)}
    order = serve(Turns(1, clock), clock, by_name, number)
    used = {name: cost * order.count(name) for name, cost in by_name.items()}
    for a, b in itertools.combinations(by_name, 2):
        assert abs(used[a] - used[b]) <= by_name[a] + by_name[b] + 1e-9


def test_newcomer_is_next_however_long_others_were_served() -> None:
    clock = Clock()
    turns = Turns(1, clock)
    old = turns.join("old")
    clock.now += 100
    waiting = [turns.join("old"), turns.join("other")]
    turns.leave(old)
    assert turns.begin(waiting[1], 0)
    newcomer = turns.join("newcomer")
    assert (turns.ahead(newcomer), turns.ahead(waiting[0])) == (0, 1)
    clock.now += 1
    turns.leave(waiting[1])
    assert turns.begin(newcomer, 0)


def test_visitor_with_several_jobs_has_one_share() -> None:
    clock = Clock()
    turns, tickets, order = Turns(1, clock), [], []
    for visitor in ("greedy", "greedy", "greedy", "modest"):
        tickets.append((visitor, turns.join(visitor)))
    for _ in range(80):
        visitor, ticket = next(each for each in tickets if turns.begin(each[1], 0))
        order.append(visitor)
        clock.now += 1
        tickets.remove((visitor, ticket))
        tickets.append((visitor, turns.join(visitor)))
        turns.leave(ticket)
    assert abs(order.count("greedy") - order.count("modest")) <= 4


def test_turn_is_given_back_after_an_error_and_by_one_that_was_stopped_before_it() -> None:
    turns, cancel = Turns(1), threading.Event()
    with pytest.raises(ZeroDivisionError), turns.turn() as has_turn:
        _ = has_turn / 0
    cancel.set()
    holder = turns.join("holder")
    with turns.turn(cancel) as has_turn:
        assert not has_turn
    turns.leave(holder)
    with turns.turn(cancel) as has_turn, turns.turn() as still:
        assert (has_turn, still) == (True, True)
    assert turns.begin(turns.join(), 0)


def test_long_turn_lets_others_go_first_at_a_pause() -> None:
    turns, events, began = Turns(1), [], threading.Event()

    def newcomer() -> None:
        began.set()
        with turns.turn():
            events.append("newcomer")

    thread = threading.Thread(target=newcomer)
    with turns.turn():
        thread.start()
        assert began.wait(30)
        while not turns.waiting:
            time.sleep(0.001)
        turns.pause()  # too early
        events.append("first part")
        time.sleep(QUANTUM)
        turns.pause()
        events.append("second part")
    thread.join(30)
    assert events == ["first part", "newcomer", "second part"]
    turns.pause()  # a thread without a turn has nothing to give up


def test_each_item_has_a_turn_of_its_own() -> None:
    turns, cancel, held = Turns(1), threading.Event(), []

    def items() -> Iterator[int]:
        for number in range(5):
            held.append(turns.free == 0)
            yield number

    taken, tickets = [], []
    for number in turns.each(items(), cancel):
        taken.append((number, turns.free))
        if number == 2:
            cancel.set()
            tickets.append(turns.join("another"))
    turns.leave(tickets[0])
    assert taken == [(0, 1), (1, 1), (2, 1)]
    assert held == [True] * 3
    assert list(turns.each("ab")) == ["a", "b"]


def test_place_is_reported_while_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_CHECKS", 0.01)
    turns, places, reported = Turns(1), [], threading.Event()
    holder, before = turns.join(), turns.join()

    def on_wait(place: int) -> None:
        places.append(place)
        reported.set()

    def work() -> None:
        with turns.acting_for("me", on_wait), turns.turn():
            assert turns.seconds_waited > 0

    thread = threading.Thread(target=work)
    thread.start()
    assert reported.wait(30)
    turns.leave(holder)
    turns.leave(before)
    thread.join(30)
    assert (places[0], places[-1]) == (2, 0)


def test_many_threads_that_pause_stop_and_fail_never_block_each_other() -> None:
    turns, going, most, errors = Turns(1), [], [], []

    def work(number: int) -> None:
        draw, cancel = random.Random(number), threading.Event()
        for _ in range(60):
            cancel.clear()
            if draw.random() < 0.2:
                cancel.set()
            with contextlib.suppress(ZeroDivisionError), turns.turn(cancel) as has_turn:
                if has_turn:
                    going.append(1)
                    most.append(len(going))
                    going.pop()
                    turns.pause()
                    _ = 1 / draw.randrange(8)
        errors.append(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUANTUM", 0.0)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(errors) == 24
    assert max(most) == 1
    assert (turns.free, turns.waiting) == (1, [])


def test_held_turn_ends_early_by_release() -> None:
    turns, entered, go_on = Turns(2), threading.Semaphore(0), threading.Event()

    def work(number: int) -> None:
        with turns.held(number, seconds=30):
            entered.release()
            assert go_on.wait(30)
            turns.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert entered.acquire(timeout=30)
    assert entered.acquire(timeout=30)
    assert not entered.acquire(timeout=0.2)
    go_on.set()
    assert entered.acquire(timeout=30)
    for thread in threads:
        thread.join(30)
    assert turns.free == 2


def test_held_turn_does_not_wait_longer_than_asked() -> None:
    turns = Turns(1)
    slow = turns.join()
    with turns.held("another", seconds=0.01):
        assert turns.free == 0
    assert not turns.waiting
    turns.leave(slow)
    assert turns.free == 1
