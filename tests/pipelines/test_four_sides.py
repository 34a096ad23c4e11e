"""Four images of an object become splats that look like them, with the starter's own reconstructor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.cameras import orbit
from backend.evaluation import image_quality
from backend.gaussians.fitting import SplatParameters, render_rgba
from backend.pipelines import four_sides, generate, model_cache, views
from backend.pipelines.plan import Plan
from backend.shared import asset
from backend.shared.ply import read_ply
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import SIDES, GenerationRequest
from tests.gaussians.painted_blob import painted_blob


@pytest.fixture(scope="module")
def images() -> torch.Tensor:  # [4, 4, H, W]
    """A striped blob from in front, from its left, from behind and from its right."""
    with torch.no_grad():
        return render_rgba(painted_blob(4000), orbit(4, 15, 1.9), 49.1, 120, 120, "display")


@pytest.fixture
def paths(images: torch.Tensor, tmp_path: Path) -> dict[str, str]:
    """Its images, before a plain background where they have no transparency."""
    for side, image in zip(SIDES.values(), images, strict=True):
        pixels = Image.fromarray((image.movedim(0, -1).clamp(0, 1).numpy() * 255).astype(np.uint8))
        if side == "back":
            grey = Image.new("RGB", pixels.size, (128, 128, 128))
            grey.paste(pixels, mask=pixels.getchannel("A"))
            pixels = grey
        pixels.save(tmp_path / f"{side}.png")
    return {name: str(tmp_path / f"{side}.png") for name, side in SIDES.items()}


def test_four_images_become_splats_that_look_like_them(
    images: torch.Tensor, paths: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_MOST_STEPS", 40)
    request, progress = GenerationRequest(**paths), Progress()
    made = asset.read_asset(generate.generate(request, tmp_path / "asset", progress))
    assert (len(made.views), made.width, progress.warnings) == (4, 192, [])
    assert made.cameras[1][:3, 3] @ [0, 1, 0] > 1  # the left side is seen from +Y
    shown = torch.from_numpy(np.stack([np.asarray(Image.open(view[0])) for view in made.views]) / 255).float()
    with torch.no_grad():
        splats = SplatParameters.of(read_ply(made.splats[0]))
        cameras = torch.from_numpy(made.cameras).float()
        seen = render_rgba(splats, cameras, made.fov_deg, 192, 192, "linear").movedim(1, -1)
    ours, theirs = (x[..., :3] * x[..., 3:] for x in (seen, shown))
    assert image_quality.psnr(ours.movedim(-1, 1), theirs.movedim(-1, 1)) > 22
    # Nothing was loaded but the reconstructor, and the images are framed alike.
    assert {type(net).__name__ for kept in model_cache._kept.values() for net in kept.networks} == {"LGM"}
    heights = [np.ptp(np.nonzero(view[..., 3].numpy() > 0.5)[0]) for view in shown]
    assert max(heights) - min(heights) <= 8 and max(heights) <= 150


def test_images_of_different_scale_are_refused_by_side(
    images: torch.Tensor, paths: dict[str, str], tmp_path: Path
) -> None:
    small = Image.open(paths["image_right"]).resize((50, 50))
    small.save(paths["image_right"])
    with pytest.raises(
        DioramaError, match=r"E_IMAGE: the object is \d+ px high in the image of the .* right"
    ):
        generate.generate(GenerationRequest(**paths), tmp_path / "asset", Progress())


def test_image_with_scenery_is_refused_by_name(paths: dict[str, str], tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(
        paths["image_back"]
    )
    with pytest.raises(DioramaError, match=r"E_IMAGE: back.png .* not of one colour"):
        generate.generate(GenerationRequest(**paths), tmp_path / "asset", Progress())


def test_reconstruction_needs_less_memory_than_generation() -> None:
    folder = generate._folder(GenerationRequest("a car"))
    alone = four_sides.work_of(folder)
    whole = generate._work_of_views(GenerationRequest("a car"), folder)
    assert 0 < alone.needed_bytes(Plan()) < whole.needed_bytes(Plan())
