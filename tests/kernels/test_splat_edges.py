"""Odd inputs: nothing to draw, odd sizes, extreme splats, wrong arguments; and code written for gsplat."""

from __future__ import annotations

import pytest
import torch

from kernels import dispatch, rasterization
from tests.kernels.splat_scenes import as_leaves, cameras, shell

BACKENDS = ("numba", "torch")
SIZE = {"width": 40, "height": 24}


def render(scene, lens=None, size=SIZE, **options):
    leaves = as_leaves(scene | (lens or cameras(2, **size)))
    image, alphas, meta = rasterization(**leaves, **size, **options)
    (image.sum() + alphas.sum()).backward()
    return image, alphas, meta, {name: t.grad for name, t in leaves.items() if t.requires_grad}


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_splats_make_an_empty_image(backend):
    background = torch.full((2, 3), 0.25)
    image, alphas, meta, gradients = render(shell(0), backend=backend, backgrounds=background)
    assert image.shape == (2, 24, 40, 3) and (image == 0.25).all() and (alphas == 0).all()
    assert len(meta["flatten_ids"]) == 0 and gradients["means"].shape == (0, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_splats_behind_the_camera_are_not_drawn_and_not_moved(backend):
    scene = shell(200)
    lens = cameras(2, **SIZE)
    scene["means"] = -10 * lens["viewmats"][0, 2, :3] + 0.1 * scene["means"]
    lens["viewmats"], lens["Ks"] = lens["viewmats"][:1], lens["Ks"][:1]
    _, alphas, meta, gradients = render(scene, lens, backend=backend)
    assert (alphas == 0).all() and (meta["radii"] == 0).all()
    assert all((g == 0).all() for g in gradients.values())


@pytest.mark.parametrize("size", [(1, 1), (17, 3), (16, 16), (33, 47)])
def test_any_size_of_image_equals_the_reference(size):
    size = {"width": size[0], "height": size[1]}
    fast, exact = (render(shell(300), size=size, backend=backend) for backend in BACKENDS)
    assert fast[0].shape == (2, size["height"], size["width"], 3)
    torch.testing.assert_close(fast[0], exact[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(fast[3]["means"], exact[3]["means"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_clamped_alpha_does_not_follow_its_splat(backend):
    scene = {
        "means": torch.zeros(1, 3),
        "quats": torch.tensor([[1.0, 0, 0, 0]]),
        "scales": torch.full((1, 3), 50.0),  # fills the image
        "opacities": torch.ones(1),
        "colors": torch.tensor([[1.0, 0.5, 0.25]]),
    }
    _, alphas, _, gradients = render(scene, backend=backend)
    assert alphas.min().item() == pytest.approx(0.99, abs=1e-6)
    assert all((gradients[name] == 0).all() for name in ("means", "quats", "scales", "opacities"))
    assert (gradients["colors"] > 0).all()
    _, alphas, _, _ = render(scene, backend=backend, max_alpha=0.999)
    assert alphas.max().item() == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_splats_give_finite_images_and_gradients(backend):
    scene = shell(60)
    scene["scales"][:10] = 0  # points
    scene["scales"][10:20, 0] = 1e-12  # needles and discs
    scene["scales"][20:25] = 1e3
    scene["quats"][25:30] *= 1e-6
    scene["opacities"][30:35], scene["opacities"][35:40] = 0, 1
    scene["means"][40:45] *= 1e6
    image, alphas, _, gradients = render(scene, backend=backend, render_mode="RGB+ED")
    assert image.isfinite().all() and alphas.isfinite().all()
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name


def test_strided_inputs_and_partial_gradients_are_the_same():
    scene, lens = shell(300), cameras(2, **SIZE)
    expected = render(scene, lens)
    packed = torch.cat([scene["means"], scene["scales"], scene["colors"]], -1)
    means, scales, colors = (packed[:, i : i + 3] for i in (0, 3, 6))
    colors = colors.detach().requires_grad_()
    image, _, _ = rasterization(
        means, scene["quats"].T.contiguous().T, scales, scene["opacities"], colors, **lens, **SIZE
    )
    assert torch.equal(image, expected[0])
    image.sum().backward()
    torch.testing.assert_close(colors.grad, expected[3]["colors"])


def test_inputs_changed_between_the_passes_are_noticed():
    leaves = as_leaves(shell(50) | cameras(1, **SIZE))
    image, _, _ = rasterization(**leaves, **SIZE)
    with torch.no_grad():
        leaves["scales"] *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        image.sum().backward()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors", "viewmats", "Ks"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_named(name, bad):
    inputs = shell(20) | cameras(1, **SIZE)
    inputs[name].view(-1)[3] = bad
    with pytest.raises(ValueError, match=rf"{name} holds NaN or infinity in 1 of"):
        rasterization(**inputs, **SIZE)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("quats", (20, 3)),
        ("opacities", (20, 1)),
        ("viewmats", (1, 3, 4)),
        ("Ks", (2, 3, 3)),
        ("colors", (19, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, shape):
    inputs = shell(20) | cameras(1, **SIZE)
    with pytest.raises(ValueError, match=f"rasterization: {name} is"):
        rasterization(**(inputs | {name: torch.zeros(shape)}), **SIZE)


def test_sizes_and_planes_that_make_no_image_are_refused():
    inputs = shell(20) | cameras(1, **SIZE)
    for option in ({"width": 0}, {"near_plane": 0.0}, {"far_plane": 0.001}):
        with pytest.raises(ValueError, match="must be positive"):
            rasterization(**inputs, **(SIZE | option))
    with pytest.raises(ValueError, match="no camera"):
        rasterization(**shell(20), **cameras(0, **SIZE), **SIZE)


def test_half_precision_and_autocast_change_nothing_but_the_inputs():
    inputs = shell(200) | cameras(1, **SIZE)
    rounded = inputs | {"colors": inputs["colors"].bfloat16()}
    exact = rasterization(**(inputs | {"colors": rounded["colors"].float()}), **SIZE)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, _, meta = rasterization(**rounded, **SIZE)
    assert meta["backend"] == "numba" and image.dtype == torch.float32
    assert torch.equal(image, exact)


def test_gsplat_is_taken_only_where_it_is_compiled_and_is_not_imported_to_find_out(tmp_path, monkeypatch):
    package = tmp_path / "site" / "gsplat"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "built"))
    is_compiled = dispatch._gsplat_is_compiled.__wrapped__
    assert not is_compiled()
    library = package / "csrc.cpython-311-x86_64-linux-gnu.so"
    library.touch()
    assert is_compiled()
    library.unlink()
    folder = tmp_path / "built" / "py311_cu128" / "gsplat_cuda"
    folder.mkdir(parents=True)
    assert not is_compiled()
    (folder / "gsplat_cuda.so").touch()
    assert is_compiled()


@pytest.mark.parametrize(
    "option",
    [
        {"packed": True}, {"absgrad": True}, {"tile_size": 8}, {"camera_model": "fisheye"},
        {"covars": torch.zeros(20, 6)}, {"sh_degree": 4},
    ],
)  # fmt: skip
def test_options_of_gsplat_that_are_missing_say_so(option):
    with pytest.raises(NotImplementedError, match="rasterization"):
        rasterization(**shell(20), **cameras(1, **SIZE), **SIZE, **option)


def test_unknown_modes_are_named_with_the_known_ones():
    for option in ({"render_mode": "N"}, {"rasterize_mode": "x"}, {"backend": "metal"}):
        with pytest.raises(ValueError, match="expected one of"):
            rasterization(**shell(20), **cameras(1, **SIZE), **SIZE, **option)


def test_clip_planes_and_radius_clip_leave_splats_out():
    scene, lens = shell(500), cameras(1, **SIZE)
    everything = rasterization(**scene, **lens, **SIZE)[2]
    seen = (everything["radii"] > 0).all(-1)
    depths = everything["depths"]
    for option, expected in [
        ({"near_plane": 3.0}, seen & (depths >= 3)),
        ({"far_plane": 3.0}, seen & (depths <= 3)),
        ({"radius_clip": 5.0}, seen & (everything["radii"] > 5).any(-1)),
    ]:
        for backend in BACKENDS:
            radii = rasterization(**scene, **lens, **SIZE, **option, backend=backend)[2]["radii"]
            assert torch.equal((radii > 0).all(-1), expected), (option, backend)


def test_code_written_for_gsplat_finds_its_keys_and_the_gradient_of_means2d():
    leaves = as_leaves(shell(100) | cameras(2, **SIZE))
    colors, _, meta = rasterization(**leaves, **SIZE)
    meta["means2d"].retain_grad()
    colors.sum().backward()
    assert meta["means2d"].grad.shape == (2, 100, 2) and meta["means2d"].grad.abs().sum() > 0
    shapes = {"radii": (2, 100, 2), "depths": (2, 100), "conics": (2, 100, 3), "opacities": (2, 100)}
    for key, shape in shapes.items():
        assert meta[key].shape == shape
    assert meta["radii"].dtype == torch.int32
    assert (meta["tile_width"], meta["tile_height"], meta["tile_size"]) == (3, 2, 16)
    assert (meta["width"], meta["height"], meta["n_cameras"]) == (40, 24, 2)
    assert meta["isect_offsets"].shape == (2, 2, 3)
    assert int(meta["flatten_ids"].max()) < 200
