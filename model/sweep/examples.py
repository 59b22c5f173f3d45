"""Short texts around the tokens that selected an expert with the largest gate weight."""

from collections.abc import Mapping, Sequence

import numpy as np

from model.checkpoint.tokenizer import Tokenizer

PER_EXPERT = 8  # examples of an expert, at most one per document
_AROUND = 48  # characters of text on each side
_TOKENS_AROUND = 24


class Examples:
    """The best examples of each expert in a shard.

    Shape suffixes: N tokens of a document, L MoE layers, K selected experts, E experts.
    """

    def __init__(self, layers: int, experts: int) -> None:
        self._best: dict[tuple[int, int], list[tuple[float, int, int]]] = {}  # weight, document, position
        self._lowest_LE = np.full((layers, experts), -np.inf)  # weight below which a token is no example

    def add(self, number: int, positions: np.ndarray, ids_NLK: np.ndarray, weights_NLK: np.ndarray) -> None:
        """Consider the tokens of a document; documents come once each."""
        layers = np.arange(ids_NLK.shape[1])[:, None]
        token, layer, rank = np.nonzero(weights_NLK > self._lowest_LE[layers, ids_NLK])
        weight = weights_NLK[token, layer, rank].astype(np.float64)
        expert = ids_NLK[token, layer, rank]
        order = np.lexsort((token, -weight, expert, layer))  # of each expert the best token comes first
        cell = layer[order] * self._lowest_LE.shape[1] + expert[order]
        best = order[np.flatnonzero(np.diff(cell, prepend=-1))]
        for index in best:
            key = int(layer[index]), int(expert[index])
            best_of = self._best.setdefault(key, [])
            best_of.append((float(weight[index]), number, int(positions[token[index]])))
            best_of.sort(key=lambda entry: (-entry[0], entry[1]))
            del best_of[PER_EXPERT:]
            if len(best_of) == PER_EXPERT:
                self._lowest_LE[key] = best_of[-1][0]

    def columns(
        self,
        layers: Sequence[int],
        doc_ids: Mapping[int, str],
        token_ids: Mapping[int, np.ndarray],
        tokenizer: Tokenizer,
    ) -> dict[str, list[object]]:
        """Return the columns of the table `examples`.

        Args:
            layers: numbers of the MoE layers.
            doc_ids: id of each document of the shard.
            token_ids: tokens of each document that has an example.
            tokenizer: gives their text.
        """
        columns: dict[str, list[object]] = {
            name: [] for name in ("layer", "expert", "weight", "doc_id", "position", "before", "token", "after")
        }
        for (layer, expert), entries in sorted(self._best.items()):
            for weight, document, position in entries:
                texts = around(token_ids[document], position, tokenizer)
                row = (layers[layer], expert, weight, doc_ids[document], position, *texts)
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
        return columns


def around(token_ids: np.ndarray, position: int, tokenizer: Tokenizer) -> tuple[str, str, str]:
    """Return the text before a token, of the token, and after it; a broken character is shown as a question mark."""
    before = tokenizer.decode(token_ids[max(0, position - _TOKENS_AROUND) : position].tolist())
    after = tokenizer.decode(token_ids[position + 1 : position + 1 + _TOKENS_AROUND].tolist())
    token_id = int(token_ids[position])
    token = tokenizer.token_bytes(token_id).decode(errors="replace") or tokenizer.piece(token_id)
    return before.decode(errors="replace")[-_AROUND:], token, after.decode(errors="replace")[:_AROUND]
