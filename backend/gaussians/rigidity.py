"""Regularisers of dynamic Gaussians: local rigidity, and smooth velocities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 1024  # Gaussians whose distances to all others are held at once


class Neighbours(NamedTuple):
    """The nearest Gaussians of each, and how much they should have in common with it."""

    indices: Tensor  # [N, K]
    weights: Tensor  # [N, K], 0..1, less for those farther away
    spacing: float  # metres, the typical distance to a neighbour: the unit of the losses below


def neighbours(means: Tensor, count: int) -> Neighbours:  # [N, 3]
    """The `count` nearest of every Gaussian, itself not among them."""
    count = min(count, len(means) - 1)
    found = [
        torch.cdist(part, means).topk(count + 1, largest=False, sorted=True) for part in means.split(_CHUNK)
    ]
    distance = torch.cat([part.values for part in found])[:, 1:]
    index = torch.cat([part.indices for part in found])[:, 1:]
    spacing = float(distance.mean().clamp_min(1e-9))
    return Neighbours(index, torch.exp(-((distance / (2 * spacing)) ** 2)), spacing)


class Parts(NamedTuple):
    """A few Gaussians that the others follow, each those that it lies between."""

    centers: Tensor  # [P] indices
    weights: Tensor  # [N, P], sums of 1
    near: Neighbours | None  # among the centres; None where there is one part


def parts_of(means: Tensor, count: int) -> Parts:  # [N, 3]
    """Centres far from each other (farthest-point sampling), and Gaussians between those near to them."""
    count = min(count, len(means))
    distance = (means - means.mean(0)).norm(dim=-1)
    centers = [int(distance.argmin())]
    distance = (means - means[centers[0]]).norm(dim=-1)
    while len(centers) < count:
        centers.append(int(distance.argmax()))
        distance = torch.minimum(distance, (means - means[centers[-1]]).norm(dim=-1))
    index = torch.tensor(centers)
    reach = float(distance.mean().clamp_min(1e-9))
    weights = torch.softmax(-((torch.cdist(means, means[index]) / reach) ** 2) / 2, dim=-1)
    return Parts(index, weights, neighbours(means[index], 6) if count > 1 else None)


def rigidity(
    means: Tensor,  # [F, N, 3]
    quats: Tensor,  # [F, N, 4], unit length
    rest_means: Tensor,  # [N, 3]
    rest_quats: Tensor,  # [N, 4], unit length
    near: Neighbours,
) -> Tensor:
    """How far neighbourhoods are from being the resting ones turned as a whole; 0 for a rigid motion.

    The first part compares where neighbours are with where the Gaussian's own rotation would put them, in
    units of their spacing; the second compares the neighbours' rotations with it.

    Source: Luiten et al., Dynamic 3D Gaussians (2023), equations 5 and 6, with the resting pose in place of
    the previous frame's: errors do not add up over the frames, and its equation 7 (distances) follows.
    """
    turns = multiply(quats, conjugate(rest_quats))  # [F, N, 4], from rest to now
    pose = torch.cat([means, turns], -1)
    change = pose.index_select(1, near.indices.flatten()).unflatten(1, near.indices.shape) - pose.unsqueeze(2)
    offset, twist = change.split([3, 4], -1)  # [F, N, K, 3], [F, N, K, 4]
    rest = rest_means[near.indices] - rest_means.unsqueeze(1)
    apart = (offset - rotate(turns.unsqueeze(2), rest)) / near.spacing
    return ((_length(apart) + _length(twist)) * near.weights).mean()


def roughness(means: Tensor, quats: Tensor, spacing: float) -> Tensor:  # [F, N, 3], [F, N, 4]
    """How much velocities change from frame to frame; 0 for steady motion, and for fewer than 3 frames."""
    if len(means) < 3:
        return means.new_zeros(())
    jerk = means[2:] - 2 * means[1:-1] + means[:-2]
    turn = quats[2:] - 2 * quats[1:-1] + quats[:-2]
    return (_length(jerk) / spacing + _length(turn)).mean()


def same_hemisphere(quats: Tensor, reference: Tensor) -> Tensor:  # [..., 4]
    """The same rotations, as those of their two quaternions that lie nearer to `reference`."""
    return torch.where((quats * reference).sum(-1, keepdim=True) < 0, -quats, quats)


def multiply(a: Tensor, b: Tensor) -> Tensor:  # [..., 4] w x y z
    """The rotation `b` followed by `a`."""
    w, u = a[..., :1], a[..., 1:]
    v, x = b[..., :1], b[..., 1:]
    real = w * v - (u * x).sum(-1, keepdim=True)
    return torch.cat([real, w * x + v * u + torch.linalg.cross(*torch.broadcast_tensors(u, x))], -1)


def conjugate(quats: Tensor) -> Tensor:  # [..., 4]
    """The opposite rotations, of unit quaternions."""
    return torch.cat([quats[..., :1], -quats[..., 1:]], -1)


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:  # [..., 4] unit length, [..., 3]
    """Vectors turned by rotations."""
    u, vectors = torch.broadcast_tensors(quats[..., 1:], vectors)
    once = 2 * torch.linalg.cross(u, vectors)
    return vectors + quats[..., :1] * once + torch.linalg.cross(u, once)


def _length(vectors: Tensor) -> Tensor:
    """Their lengths, with a gradient that is finite at zero."""
    return (vectors.square().sum(-1) + 1e-8).sqrt() - 1e-4
