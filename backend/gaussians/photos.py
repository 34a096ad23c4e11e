"""Photos of a cloud of Gaussians that know their camera and how far away everything in them is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from kernels import rasterization
from kernels.spherical_harmonics import view_dependent_colors

from ..cameras import intrinsics, opencv_from_world
from ..shared.ply import GaussianCloud
from ..shared.sequence_file import Blending
from .color import decode, encode

SOLID = 0.5  # what hides at least this part of what is behind it is the object
_LAYERS = 24  # in depth, by which the front of the object is told from what shines through it


@dataclass(frozen=True)
class Photo:
    """One image, what of it is the object, and how far away that is."""

    viewmat: Tensor  # [4, 4] camera from world, OpenCV's axes
    K: Tensor  # [3, 3] pixels; of an orthographic photo, pixels per metre
    perspective: bool
    rgba: Tensor  # [H, W, 4] sRGB, multiplied by alpha, so that it may be interpolated
    depth: Tensor  # [H, W] metres along the camera's axis; infinite where the cloud is not solid
    blur_px: int = 1  # how far a pixel's colour may come from its neighbours

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points [..., 3] are in the photo: pixels [..., 2], and metres along the axis [...]."""
        seen = points @ self.viewmat[:3, :3].T + self.viewmat[:3, 3]
        depth = seen[..., 2]
        flat = seen[..., :2] / depth[..., None].clamp_min(1e-6) if self.perspective else seen[..., :2]
        return flat * self.K[[0, 1], [0, 1]] + self.K[:2, 2], depth

    def towards(self, points: Tensor) -> Tensor:
        """Unit vectors [..., 3] from points to the camera."""
        if not self.perspective:
            return -self.viewmat[2, :3].expand_as(points)
        return torch.nn.functional.normalize(self.eye - points, dim=-1)

    @property
    def eye(self) -> Tensor:
        """Where the camera stands: [3]."""
        return -self.viewmat[:3, :3].T @ self.viewmat[:3, 3]

    def pixel_m(self, depth: Tensor) -> Tensor:
        """The side of a pixel's footprint at a distance, in metres."""
        return (depth if self.perspective else torch.ones_like(depth)) / self.K[0, 0]


def sample(image: Tensor, where: Tensor, mode: str = "bilinear") -> Tensor:  # [H, W, C], [N, 2] -> [N, C]
    """Values of an image at places in pixels (the centre of the first is 0.5); 0 outside."""
    height, width, _ = image.shape
    grid = where / where.new_tensor([width, height]) * 2 - 1
    values = grid_sample(image.movedim(-1, 0)[None], grid[None, None], mode, "zeros", align_corners=False)
    return values[0, :, 0].T


def photograph(
    cloud: GaussianCloud,
    viewmat: Tensor,  # [4, 4]
    K: Tensor,  # [3, 3]
    size_px: tuple[int, int],  # height, width
    *,
    perspective: bool,
    blending: Blending,
) -> Photo:
    """Takes a photo of the Gaussians themselves."""
    means, quats, scales, opacities, sh = (
        torch.from_numpy(values).float()
        for values in (cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.sh)
    )
    ahead = viewmat[2, :3]
    eye = -viewmat[:3, :3].T @ viewmat[:3, 3]
    colors = view_dependent_colors(
        cloud.sh_degree, means - eye if perspective else ahead.expand_as(means), sh
    )
    colors = decode(colors, blending)
    distances = (means - eye) @ ahead
    layers = torch.linspace(float(distances.min()), float(distances.max()) + 1e-6, _LAYERS)
    place = (distances - layers[0]) / (layers[1] - layers[0])
    shares = (1 - (place[:, None] - torch.arange(_LAYERS)).abs()).clamp_min(0)  # [N, L]
    height, width = size_px
    image, alpha, _ = rasterization(
        means, quats, scales, opacities, torch.cat([colors, shares], -1), viewmat[None], K[None],
        width, height, camera_model="pinhole" if perspective else "ortho",
    )  # fmt: skip
    alpha = alpha[0]
    color = encode(image[0, ..., :3] / alpha.clamp_min(1e-6), blending)
    depth = _front(image[0, ..., 3:], layers)
    depth = torch.where(alpha[..., 0] > SOLID, depth, math.inf)
    return Photo(viewmat, K, perspective, torch.cat([color * alpha, alpha], -1), depth)


def _front(shares: Tensor, layers: Tensor) -> Tensor:  # [H, W, L], [L] -> [H, W]
    """How far away the first thing is that is more than half of what a pixel shows.

    The mean over everything would lie between the front and whatever shines through from behind. Each splat
    is shared by the two layers beside it, so the mean over the layers about the median is exact.
    """
    seen = shares.cumsum(-1)
    middle = (seen < 0.5 * seen[..., -1:]).sum(-1, keepdim=True).clamp_max(len(layers) - 1)
    about = (middle + torch.tensor([-1, 0, 1])).clamp(0, len(layers) - 1)
    weights = shares.gather(-1, about)
    weights[..., 0] *= middle[..., 0] > 0
    weights[..., 2] *= middle[..., 0] < len(layers) - 1
    return (weights * layers[about]).sum(-1) / weights.sum(-1).clamp_min(1e-6)


def all_around(
    cloud: GaussianCloud,
    centre: Tensor,  # [3]
    radius: float,  # of the ball that is seen
    count: int,
    size_px: int,
    blending: Blending,
) -> Iterator[Photo]:
    """Orthographic photos from evenly spread directions, above and below too (a Fibonacci lattice)."""
    half = 0.5 * size_px
    K = torch.tensor([[half / radius, 0.0, half], [0.0, half / radius, half], [0.0, 0.0, 1.0]])
    for i in range(count):
        z = 1 - (2 * i + 1) / count
        azimuth = i * math.pi * (3 - math.sqrt(5))
        ring = math.sqrt(1 - z * z)
        back = torch.tensor([ring * math.cos(azimuth), ring * math.sin(azimuth), z])
        right = torch.tensor([-math.sin(azimuth), math.cos(azimuth), 0.0])
        world_from_camera = torch.eye(4)
        world_from_camera[:3] = torch.stack(
            [right, torch.linalg.cross(back, right), back, centre + 2 * radius * back], dim=-1
        )
        viewmat = opencv_from_world(world_from_camera)
        yield photograph(cloud, viewmat, K, (size_px, size_px), perspective=False, blending=blending)


def given(
    view: Tensor,  # [3|4, H, W] sRGB, straight alpha
    camera: Tensor,  # [4, 4] camera-to-world, Blender's axes
    fov_deg: float,
    cloud: GaussianCloud,
    least_px: int,
    blending: Blending,
) -> Photo:
    """A view with the distances of the Gaussians in it, enlarged until these are fine enough.

    Where the view has no alpha, that of the Gaussians says what is the object.
    """
    times = max(1, -(-least_px // min(view.shape[1:])))
    size = (view.shape[1] * times, view.shape[2] * times)
    viewmat, K = opencv_from_world(camera.float()), intrinsics(fov_deg, size[1], size[0])
    own = photograph(cloud, viewmat, K, size, perspective=True, blending=blending)
    color, alpha = view[:3].float(), view[3:].float()
    rgba = torch.cat([color * alpha, alpha]) if len(alpha) else color
    rgba = torch.nn.functional.interpolate(rgba[None], size, mode="bilinear", align_corners=False)[0]
    rgba = rgba.movedim(0, -1)
    if not len(alpha):
        rgba = torch.cat([rgba * own.rgba[..., 3:], own.rgba[..., 3:]], -1)
    return dataclasses.replace(own, rgba=rgba, blur_px=times)
