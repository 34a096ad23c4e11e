"""A known object of Gaussians becomes a closed mesh of its shape and colours, and a GLB that others read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import trimesh

from backend.cameras import orbit
from backend.gaussians import fitting, meshing
from backend.shared.ply import SH_C0, GaussianCloud
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from tests.gaussians.painted_blob import FOV_DEG, painted_images

SMALL = {"resolution": 64, "face_count": 4000, "texture_px": 256}
NO_VIEWS = (torch.zeros(0, 4, 1, 1), torch.zeros(0, 4, 4), FOV_DEG)


def ball(radius: float, colors, count: int = 3000, centre=(0.0, 0.0, 0.0), opacity=0.95) -> GaussianCloud:
    """Evenly spread flat splats on a sphere; `colors` takes their unit directions [N, 3]."""
    i = np.arange(count)
    z, azimuth = 1 - (2 * i + 1) / count, i * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    unit = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), z], -1)
    # the turn of the Z axis to the splat's direction, so that the third scale is its thickness
    quats = np.stack([1 + z, -unit[:, 1], unit[:, 0], np.zeros(count)], -1)
    size = radius * np.sqrt(4 * np.pi / count)
    return GaussianCloud(
        means=(radius * unit + centre).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.tile(np.float32([0.6 * size, 0.6 * size, 0.1 * size]), (count, 1)),
        opacities=np.full(count, opacity, np.float32),
        sh=((np.broadcast_to(colors(unit), (count, 3)) - 0.5) / SH_C0).astype(np.float32)[:, None],
    )


def painted(unit: np.ndarray) -> np.ndarray:
    return 0.5 + 0.4 * np.stack([unit[:, 0], np.sin(4 * unit[:, 1]), np.cos(3 * unit[:, 2])], -1)


def joined(*clouds: GaussianCloud) -> GaussianCloud:
    return GaussianCloud(
        **{name: np.concatenate([vars(c)[name] for c in clouds]) for name in vars(clouds[0])}
    )


def views_of(cloud: GaussianCloud, cameras: torch.Tensor, size: int = 128) -> torch.Tensor:
    return painted_images(fitting.SplatParameters.of(cloud), cameras, size, "linear")


def solid(mesh: meshing.TexturedMesh) -> trimesh.Trimesh:
    """The surface with the seams of the texture closed again."""
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    surface.merge_vertices()
    return surface


def colored_points(mesh: meshing.TexturedMesh, count: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Points on the surface and the colours that the texture has there."""
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, faces = trimesh.sample.sample_surface(surface, count, seed=1)
    bary = trimesh.triangles.points_to_barycentric(surface.triangles[faces], points)
    uv = np.einsum("nc,ncx->nx", bary, mesh.uv[mesh.faces[faces]])
    texel = (uv * len(mesh.texture)).astype(int)
    return points, mesh.texture[texel[:, 1], texel[:, 0]] / 255


@pytest.fixture(scope="module")
def mesh() -> meshing.TexturedMesh:
    cloud, cameras = ball(0.5, painted), orbit(8, 15.0, 2.0)
    return meshing.mesh_from_gaussians(cloud, views_of(cloud, cameras), cameras, FOV_DEG, **SMALL)


def test_surface_lies_where_the_splats_do(mesh):
    error = np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5)
    assert error.mean() < 0.01  # half a cell; the splats themselves are that thick
    assert error.max() < 0.02
    assert solid(mesh).volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.06)


def test_surface_is_closed_and_looks_outwards(mesh):
    surface = solid(mesh)
    assert surface.is_watertight and surface.body_count == 1 and surface.euler_number == 2
    assert 3000 < len(mesh.faces) <= 4000
    outwards = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert ((mesh.normals * outwards).sum(1) > 0.9).mean() > 0.99


def test_texture_has_the_colours_of_the_object_all_around(mesh):
    points, colors = colored_points(mesh)
    error = np.abs(colors - painted(points / np.linalg.norm(points, axis=1, keepdims=True)))
    assert error.mean() < 0.02
    assert np.quantile(error, 0.99) < 0.1  # below, where no view looks, and across seams too


def test_without_views_the_splats_colour_the_mesh():
    mesh = meshing.mesh_from_gaussians(ball(0.5, painted), *NO_VIEWS, **SMALL)
    points, colors = colored_points(mesh)
    assert np.abs(colors - painted(points / np.linalg.norm(points, axis=1, keepdims=True))).mean() < 0.02


def test_views_colour_what_they_see_and_splats_the_rest():
    cameras = orbit(1, 0.0, 2.0)
    grey = ball(0.5, lambda unit: np.float32([0.5, 0.5, 0.5]))
    view = views_of(grey, cameras)
    view[:, :3] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    mesh = meshing.mesh_from_gaussians(grey, view, cameras, FOV_DEG, **SMALL)
    points, colors = colored_points(mesh)
    np.testing.assert_allclose(np.median(colors[points[:, 0] > 0.35], 0), [0.9, 0.2, 0.1], atol=0.02)
    np.testing.assert_allclose(np.median(colors[points[:, 0] < -0.1], 0), [0.5, 0.5, 0.5], atol=0.02)


def test_views_without_alpha_leave_their_background_off_the_mesh():
    cloud, cameras = ball(0.5, painted), orbit(6, 0.0, 2.0)
    color, alpha = views_of(cloud, cameras).split([3, 1], 1)
    on_green = color * alpha + torch.tensor([0.0, 1.0, 0.0])[:, None, None] * (1 - alpha)
    mesh = meshing.mesh_from_gaussians(cloud, on_green, cameras, FOV_DEG, **SMALL)
    points, colors = colored_points(mesh)
    assert np.abs(colors - painted(points / np.linalg.norm(points, axis=1, keepdims=True))).mean() < 0.025


def test_what_stands_in_front_does_not_colour_what_is_behind():
    red, green = np.float32([0.9, 0.1, 0.1]), np.float32([0.1, 0.8, 0.1])
    cloud = joined(
        ball(0.4, lambda unit: green), ball(0.15, lambda unit: red, count=800, centre=(0.7, 0.0, 0.0))
    )
    cameras = orbit(1, 0.0, 2.4)
    mesh = meshing.mesh_from_gaussians(cloud, views_of(cloud, cameras, 192), cameras, FOV_DEG, **SMALL)
    points, colors = colored_points(mesh)
    large = np.linalg.norm(points, axis=1) < 0.47
    assert (~large).sum() > 200  # both are in the mesh
    assert (np.abs(colors[large] - green).max(1) < 0.1).mean() > 0.98
    assert (np.abs(colors[~large] - red).max(1) < 0.1).mean() > 0.95


def test_floating_and_faint_splats_are_no_part_of_the_mesh():
    cloud = joined(
        ball(0.5, painted),
        ball(0.02, painted, count=40, centre=(0.0, 0.0, 0.7)),
        ball(0.01, painted, count=4, centre=(3.0, 0.0, 0.0)),
        ball(0.58, painted, count=500, opacity=0.05),
    )
    surface = solid(meshing.mesh_from_gaussians(cloud, *NO_VIEWS, **SMALL))
    assert surface.body_count == 1
    assert np.linalg.norm(surface.vertices, axis=1).max() < 0.53


def test_glb_is_y_up_and_has_texture_and_normals(mesh, tmp_path):
    (tmp_path / "mesh.glb").write_bytes(meshing.glb_of(mesh))
    scene = trimesh.load_scene(tmp_path / "mesh.glb")
    (again,) = scene.geometry.values()
    assert list(scene.geometry) == ["mesh"]
    x, y, z = mesh.vertices.T
    np.testing.assert_allclose(again.vertices, np.stack([x, z, -y], -1), atol=1e-6)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    x, y, z = mesh.normals.T
    np.testing.assert_allclose(again.vertex_normals, np.stack([x, z, -y], -1), atol=1e-3)
    material = again.visual.material
    assert (material.metallicFactor, material.roughnessFactor) == (0.0, 1.0)
    np.testing.assert_array_equal(np.asarray(material.baseColorTexture.convert("RGB")), mesh.texture)
    np.testing.assert_allclose(again.visual.uv, np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], -1), atol=1e-6)


def test_glb_is_as_the_validator_of_khronos_wants_it():
    # What gltf-validator 2.0.0-dev.3.10 complained about: normals without a length, and nameless targets.
    tangle = ball(0.3, painted, 1500)
    tangle.means[:] = np.random.default_rng(0).normal(size=tangle.means.shape) * 0.3
    mesh = meshing.mesh_from_gaussians(tangle, *NO_VIEWS, **{**SMALL, "face_count": 300})
    glb = meshing.glb_of(mesh)
    length = int.from_bytes(glb[12:16], "little")
    tree, binary = json.loads(glb[20 : 20 + length]), glb[28 + length :]
    (primitive,) = tree["meshes"][0]["primitives"]
    columns = {}
    for name, index in {**primitive["attributes"], "indices": primitive["indices"]}.items():
        accessor = tree["accessors"][index]
        view = tree["bufferViews"][accessor["bufferView"]]
        assert view["target"] == (34963 if name == "indices" else 34962)
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        columns[name] = np.frombuffer(binary, kind, view["byteLength"] // 4, view["byteOffset"])
        assert columns[name].size == accessor["count"] * {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
    normals = columns["NORMAL"].reshape(-1, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert set(columns["indices"]) == set(range(len(normals)))
    position = tree["accessors"][primitive["attributes"]["POSITION"]]
    places = columns["POSITION"].reshape(-1, 3)
    np.testing.assert_allclose([places.min(0), places.max(0)], [position["min"], position["max"]], rtol=1e-6)


def test_the_same_splats_give_the_same_file():
    one, other = (
        meshing.glb_of(meshing.mesh_from_gaussians(ball(0.5, painted, 800), *NO_VIEWS, **SMALL))
        for _ in range(2)
    )
    assert one == other


EMPTY = GaussianCloud(
    **{name: values[:0] for name, values in vars(ball(0.5, painted, 10)).items()},
)
UNFINISHED = ball(0.5, painted, 10)
UNFINISHED.means[3] = np.nan
SCATTERED = ball(0.5, painted, 100, opacity=0.4)
SCATTERED.scales[:] *= 0.2  # faint, and no two at the same place
BAD_CLOUDS = {
    "none": (EMPTY, "no Gaussians"),
    "not finite": (UNFINISHED, "means"),
    "transparent": (ball(0.5, painted, 100, opacity=0.02), "all 100 Gaussians are transparent"),
    "faint": (SCATTERED, "nowhere solid"),
}


@pytest.mark.parametrize("case", BAD_CLOUDS)
def test_splats_without_a_surface_are_refused_in_words(case):
    cloud, message = BAD_CLOUDS[case]
    with pytest.raises(DioramaError, match=message) as caught:
        meshing.mesh_from_gaussians(cloud, *NO_VIEWS, **SMALL)
    assert caught.value.code == "E_MESH"


def test_a_job_goes_on_without_a_mesh_and_says_so():
    progress = Progress()
    assert meshing.glb_from_gaussians(SCATTERED, *NO_VIEWS, "linear", progress) is None
    assert len(progress.warnings) == 1 and "nowhere solid" in progress.warnings[0]


def test_a_job_reports_every_step_and_stops_when_cancelled():
    seen = []

    def emit(event, fields):
        seen.append((event, fields.get("step"), fields.get("total")))
        if fields.get("step") == 7:
            progress.cancel()

    progress = Progress(emit)
    with pytest.raises(DioramaError) as caught:
        meshing.glb_from_gaussians(ball(0.5, painted, 500), *NO_VIEWS, "linear", progress)
    assert caught.value.code == "E_CANCELLED"
    assert [step for event, step, _ in seen if event == "progress"] == list(range(1, 8))
