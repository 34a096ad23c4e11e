"""Where the views of an object stand, and the rays they see.

Cameras are Blender's `matrix_world`: camera-to-world, looking down -Z with +Y up, in a Z-up world.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Turns a Blender camera (looks down -Z, +Y up) into an OpenCV one (looks down +Z, +Y down), and back.
_FLIP_YZ = torch.tensor([1.0, -1.0, -1.0, 1.0])


def orbit(
    num_views: int,
    elevation_deg: float,
    radius: float,
    azimuth_start_deg: float = 0.0,
) -> Tensor:  # [V, 4, 4]
    """Cameras evenly spaced on a circle around the origin, all looking at it.

    View 0 stands on +X (turned by `azimuth_start_deg`); the next ones follow counter-clockwise seen from +Z.

    Source: VideoMV's orbit in closed form.
    """
    azimuth = torch.arange(num_views, dtype=torch.float64) * (2 * math.pi / num_views)
    azimuth = azimuth + math.radians(azimuth_start_deg)
    elevation = math.radians(elevation_deg)
    cos_a, sin_a = azimuth.cos(), azimuth.sin()
    back = torch.stack(
        [
            math.cos(elevation) * cos_a,
            math.cos(elevation) * sin_a,
            torch.full_like(cos_a, math.sin(elevation)),
        ],
        dim=-1,
    )
    right = torch.stack([-sin_a, cos_a, torch.zeros_like(cos_a)], dim=-1)
    up = torch.linalg.cross(back, right)

    world_from_camera = torch.eye(4, dtype=torch.float64).repeat(num_views, 1, 1)
    world_from_camera[:, :3] = torch.stack([right, up, back, radius * back], dim=-1)
    return world_from_camera.float()


def turned(world_from_camera: Tensor, angle: float) -> Tensor:  # [..., 4, 4] -> [..., 4, 4]
    """The cameras moved around the Z axis, counter-clockwise seen from +Z; `angle` in radians."""
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn.to(world_from_camera) @ world_from_camera


def at_unit_distance(world_from_camera: Tensor) -> Tensor:  # [..., 4, 4] -> [..., 4, 4]
    """The same cameras at distance 1 from the origin, as MVDream's camera conditioning has them."""
    moved = world_from_camera.clone()
    position = moved[..., :3, 3]
    moved[..., :3, 3] = position / position.norm(dim=-1, keepdim=True)
    return moved


def intrinsics(fov_deg: float, width: int, height: int) -> Tensor:  # [3, 3]
    """Pinhole intrinsics in pixels for square pixels; `fov_deg` is the horizontal field of view."""
    focal_px = 0.5 * width / math.tan(0.5 * math.radians(fov_deg))
    return torch.tensor([[focal_px, 0.0, 0.5 * width], [0.0, focal_px, 0.5 * height], [0.0, 0.0, 1.0]])


def opencv_from_world(world_from_camera: Tensor) -> Tensor:  # [..., 4, 4] -> [..., 4, 4]
    """World-to-camera matrices with OpenCV axes (+Z forward, +Y down), as the rasteriser wants them."""
    return torch.linalg.inv(world_from_camera * _FLIP_YZ.to(world_from_camera))


def project(
    points: Tensor,  # [..., P, 3]
    world_from_camera: Tensor,  # [..., 4, 4]
    fov_deg: float,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:  # [..., P, 2], [..., P]
    """Where cameras see points, and how far ahead these are.

    Places are those of `grid_sample`: x to the right and y down, -1..1 between an image's outer edges.
    """
    camera_from_world = opencv_from_world(world_from_camera)
    seen = points @ camera_from_world[..., :3, :3].mT + camera_from_world[..., None, :3, 3]
    edge = math.tan(0.5 * math.radians(fov_deg)) * seen.new_tensor([1.0, height / width])
    return seen[..., :2] / (edge * seen[..., 2:]), seen[..., 2]


def plucker_rays(
    world_from_camera: Tensor,  # [..., 4, 4]
    fov_deg: float,
    height: int,
    width: int,
) -> Tensor:  # [..., 6, H, W]
    """Plücker coordinates of the ray through every pixel centre: moment o x d, then unit direction d."""
    focal_px = 0.5 * width / math.tan(0.5 * math.radians(fov_deg))
    y, x = torch.meshgrid(
        (torch.arange(height).to(world_from_camera) + 0.5 - 0.5 * height) / focal_px,
        (torch.arange(width).to(world_from_camera) + 0.5 - 0.5 * width) / focal_px,
        indexing="ij",
    )
    in_camera = torch.nn.functional.normalize(torch.stack([x, -y, -torch.ones_like(x)]), dim=0)
    direction = torch.einsum("...ij,jhw->...ihw", world_from_camera[..., :3, :3], in_camera)
    origin = world_from_camera[..., :3, 3, None, None].expand_as(direction)
    return torch.cat([torch.linalg.cross(origin, direction, dim=-3), direction], dim=-3)


def world_from_reconstruction(world_from_camera: Tensor) -> Tensor:  # [..., V, 4, 4] -> [..., 4, 4]
    """Takes what the reconstructor returns back to the world.

    The reconstructor (LGM) works in a frame of its own, M A0^-1 with M = translate(0, 0, |o0|): view 0 has no
    rotation and stands at (0, 0, distance), so the object stays at the origin and "up" is the up of camera 0.
    """
    return torch.linalg.inv(_reconstruction_from_world(world_from_camera))


def reconstruction_cameras(world_from_camera: Tensor) -> Tensor:  # [..., V, 4, 4] -> [..., V, 4, 4]
    """The cameras in the reconstructor's frame: P_i = M A0^-1 A_i (axes still Blender's)."""
    return _reconstruction_from_world(world_from_camera).unsqueeze(-3) @ world_from_camera


def _reconstruction_from_world(world_from_camera: Tensor) -> Tensor:  # [..., V, 4, 4] -> [..., 4, 4]
    camera_from_world = torch.linalg.inv(world_from_camera[..., 0, :, :])
    distance = world_from_camera[..., 0, :3, 3].norm(dim=-1)
    camera_from_world[..., 2, 3] += distance  # M moves along z only
    return camera_from_world
