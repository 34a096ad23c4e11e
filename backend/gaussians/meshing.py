"""Turns a cloud of Gaussians into a textured mesh, and that into a GLB file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.protocol import DioramaError
from ..shared.sequence_file import Blending
from . import texturing
from .photos import Photo, all_around, given

_PHOTOS = 40  # around the object, from which its surface is found
_WITNESSES = 2.5  # photos that must look at a place; one or two may see it through gaps between splats
_VERTICES, _INDICES = 34962, 34963  # glTF's numbers for them, which are OpenGL's
_SMALLEST_PART = 0.02  # of the largest part's area; smaller ones are floating splats


@dataclass(frozen=True)
class TexturedMesh:
    """A closed surface with an image on it, in the world of the splats: metres, Z up."""

    vertices: np.ndarray  # [N, 3] float32; one that lies on a seam of the texture is there several times
    normals: np.ndarray  # [N, 3] float32
    faces: np.ndarray  # [M, 3] counter-clockwise from outside
    uv: np.ndarray  # [N, 2] float32, 0..1 from the top left of the texture
    texture: np.ndarray  # [S, S, 3] uint8 sRGB


def glb_from_gaussians(
    cloud: GaussianCloud,
    views: Tensor,  # [V, 3|4, H, W] sRGB, straight alpha, 0..1
    cameras: Tensor,  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float,
    blending: Blending,
    progress: Progress,
) -> bytes | None:
    """The mesh of a generated object as a GLB file, for its asset folder.

    Splats without a surface are no failure of the job: then there is no mesh, and a warning says why.
    """
    progress.stage("Making the mesh")
    try:
        mesh = mesh_from_gaussians(cloud, views, cameras, fov_deg, blending=blending, on_step=progress.step)
    except DioramaError as error:
        if error.code != "E_MESH":
            raise
        progress.log("warning", f"There is no mesh: {error.message}")
        return None
    return glb_of(mesh)


@torch.no_grad()
def mesh_from_gaussians(
    cloud: GaussianCloud,
    views: Tensor,  # [V, 3|4, H, W] sRGB, straight alpha, 0..1
    cameras: Tensor,  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float,
    *,
    blending: Blending = "linear",
    resolution: int = 128,
    face_count: int = 10_000,
    texture_px: int = 1024,
    on_step: Callable[[int, int], None] | None = None,
) -> TexturedMesh:
    """A mesh with the shape of the Gaussians and the colours of the views.

    The cloud is photographed from all around; the photos' distances are fused into a field of signed
    distances, whose zero is the surface. Where no view sees it, and if there are no views (V = 0), it has
    the colours of the Gaussians.

    Args:
        fov_deg: horizontal field of view of the cameras.
        blending: the space in which the cloud is shown.
        resolution: cells of the field along the object's longest side.
        face_count: what the surface is reduced to.
        on_step: called with the number of steps done and of all steps; may raise.

    Raises:
        DioramaError: E_MESH: there is no solid surface.

    Source: Curless and Levoy, A Volumetric Method for Building Complex Models from Range Images (1996).
    """
    total = _PHOTOS + 2 + len(views) + 1

    def done(steps: int) -> None:
        if on_step:
            on_step(steps, total)

    low, high = _bounds(cloud)
    cloud = _inside(cloud, low, high)
    voxel = float((high - low).max()) / resolution
    centre, radius = torch.from_numpy((low + high) / 2), float(np.linalg.norm(high - low)) / 2
    photo_px = 2 * resolution  # about a pixel for a cell, as a photo sees the box's diagonal
    renders: list[Photo] = []
    for photo in all_around(cloud, centre, radius, _PHOTOS, photo_px, blending):
        renders.append(photo)
        done(len(renders))
    surface = _reduced(_large_parts(_surface(renders, low, high, voxel)), face_count)
    done(_PHOTOS + 1)
    directions = np.array(surface.vertex_normals)
    directions[np.linalg.norm(directions, axis=1) < 0.5] = (0, 0, 1)  # faces back to back cancel each other
    origins, faces, uv = texturing.unwrap(surface.vertices, surface.faces, directions, texture_px)
    vertices = np.array(surface.vertices[origins], np.float32)
    normals = np.array(directions[origins], np.float32)
    done(_PHOTOS + 2)

    def photos_of_views() -> Iterator[Photo]:
        for number, (view, camera) in enumerate(zip(views, cameras, strict=True), 1):
            yield given(view, camera, fov_deg, cloud, photo_px, blending)
            done(_PHOTOS + 2 + number)

    texture = texturing.painted(
        vertices, normals, faces, uv, texture_px, photos_of_views(), renders, reach_m=2 * voxel
    )
    done(total)
    return TexturedMesh(vertices, normals, faces, uv, texture)


def glb_of(mesh: TexturedMesh) -> bytes:
    """A mesh as the bytes of a GLB file: one object "mesh" with one material that has no shine.

    In glTF Y is up; Blender's importer turns it back.
    """
    material = trimesh.visual.material.PBRMaterial(
        name="mesh",
        baseColorTexture=Image.fromarray(mesh.texture),
        metallicFactor=0.0,
        roughnessFactor=1.0,
    )
    uv = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], -1)  # trimesh counts from the bottom
    turned = trimesh.Trimesh(
        vertices=_y_up(mesh.vertices),
        faces=mesh.faces,
        vertex_normals=_y_up(mesh.normals),
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,
    )
    scene = trimesh.Scene()
    scene.add_geometry(turned, node_name="mesh", geom_name="mesh")
    return bytes(scene.export(file_type="glb", include_normals=True, tree_postprocessor=_name_targets))


def _name_targets(tree: dict[str, Any]) -> None:
    """Says of the data of a glTF which of it is vertices and which is indices."""
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            for index in primitive["attributes"].values():
                tree["bufferViews"][tree["accessors"][index]["bufferView"]]["target"] = _VERTICES
            tree["bufferViews"][tree["accessors"][primitive["indices"]]["bufferView"]]["target"] = _INDICES


def _y_up(vectors: np.ndarray) -> np.ndarray:
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], -1)


def _bounds(cloud: GaussianCloud) -> tuple[np.ndarray, np.ndarray]:
    """The box of what can be seen, some floating splats left out: its lowest and highest corner."""
    if len(cloud) == 0:
        raise _error("there are no Gaussians")
    for name, values in vars(cloud).items():
        if not np.isfinite(values).all():
            raise _error(f"the {name} of the Gaussians are not all finite")
    visible = cloud.opacities > 0.1
    if not visible.any():
        raise _error(f"all {len(cloud)} Gaussians are transparent")
    means = cloud.means[visible]
    low, high = np.quantile(means, 0.002, axis=0), np.quantile(means, 0.998, axis=0)
    margin = 0.1 * (high - low) + 3 * float(np.median(cloud.scales[visible].max(1)))
    return (low - margin).astype(np.float32), (high + margin).astype(np.float32)


def _inside(cloud: GaussianCloud, low: np.ndarray, high: np.ndarray) -> GaussianCloud:
    kept = np.asarray(((cloud.means >= low) & (cloud.means <= high)).all(1))
    return cloud.only(kept)


def _surface(photos: list[Photo], low: np.ndarray, high: np.ndarray, voxel: float) -> trimesh.Trimesh:
    """The surface on which the photos agree."""
    shape = np.ceil((high - low) / voxel).astype(int) + 1
    field = _distance_field(photos, torch.from_numpy(low), voxel, shape.tolist()).numpy()
    field = np.pad(field, 1, constant_values=1)  # outside, so that the surface is closed
    if not (field < 0).any():
        raise _error("the Gaussians are nowhere solid enough to have a surface")
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    return trimesh.Trimesh(low + (vertices - 1) * voxel, faces)


def _distance_field(photos: list[Photo], low: Tensor, voxel: float, shape: list[int]) -> Tensor:
    """Signed distances to the surface at the grid's points, in truncation lengths: -1 inside, 1 outside.

    What fewer than a few photos look at is inside: they look from everywhere, but may see through a gap
    between splats.
    """
    truncation = 4 * voxel
    sums, weights, witnesses = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    for photo in photos:
        # The photos are orthographic, so pixel and depth are sums of what each axis of the grid contributes.
        scale = torch.tensor([float(photo.K[0, 0]), float(photo.K[1, 1]), 1.0])
        offset = torch.tensor([float(photo.K[0, 2]), float(photo.K[1, 2]), 0.0])
        start = (photo.viewmat[:3, :3] @ low + photo.viewmat[:3, 3]) * scale + offset
        step = photo.viewmat[:3, :3] * scale[:, None] * voxel  # [u v z, x y z]
        u, v, z = (
            start[i]
            + (step[i, 0] * torch.arange(shape[0]))[:, None, None]
            + (step[i, 1] * torch.arange(shape[1]))[:, None]
            + step[i, 2] * torch.arange(shape[2])
            for i in range(3)
        )
        height, width = photo.depth.shape
        surface = _without_pits(photo.depth, truncation)
        pixel = v.long().clamp_(0, height - 1) * width + u.long().clamp_(0, width - 1)
        distance = (surface.flatten()[pixel] - z) / truncation
        weight = (1 + distance).clamp_(0, 1)  # behind the surface it fades: there may be another one
        witnesses += weight
        weight *= _facing(surface, photo).flatten()[pixel]
        sums += weight * distance.clamp_(-1, 1)
        weights += weight
    return torch.where((witnesses > _WITNESSES) & (weights > 0), sums / weights, -1.0)


def _without_pits(depth: Tensor, least: float) -> Tensor:  # [H, W] -> [H, W]
    """Distances without the gaps between splats, no wider than two pixels, that show what is behind."""
    near = -max_pool2d(-depth[None], 3, 1, 1)
    closed = max_pool2d(near, 3, 1, 1)[0]
    return torch.where(depth > closed + least, closed, depth)


def _facing(depth: Tensor, photo: Photo) -> Tensor:  # [H, W]
    """How far a photo can be trusted: squared cosine between its axis and the surface; 1 beside the object.

    Splats have one distance each and the nearer ones come first, so slopes are seen too near.
    """
    down, right = torch.gradient(depth * photo.K[0, 0])
    steepness = down**2 + right**2
    return torch.where(steepness.isfinite(), 1 / (1 + steepness), (~depth.isfinite()).float())


def _large_parts(surface: trimesh.Trimesh) -> trimesh.Trimesh:
    """The surface without small parts, and without the walls of cavities, which nobody can see."""
    parts = surface.split(only_watertight=False)
    largest = max(part.area for part in parts)
    kept = [part for part in parts if part.area >= _SMALLEST_PART * largest and part.volume > 0]
    if not kept:
        raise _error("the Gaussians are nowhere solid enough to have a surface")
    whole = trimesh.util.concatenate(kept)
    assert isinstance(whole, trimesh.Trimesh)
    return whole


def _reduced(surface: trimesh.Trimesh, face_count: int) -> trimesh.Trimesh:
    if len(surface.faces) <= face_count:
        return surface
    return surface.simplify_quadric_decimation(face_count=face_count)


def _error(message: str) -> DioramaError:
    return DioramaError("E_MESH", message)
