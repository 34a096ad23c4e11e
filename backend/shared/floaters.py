"""Floaters: splats that hardly show, and small groups of splats that hang apart from the object."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .ply import GaussianCloud

INVISIBLE = 1 / 255  # opacity; below, a splat changes no pixel of 8 bits
APART = 0.05  # of the object's size: a gap as wide parts two groups
SMALL = 0.02  # of all that shows: a group that is less is a floater
_INSIDE = (0.02, 0.98)  # of the splats, by opacity: between, along every axis, is the object's size


def floaters(
    clouds: Sequence[GaussianCloud], min_opacity: float = INVISIBLE, distance: float = APART
) -> np.ndarray:  # [N] bool
    """Which splats of an object are floaters, in all of its frames.

    Splats belong together where steps of about `distance` lead from one to the other. What a group shows is
    reckoned by opacity and area. The largest group is never a floater.

    Args:
        clouds: the frames of tracked splats, or one cloud.
        min_opacity: fainter splats are floaters wherever they are.
        distance: of the object's longest side; 0 leaves all groups.
    """
    gone = np.ones(len(clouds[0]), bool)
    for cloud in clouds:
        gone &= _floaters_of(cloud, min_opacity, distance)
    return gone


def _shown(cloud: GaussianCloud) -> np.ndarray:  # [N]
    """How much of an image each splat fills, roughly: its opacity times its largest outline."""
    scales = np.sort(cloud.scales.astype(np.float64), axis=1)
    area: np.ndarray = cloud.opacities * scales[:, 1] * scales[:, 2]
    return area


def _floaters_of(cloud: GaussianCloud, min_opacity: float, distance: float) -> np.ndarray:  # [N] bool
    gone: np.ndarray = cloud.opacities < min_opacity
    left = np.flatnonzero(~gone)
    if not len(left) or distance <= 0:
        return gone
    means = cloud.means[left].astype(np.float64)
    cell = distance * _longest_side(means, cloud.opacities[left].astype(np.float64))
    if cell <= 0:
        return gone
    group = _groups(np.floor(means / cell).astype(np.int64))
    shown = np.bincount(group, _shown(cloud)[left])
    small = shown < SMALL * shown.sum()
    small[shown.argmax()] = False
    gone[left[small[group]]] = True
    return gone


def _longest_side(means: np.ndarray, weights: np.ndarray) -> float:  # [N, 3], [N]
    sides = []
    for values in means.T:
        order = np.argsort(values)
        summed = np.cumsum(weights[order])
        low, high = np.searchsorted(summed, np.array(_INSIDE) * summed[-1])
        sides.append(values[order][high] - values[order][low])
    return float(max(sides))


def _groups(places: np.ndarray) -> np.ndarray:  # [N, 3] whole numbers -> [N] numbers of groups from 0
    """Connected components of cells, of which each touches 26 others."""
    cells, cell_of = np.unique(places, axis=0, return_inverse=True)
    spread = cells.max(axis=0) - cells.min(axis=0) + 3
    steps = np.array([spread[1] * spread[2], spread[2], 1], np.float64)
    keys = (cells - cells.min(axis=0) + 1) @ steps  # in the order of the cells; exact up to 2^53
    pairs = []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        if offset > (0, 0, 0):  # the other half are the same pairs
            wanted = keys + np.array(offset) @ steps
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            here = np.flatnonzero(keys[at] == wanted)
            pairs.append(np.stack([here, at[here]]))
    one, other = np.concatenate(pairs, axis=1)
    label = np.arange(len(cells))
    # The least label of the neighbours, and the label of that: few rounds (Shiloach and Vishkin 1982).
    while True:
        least = np.minimum(label[one], label[other])
        following = label.copy()
        np.minimum.at(following, label[one], least)
        np.minimum.at(following, label[other], least)
        while not np.array_equal(following, following[following]):
            following = following[following]
        if np.array_equal(following, label):
            break
        label = following
    return np.unique(label, return_inverse=True)[1][cell_of.reshape(-1)]
