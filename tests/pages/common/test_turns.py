"""First come, first served, with any number of threads."""

import threading
import time

from pages.common.turns import Turns


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
