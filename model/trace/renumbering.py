"""Find a permutation of a layer's experts that explains why two traces select differently.

Some loaders, converters and placements reorder a layer's experts. The search is a linear assignment. It takes the
permutation with the highest correlation of affinities; without recorded affinities, the one whose pairs of experts
share the most tokens. With few tokens some permutation always fits. A permutation is therefore accepted only if it
explains more than the best permutation for shuffled tokens.

    >>> counts = np.array([[0, 5, 1], [4, 0, 0], [1, 0, 3]])
    >>> best_assignment(counts).tolist()
    [1, 0, 2]
"""

import dataclasses

import numpy as np

BY_SCORES, BY_CHOICES = "affinities", "choices"
NEEDED = 0.9  # smallest share that a renumbering must explain; the rest may be rounding
GAINED = 0.2  # smallest gain in agreement over the unchanged numbers
SHUFFLES = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Renumbering:
    """A permutation of a layer's experts. Agreement is the share of equal choices, or a mean correlation of affinities.

    Attributes:
        order: for each expert of the first trace, its number in the second, [expert].
        basis: what the agreement compares: `affinities` or `choices`.
        explained: agreement with the permutation.
        as_numbered: agreement without the permutation.
        by_chance: upper bound on the agreement of any permutation for shuffled tokens, simulated with a fixed seed.
        unsettled: number of experts whose place in `order` is arbitrary, because they have no token.
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
    """Return the permutation that explains the differing selections; None if none explains them or none is needed.

    Args:
        chosen_a: selected experts, [token, expert] bool.
        chosen_b: selected experts of the aligned tokens in the other trace, [token, expert] bool.
        scores_a: affinities, [token, expert]; None if not recorded. They identify experts better than selections do: a
            permutation across groups also changes selections, and some experts have no token.
        scores_b: affinities in the other trace; None if not recorded. Scores that are not finite are ignored.
    """
    if scores_a is not None and scores_b is not None and np.isfinite(scores_a).all() and np.isfinite(scores_b).all():
        by_scores = _search(BY_SCORES, _standardised(scores_a), _standardised(scores_b), scores_a.size)
        if by_scores is not None:
            return by_scores
    return _search(BY_CHOICES, chosen_a.astype(np.float32), chosen_b.astype(np.float32), int(chosen_a.sum()))


def _standardised(scores: np.ndarray) -> np.ndarray:
    """Return the columns scaled to mean 0 and standard deviation 1; constant columns become 0."""
    centred = scores - scores.mean(0, dtype=np.float64)  # float32 would overflow with a damaged model's scores
    spread = centred.std(0)
    return centred / np.where(spread > 0, spread, np.inf)


def _search(basis: str, first: np.ndarray, second: np.ndarray, total: int) -> Renumbering | None:
    """Return the permutation for which the paired columns have the largest sum of products.

    None if that permutation explains too little.
    """
    if total == 0:
        return None
    profit = first.T @ second / total
    as_numbered = float(np.trace(profit))
    needed = max(NEEDED, as_numbered + GAINED)
    if profit.max(1).sum() < needed:  # no permutation can explain enough
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
    """Return the column of each row of a square matrix in the assignment with the largest total profit.

    The method is shortest augmenting paths with dual prices (Jonker and Volgenant 1987), row by row.
    """
    cost, size = np.asarray(-profit, np.float64), len(profit)
    row_price, column_price = cost.min(1), np.zeros(size)
    row_of = np.full(size, -1)
    for row in range(size):
        _augment(cost, row, row_price, column_price, row_of)
    return np.argsort(row_of)


def _augment(cost: np.ndarray, row: int, row_price: np.ndarray, column_price: np.ndarray, row_of: np.ndarray) -> None:
    """Assign `row` a column along the shortest augmenting path, and update the dual prices in place."""
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
