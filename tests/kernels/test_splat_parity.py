"""The fast renderer equals the readable one: stage by stage, from end to end, and in every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels import rasterization, reference
from kernels.numba import engine as numba_engine
from kernels.stages import Camera, Projected
from tests.kernels.splat_scenes import as_leaves, cameras, shell

CAMERA = Camera(150, 100)


def projected(
    backend, count: int, views: int, dtype: torch.dtype = torch.float32
) -> tuple[Projected, Tensor]:
    scene = {name: tensor[None].to(dtype) for name, tensor in shell(count).items()}
    lens = {name: tensor[None].to(dtype) for name, tensor in cameras(views, 150, 100).items()}
    colors, opacities = scene.pop("colors"), scene["opacities"]
    stage = backend.project(**scene, **lens, camera=CAMERA)
    return stage, colors.expand(views, -1, -1), opacities.expand(views, -1)


def test_projection_equals_the_reference():
    fast, exact = projected(numba_engine, 3000, 2)[0], projected(reference, 3000, 2, torch.float64)[0]
    seen, seen_exactly = (fast.radii > 0).all(-1), (exact.radii > 0).all(-1)
    assert (seen != seen_exactly).float().mean() < 1e-3  # at the image's border
    both = seen & seen_exactly
    assert ((fast.radii - exact.radii).abs()[both] <= 1).all()  # a ceiling may round the other way
    for name in ("means2d", "conics", "depths", "compensations"):
        a, b = getattr(fast, name)[both].double(), getattr(exact, name)[both]
        assert ((a - b).norm() / b.norm()).item() < 1e-5, name


def test_tiles_list_the_same_splats_in_the_same_order():
    stage, colors, opacities = projected(reference, 3000, 2)
    offsets, ids = reference.intersect(stage, opacities, CAMERA)
    _, _, fast_offsets, fast_ids = numba_engine.rasterize(stage, colors, opacities, CAMERA, 0.99)
    assert torch.equal(offsets, fast_offsets)
    assert torch.equal(ids, fast_ids)


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_raster_equals_the_reference_on_the_same_ellipses(channels):
    stage, _, opacities = projected(reference, 3000, 2)
    colors = torch.rand(2, 3000, channels, generator=torch.Generator().manual_seed(1))
    exact = reference.rasterize(stage, colors, opacities, CAMERA, 0.99)
    fast = numba_engine.rasterize(stage, colors, opacities, CAMERA, 0.99)
    for a, b in zip(exact[:2], fast[:2], strict=True):
        assert (a - b).abs().max().item() < 5e-6


def both_backends(
    count: int, views: int, width: int, height: int, scene: dict | None = None, **options
) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """Image, alphas and gradients of the fast backend in float32 and of the reference in float64."""
    results = []
    for backend, dtype in (("numba", torch.float32), ("torch", torch.float64)):
        leaves = as_leaves((scene or shell(count)) | cameras(views, width, height), dtype)
        image, alphas, _ = rasterization(**leaves, width=width, height=height, backend=backend, **options)
        g = torch.Generator().manual_seed(1)
        upstream = [torch.randn(t.shape, generator=g).to(dtype) for t in (image, alphas)]
        ((image * upstream[0]).sum() + (alphas * upstream[1]).sum()).backward()
        results.append((image, alphas, {name: t.grad for name, t in leaves.items() if t.requires_grad}))
    return results


def assert_end_to_end_equal(fast, exact):
    """Single splats may fall on the other side of a threshold in a pixel; arithmetic may not differ."""
    error = (fast[0] - exact[0]).abs().flatten()
    assert error.quantile(0.999).item() < 1e-5 * exact[0].abs().max().item()
    assert (error > 1e-4).float().mean().item() < 1e-3
    assert (fast[1] - exact[1]).abs().max().item() < 1.1 / 255
    for name, gradient in exact[2].items():
        relative = ((fast[2][name] - gradient).norm() / gradient.norm()).item()
        assert relative < 1e-4, f"{name}: {relative}"


@pytest.mark.parametrize("mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
def test_images_and_gradients_equal_the_reference(mode):
    fast, exact = both_backends(2000, 2, 100, 70, render_mode=mode)
    if mode in ("D", "ED"):
        exact[2].pop("colors")
        assert fast[2].pop("colors") is None
    assert_end_to_end_equal(fast, exact)


def test_antialiased_images_and_gradients_equal_the_reference():
    fast, exact = both_backends(5000, 1, 64, 64, rasterize_mode="antialiased")
    plain, _ = both_backends(5000, 1, 64, 64)
    assert (fast[0] - plain[0]).abs().max() > 0.05  # it does something
    assert_end_to_end_equal(fast, exact)


def test_spherical_harmonics_images_and_gradients_equal_the_reference():
    scene = shell(1500)
    scene["colors"] = 0.3 * torch.randn(1500, 16, 3, generator=torch.Generator().manual_seed(2))
    assert_end_to_end_equal(*both_backends(1500, 2, 80, 80, scene, sh_degree=3))


def test_many_channels_and_backgrounds_equal_the_reference():
    scene = shell(1500)
    scene["colors"] = torch.rand(1500, 9, generator=torch.Generator().manual_seed(3))
    background = torch.rand(2, 9, generator=torch.Generator().manual_seed(4))
    fast, exact = both_backends(1500, 2, 80, 80, scene, backgrounds=background)
    plain, _ = both_backends(1500, 2, 80, 80, scene)
    expected = plain[0] + (1 - plain[1]) * background[:, None, None]
    torch.testing.assert_close(fast[0], expected)
    assert_end_to_end_equal(fast, exact)


def test_close_cameras_and_cut_splats_equal_the_reference():
    """The camera stands in the shell: splats behind it, cut by the near plane, outside the field of view."""
    scene = shell(1500)
    lens = cameras(1, 64, 64, fov_deg=80.0, radius=1.02)
    results = []
    for backend, dtype in (("numba", torch.float32), ("torch", torch.float64)):
        leaves = as_leaves(scene | lens, dtype)
        image, alphas, _ = rasterization(**leaves, width=64, height=64, near_plane=0.2, backend=backend)
        (image.sum() + alphas.sum()).backward()
        results.append((image, alphas, {n: t.grad for n, t in leaves.items() if t.requires_grad}))
    assert_end_to_end_equal(*results)


def test_orthographic_images_and_gradients_equal_the_reference():
    scene, lens = shell(1500), cameras(2, 80, 80)
    lens["Ks"][:, :2, :2] /= 3.2  # the same size as in perspective at the middle of the shell
    results = []
    for backend, dtype in (("numba", torch.float32), ("torch", torch.float64)):
        leaves = as_leaves(scene | lens, dtype)
        image, alphas, meta = rasterization(
            **leaves, width=80, height=80, render_mode="RGB+D", camera_model="ortho", backend=backend
        )
        (image.square().sum() + alphas.sum()).backward()
        results.append((image, alphas, {n: t.grad for n, t in leaves.items() if t.requires_grad}))
    assert_end_to_end_equal(*results)
    middle = meta["means2d"][0] - 40
    in_camera = scene["means"].double() @ lens["viewmats"][0, :3, :3].double().T
    expected = in_camera[:, :2] * lens["Ks"][0, 0, 0]
    seen = (meta["radii"][0] > 0).all(-1)
    torch.testing.assert_close(middle[seen], expected[seen], rtol=0, atol=1e-4)


def test_colors_per_camera_and_batches_equal_single_calls():
    scenes = [shell(500, seed) for seed in (0, 1)]
    lens = cameras(3, 64, 48)
    batch = {name: torch.stack([scene[name] for scene in scenes]) for name in scenes[0]}
    batch |= {name: torch.stack([tensor, tensor]) for name, tensor in lens.items()}
    batch["colors"] = torch.rand(2, 3, 500, 3, generator=torch.Generator().manual_seed(5))
    leaves = as_leaves(batch)
    image, alphas, meta = rasterization(**leaves, width=64, height=48, render_mode="RGB+D")
    assert image.shape == (2, 3, 48, 64, 4) and alphas.shape == (2, 3, 48, 64, 1)
    assert meta["means2d"].shape == (2, 3, 500, 2) and meta["isect_offsets"].shape == (2, 3, 3, 4)
    (image.square().sum() + alphas.sum()).backward()
    for b, scene in enumerate(scenes):
        single = as_leaves(scene | lens | {"colors": batch["colors"][b]})
        one_image, one_alphas, _ = rasterization(**single, width=64, height=48, render_mode="RGB+D")
        assert torch.equal(one_image, image[b]) and torch.equal(one_alphas, alphas[b])
        (one_image.square().sum() + one_alphas.sum()).backward()
        for name in ("means", "quats", "scales", "opacities", "colors", "viewmats"):
            torch.testing.assert_close(single[name].grad, leaves[name].grad[b], rtol=1e-5, atol=1e-6)
