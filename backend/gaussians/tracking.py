"""Tracks one set of Gaussians through all frames of a multi-view video: dynamic splats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cameras import project
from ..shared.ply import GaussianCloud
from ..shared.sequence_file import Blending
from .fitting import SplatParameters, fit
from .rigidity import (
    Neighbours,
    Parts,
    conjugate,
    multiply,
    neighbours,
    parts_of,
    rigidity,
    rotate,
    roughness,
    same_hemisphere,
)
from .targets import Targets


class Pose(NamedTuple):
    """Where the Gaussians are in a frame, or in all of them."""

    means: Tensor  # [..., N, 3]
    quats: Tensor  # [..., N, 4]


_BLENDING: Blending = "linear"
_NEIGHBOURS = 8
_PARTS = 48
_RIGID, _SMOOTH = 0.02, 0.02  # weights beside the mean absolute error of the images
_APPEARANCE_RATES = {"log_scales": 0.01, "logits": 0.02, "sh": 0.01, "sh_rest": 0.0005}


@dataclass(frozen=True)
class Effort:
    """How many steps of Adam each part of the work takes."""

    canonical: int = 240
    whole: int = 24  # of each frame, moving everything as one
    parts: int = 40  # of each frame, moving parts
    each: int = 60  # of each frame, moving every Gaussian
    together: int = 40  # a step draws a view of every frame

    def total(self, frames: int) -> int:
        """Steps for a whole sequence."""
        return self.canonical + (frames - 1) * (self.whole + self.parts + self.each) + self.together


def track(
    images: Tensor,  # [V, F, 4, H, W] sRGB, straight alpha, 0..1
    cameras: Tensor,  # [V, 4, 4] camera-to-world, Blender's axes, still
    fov_deg: float,
    start: Sequence[GaussianCloud],  # [F]
    effort: Effort = Effort(),
    seed: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> list[GaussianCloud]:
    """One cloud per frame, all of the same Gaussians in the same order: only places and rotations differ.

    A canonical cloud is fitted to the frame that `start` shows best, and what fewer than two views look at is
    left out of it. From there it is followed outwards, frame by frame: each begins where the last two frames'
    velocity leads, is moved as a whole, in parts, then Gaussian by Gaussian. In the end all frames, and the
    appearance that they share, are fitted together. Neighbourhoods are kept rigid throughout. Harmonics above
    degree 0 do not turn with the Gaussians.

    Args:
        start: clouds of each frame, as a feed-forward reconstructor makes them, which need not correspond.
            The canonical one begins as that of its frame.
        on_step: called with the steps done and their total; may raise.

    Raises:
        ValueError: sizes do not fit together.

    Source: Luiten et al., Dynamic 3D Gaussians (2023); its regularisers are in `rigidity`.
    """
    _check(images, cameras, start)
    frames, total, done = images.shape[1], effort.total(images.shape[1]), 0

    def step_done(*_: object) -> None:
        nonlocal done
        done += 1
        if on_step:
            on_step(done, total)

    targets = Targets(images, cameras.float(), fov_deg, _BLENDING, seed)
    key = _best_frame(targets, start)
    canonical = fit(
        start[key], images[:, key], cameras, fov_deg, effort.canonical, _BLENDING, seed, step_done
    )
    canonical = _located(canonical, cameras.float(), fov_deg, *images.shape[-2:])
    rest = SplatParameters.of(canonical).map(Tensor.detach)
    near = neighbours(rest.means, _NEIGHBOURS)
    whole, parts = (parts_of(rest.means, many) for many in (1, _PARTS))

    poses = {key: Pose(rest.means, rest.quats)}
    for frame in [*range(key + 1, frames), *range(key - 1, -1, -1)]:
        back = 1 if frame < key else -1
        pose = _moved_on(poses[frame + back], poses.get(frame + 2 * back))
        pose = _follow_parts(pose, rest, whole, frame, targets, effort.whole, step_done)
        pose = _follow_parts(pose, rest, parts, frame, targets, effort.parts, step_done)
        poses[frame] = _follow_each(pose, rest, near, frame, targets, effort.each, step_done)

    moving = Pose(*(torch.stack(values) for values in zip(*(poses[i] for i in range(frames)), strict=True)))
    _fit_together(moving, rest, near, targets, effort.together, step_done)
    return _clouds(moving, rest)


@torch.no_grad()
def _best_frame(targets: Targets, start: Sequence[GaussianCloud]) -> int:
    views = range(len(targets.pixels))
    errors = [
        sum(float(targets.error(SplatParameters.of(cloud), frame, view)) for view in views)
        for frame, cloud in enumerate(start)
    ]
    return int(np.argmin(errors))


def _located(
    cloud: GaussianCloud,
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    fov_deg: float,
    height: int,
    width: int,
) -> GaussianCloud:
    """The Gaussians that two views look at. Nothing says how far away others are, and so they float."""
    where, ahead = project(torch.from_numpy(cloud.means), cameras, fov_deg, width, height)
    views = ((where.abs() <= 1).all(-1) & (ahead > 0)).sum(0)
    kept = (views >= views.max().clamp_max(2)).numpy()
    return cloud.only(kept)


def _moved_on(last: Pose, before: Pose | None) -> Pose:
    """Where the Gaussians will be if they go on as from the frame before the last to the last."""
    if before is None:
        return last
    turn = multiply(last.quats, conjugate(before.quats))
    return Pose(2 * last.means - before.means, _unit(multiply(turn, last.quats)))


def _follow_parts(
    pose: Pose,
    rest: SplatParameters,
    parts: Parts,
    frame: int,
    targets: Targets,
    steps: int,
    on_step: Callable[[], None],
) -> Pose:
    """Turns and shifts parts, and all Gaussians with those they belong to: large motion moves many alike."""
    centers = pose.means[parts.centers]  # [P, 3]
    size = float((pose.means - pose.means.mean(0)).norm(dim=-1).mean())
    turns, shifts = (torch.zeros(len(centers), 3, requires_grad=True) for _ in range(2))
    optimizer, decay = _adam([{"params": [turns, shifts], "lr": 0.02}], steps)

    def part_poses() -> tuple[Tensor, Tensor]:
        return _unit(torch.cat([torch.ones(len(turns), 1), turns], -1)), centers + size * shifts

    def moved() -> Pose:
        quats, places = part_poses()
        matrices = rotate(quats.unsqueeze(1), torch.eye(3)).mT  # [P, 3, 3]
        offsets = places - (matrices @ centers.unsqueeze(-1)).squeeze(-1)
        matrix, offset = (parts.weights @ values.flatten(1) for values in (matrices, offsets))
        means = (matrix.unflatten(1, (3, 3)) @ pose.means.unsqueeze(-1)).squeeze(-1) + offset
        return Pose(means, _unit(multiply(parts.weights @ quats, pose.quats)))

    for _ in range(steps):
        error = targets.error(_posed(rest, moved()), frame)
        if parts.near is not None:
            quats, places = part_poses()
            turned = _unit(multiply(quats, pose.quats[parts.centers]))
            c = parts.centers
            stiff = rigidity(places[None], turned[None], rest.means[c], rest.quats[c], parts.near)
            error = error + _RIGID * stiff
        _step(error, optimizer, decay)
        on_step()
    return Pose(*(values.detach() for values in moved()))


def _follow_each(
    pose: Pose,
    rest: SplatParameters,
    near: Neighbours,
    frame: int,
    targets: Targets,
    steps: int,
    on_step: Callable[[], None],
) -> Pose:
    """Moves and turns every Gaussian, neighbourhoods staying as rigid as the images let them."""
    pose = Pose(*(values.clone().requires_grad_() for values in pose))
    optimizer, decay = _adam(_motion_rates(pose, rest), steps)
    for _ in range(steps):
        stiff = rigidity(pose.means[None], _unit(pose.quats)[None], rest.means, rest.quats, near)
        _step(targets.error(_posed(rest, pose), frame) + _RIGID * stiff, optimizer, decay)
        on_step()
    return Pose(pose.means.detach(), _unit(pose.quats.detach()))


def _fit_together(
    moving: Pose,  # means [F, N, 3], quats [F, N, 4]; changed in place, as is `rest`
    rest: SplatParameters,
    near: Neighbours,
    targets: Targets,
    steps: int,
    on_step: Callable[[], None],
) -> None:
    """Fits all frames and the appearance they share, with velocities that change little."""
    frames = len(moving.means)
    for frame in range(1, frames):
        moving.quats[frame] = same_hemisphere(moving.quats[frame], moving.quats[frame - 1])
    rest_means, rest_quats = rest.means.clone(), rest.quats.clone()
    for values in moving:
        values.requires_grad_()
    rates = [
        {"params": [getattr(rest, name).requires_grad_()], "lr": rate}
        for name, rate in _APPEARANCE_RATES.items()
    ]
    optimizer, decay = _adam(_motion_rates(moving, rest, 0.3) + rates, steps)
    for _ in range(steps):
        quats = _unit(moving.quats)
        loss = _RIGID * rigidity(moving.means, quats, rest_means, rest_quats, near)
        loss = loss + _SMOOTH * roughness(moving.means, quats, near.spacing)
        for frame in range(frames):
            pose = Pose(moving.means[frame], moving.quats[frame])
            loss = loss + targets.error(_posed(rest, pose), frame) / frames
        _step(loss, optimizer, decay)
        on_step()


def _motion_rates(pose: Pose, rest: SplatParameters, share: float = 1.0) -> list[dict]:
    """Adam's groups for places and rotations; places move in units of the splats' typical size."""
    size = float(rest.log_scales.detach().exp().median())
    return [
        {"params": [pose.means], "lr": 0.3 * size * share},
        {"params": [pose.quats], "lr": 0.03 * share},
    ]


def _adam(groups: list[dict], steps: int) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.ExponentialLR]:
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / max(steps, 1)))


def _step(loss: Tensor, optimizer: torch.optim.Adam, decay: torch.optim.lr_scheduler.ExponentialLR) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    decay.step()


def _posed(rest: SplatParameters, pose: Pose) -> SplatParameters:
    """The Gaussians with their appearance at rest, and their places and rotations in a frame."""
    return replace(rest, means=pose.means, quats=pose.quats)


def _unit(quats: Tensor) -> Tensor:
    return torch.nn.functional.normalize(quats, dim=-1)


def _clouds(moving: Pose, appearance: SplatParameters) -> list[GaussianCloud]:
    """The frames as clouds; what does not move is one array in all of them."""
    shared = appearance.to_cloud()
    means, quats = moving.means.detach(), _unit(moving.quats.detach())
    return [
        replace(shared, means=mean.numpy().copy(), quats=quat.numpy().copy())
        for mean, quat in zip(means, quats, strict=True)
    ]


def _check(images: Tensor, cameras: Tensor, start: Sequence[GaussianCloud]) -> None:
    if images.dim() != 5 or images.shape[2] != 4:
        raise ValueError(f"images are {list(images.shape)}, expected [V, F, 4, H, W]")
    views, frames = images.shape[:2]
    if tuple(cameras.shape) != (views, 4, 4):
        raise ValueError(f"cameras are {list(cameras.shape)}, expected [{views}, 4, 4]: one for each view")
    if len(start) != frames:
        raise ValueError(f"{len(start)} clouds to start from for {frames} frames: give one for each")
