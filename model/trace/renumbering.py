"""Whether two layers choose alike under other numbers: a permutation of the experts that explains the difference.

Some loaders, converters and placements order a layer's experts anew. The permutation is the one under which most
choices agree (a linear assignment on counts of common tokens), or, where they were recorded, affinities (on
correlations). Few tokens can always be made to agree, so it counts as found only when it explains more than any
permutation would if the tokens of one side were shuffled.

    >>> counts = np.array([[0, 5, 1], [4, 0, 0], [1, 0, 3]])
    >>> best_assignment(counts).tolist()
    [1, 0, 2]
"""

import dataclasses

import numpy as np

BY_SCORES, BY_CHOICES = "affinities", "choices"
NEEDED = 0.9  # how much a renumbering must explain; rounding takes some
GAINED = 0.2  # and by how much it must beat the numbers as they are
SHUFFLES = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Renumbering:
    """A permutation of a layer's experts. Shares are of what agrees: choices, or (a mean correlation) affinities.

    Attributes:
        order: [expert], the number in the second trace of each expert of the first.
        basis: `affinities` or `choices`, what tells it.
        explained: how much agrees under it.
        as_numbered: how much does without it.
        by_chance: the most that any permutation explained of shuffled tokens (a bound; simulated with a fixed seed).
        unsettled: experts whose place nothing tells: they took no token.
    """

    order: np.ndarray
    basis: str
    explained: float
    as_numbered: float
    by_chance: float
    unsettled: int


def find_renumbering(
    chosen_a: np.ndarray,
    chosen_b: np.ndarray,
    scores_a: np.ndarray | None = None,
    scores_b: np.ndarray | None = None,
) -> Renumbering | None:
    """The permutation that explains why two layers chose differently; None where none does, or none is needed.

    Args:
        chosen_a: [token, expert] bool.
        chosen_b: the same of the tokens that are aligned with these.
        scores_a: [token, expert] affinities, if recorded. They tell more than choices: an order that crosses groups
            changes choices, too, and not every expert takes a token.
        scores_b: the same of the other trace.
    """
    if scores_a is not None and scores_b is not None:
        found = _search(BY_SCORES, _standardised(scores_a), _standardised(scores_b), scores_a.size)
        if found is not None:
            return found
    return _search(BY_CHOICES, chosen_a.astype(np.float32), chosen_b.astype(np.float32), int(chosen_a.sum()))


def _standardised(scores: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1; constant ones are 0."""
    centred = scores - scores.mean(0)
    spread = centred.std(0)
    return centred / np.where(spread > 0, spread, np.inf)


def _search(basis: str, first: np.ndarray, second: np.ndarray, total: int) -> Renumbering | None:
    """The permutation under which the summed products of columns are largest, if it stands the test."""
    if total == 0:
        return None
    profit = first.T @ second / total
    as_numbered = float(np.trace(profit))
    needed = max(NEEDED, as_numbered + GAINED)
    if profit.max(1).sum() < needed:  # no permutation can reach it
        return None
    order = best_assignment(profit)
    gained = profit[np.arange(len(order)), order]
    rng = np.random.default_rng(0)
    shuffled = (first.T @ second[rng.permutation(len(second))] for _ in range(SHUFFLES))
    by_chance = max(float(other.max(1).sum()) for other in shuffled) / total
    if gained.sum() < needed or gained.sum() <= by_chance:
        return None
    return Renumbering(order, basis, float(gained.sum()), as_numbered, by_chance, int((gained <= 0).sum()))


def best_assignment(profit: np.ndarray) -> np.ndarray:
    """The permutation with the largest summed profit: for each row of a square matrix its column.

    Shortest augmenting paths with dual prices (Jonker and Volgenant 1987), one row after the other.
    """
    cost, size = np.asarray(-profit, np.float64), len(profit)
    row_price, column_price = cost.min(1), np.zeros(size)
    row_of = np.full(size, -1)
    for row in range(size):
        _augment(cost, row, row_price, column_price, row_of)
    return np.argsort(row_of)


def _augment(cost: np.ndarray, row: int, row_price: np.ndarray, column_price: np.ndarray, row_of: np.ndarray) -> None:
    """Give `row` a column by the cheapest chain of exchanges, and move the prices so that they stay fair."""
    size = len(cost)
    distance, came_from, done = np.full(size, np.inf), np.full(size, -1), np.zeros(size, bool)
    reached, at, column = 0.0, row, -1
    while True:
        through = reached + cost[at] - row_price[at] - column_price
        nearer = ~done & (through < distance)
        distance[nearer], came_from[nearer] = through[nearer], column
        column = int(np.where(done, np.inf, distance).argmin())
        reached = float(distance[column])
        if row_of[column] < 0:
            break
        done[column] = True
        at = int(row_of[column])
    row_price[row] += reached
    row_price[row_of[done]] += reached - distance[done]
    column_price[done] += distance[done] - reached
    while column >= 0:
        before = int(came_from[column])
        row_of[column] = row if before < 0 else row_of[before]
        column = before
