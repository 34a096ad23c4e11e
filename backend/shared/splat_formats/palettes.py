"""Few values that stand for many: 256 numbers for a channel, or clusters for whole rows."""

from __future__ import annotations

import numpy as np

_SAMPLE = 1 << 18  # values that are enough to place 256 by
_ROUNDS = 16


def codebook(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 numbers near which all values lie (Lloyd 1982, in one dimension), and which of them each value is.

    Returns:
        [256] float32 in rising order, and indices [*values.shape] uint8.
    """
    flat = np.sort(np.asarray(values, np.float64).ravel())
    sample = flat[:: max(1, len(flat) // _SAMPLE)]
    sums = np.concatenate([[0], np.cumsum(sample)])
    # Evenly over the values and evenly over their range, by halves: neither the many nor the rare are lost.
    book = np.sort(
        np.concatenate([np.quantile(sample, np.linspace(0, 1, 128)), np.linspace(flat[0], flat[-1], 128)])
    )
    for _ in range(_ROUNDS):
        ends = np.searchsorted(sample, (book[1:] + book[:-1]) / 2)
        starts, ends = np.concatenate([[0], ends]), np.concatenate([ends, [len(sample)]])
        full = ends > starts
        book[full] = (sums[ends[full]] - sums[starts[full]]) / (ends - starts)[full]
        book.sort()
    book = book.astype(np.float32)
    return book, np.searchsorted((book[1:] + book[:-1]) / 2, values).astype(np.uint8)


def clusters(rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many rows that stand for all, and which of them each row is.

    The rows are halved again and again where they differ most, as in a k-d tree (Bentley 1975), and every
    part is its mean: seconds where k-means takes minutes. `most` is a power of two.

    Returns:
        [M, D] float32, and indices [N].
    """
    count = len(rows)
    if count <= most:
        return np.asarray(rows, np.float32), np.arange(count)
    order = np.arange(count)[None]
    spare = -count % most
    order = np.concatenate([order, order[:, :spare]], axis=1)  # equal halves to the end; a few count twice
    while len(order) < most:
        parts, size = order.shape
        axis = np.array([rows[part].var(axis=0).argmax() for part in order])
        keys = rows[order, axis[:, None]]
        halves = np.argpartition(keys, size // 2 - 1, axis=1)
        order = np.take_along_axis(order, halves, axis=1).reshape(2 * parts, size // 2)
    means = np.stack([rows[order[:, i]] for i in range(order.shape[1])]).mean(axis=0)
    labels = np.empty(count, np.int64)
    labels[order.ravel()] = np.repeat(np.arange(len(order)), order.shape[1])
    return means.astype(np.float32), labels
