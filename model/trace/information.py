"""Mutual information of expert and label, from the selections of each document.

Shape suffixes: D documents, K labels, L MoE layers, E experts.

    >>> counts_DLE = np.array([[[4, 0]], [[4, 0]], [[0, 4]], [[0, 4]]])
    >>> (mutual_information(counts_by_label(counts_DLE, np.array([0, 0, 1, 1]))) / np.log(2)).round(6).tolist()
    [1.0]
"""

import numpy as np


def mutual_information(counts_KLE: np.ndarray) -> np.ndarray:
    """Return the mutual information in nats, [..., L], from selections of each label at each expert, [..., K, L, E]."""
    joint = counts_KLE / counts_KLE.sum((-3, -1), keepdims=True)
    product = joint.sum(-3, keepdims=True) * joint.sum(-1, keepdims=True)
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log(ratio)).sum((-3, -1))


def counts_by_label(counts_DLE: np.ndarray, label_D: np.ndarray) -> np.ndarray:
    """Return the selections of each label at each expert, [K, L, E]; `label_D` holds numbers from 0."""
    counts_KLE = np.zeros((int(label_D.max()) + 1, *counts_DLE.shape[1:]), np.int64)
    np.add.at(counts_KLE, label_D, counts_DLE)
    return counts_KLE
