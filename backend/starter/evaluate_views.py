"""Measures the starter: is what it makes what was asked for, and do its splats look like its views?"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..evaluation.image_quality import psnr
from ..gaussians.color import over
from ..gaussians.fitting import SplatParameters, fit
from ..gaussians.fitting import render as render_cloud
from ..pipelines import orbits, reconstruction
from ..pipelines.conditioning import condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.model import ViewsModel, load
from ..pipelines.noise import initial_noise
from ..pipelines.views import refining_steps
from ..shared.model_store import STARTER
from ..shared.ply import GaussianCloud
from ..training.image_grid import write_image_grid
from .autoencoder import sharpness
from .dataset import CRISP_PX, FIRST_HELD_OUT_SEED, FOV_DEG, GREY
from .judges import WorldClassifier, load_judge
from .tracing import render
from .world import CATEGORIES, COLORS, make_object, prompt_for

FIRST_SEED = 5000  # far from those that were looked at while the recipe was made
AT_ONCE = 4


def main(argv: list[str]) -> int:
    """Prints the table, and writes it with the images it was counted from. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m backend evaluate starter", description=__doc__)
    parser.add_argument("--weights", type=Path, default=STARTER)
    parser.add_argument("--seeds", type=int, default=2, help="objects for each of the category–colour pairs")
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), help="for the table and sheets")
    parser.add_argument("--plain", action="store_true", help="without the 3D-aware steps")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    table = evaluate(args.weights, args.seeds, () if args.plain else None, args.out)
    (args.out / "starter.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    for name, value in table.items():
        if not isinstance(value, dict):
            print(f"{name:<44}{value:>8}")
    return 0


@torch.no_grad()
def evaluate(weights: Path, seeds: int, three_d_aware: tuple[float, ...] | None, out: Path) -> dict[str, Any]:
    """Generates `seeds` objects for every category and colour, and judges them.

    Returns:
        Parts of 1 for the names, dB and sharpness for the images (of the first object in every batch, to save
        time), and the mistakes by category and colour.
    """
    model = load(weights)
    judge = load_judge(WorldClassifier, weights / "judge")
    cameras = orbits.view_cameras(model.settings, model.settings.num_views)
    pairs = [(category, color) for category in CATEGORIES for color in COLORS]
    asked = pairs * seeds
    named: list[tuple[str, str]] = []
    seen: list[Tensor] = []  # of the first object in every batch
    for start in tqdm(range(0, len(asked), AT_ONCE), "generating", unit="batch"):
        prompts = [prompt_for(*pair) for pair in asked[start : start + AT_ONCE]]
        images = _generate(model, prompts, FIRST_SEED + start, cameras, three_d_aware)
        named += judge.name(images)
        splats = clouds(model, images[0], cameras)
        seen.append(torch.stack([images[0], *(_shown(model, each, cameras) for each in splats)]))
        write_image_grid(out / f"{start:04d}.png", images)
    views, reconstructed, refined = torch.stack(seen).unbind(1)  # [N, V, 3, H, W] each
    true_images = torch.cat([_true_images(cameras, i, *pair) for i, pair in enumerate(pairs)])
    wanted = true_images.repeat(seeds, 1, 1, 1, 1)[::AT_ONCE]  # of the same names as those seen
    return {
        "prompts": len(asked),
        **{f"generated: {key}": value for key, value in right(asked, named).items()},
        **{f"true pictures: {key}": value for key, value in right(pairs, judge.name(true_images)).items()},
        "reconstructed splats against views, dB": round(_mean_psnr(reconstructed, views), 2),
        "refined splats against views, dB": round(_mean_psnr(refined, views), 2),
        "sharpness of views, of that of true pictures": round(sharpness(views, wanted), 3),
        "sharpness of refined splats": round(sharpness(refined, wanted), 3),
        "mistakes": mistakes(asked, named),
    }


def right(asked: list[tuple[str, str]], named: list[tuple[str, str]]) -> dict[str, float]:
    """Which part of the objects has the category, the colour, and both, that it should have."""
    same = torch.tensor(
        [[a == b for a, b in zip(*pair, strict=True)] for pair in zip(asked, named, strict=True)]
    )
    parts = (same[:, 0], same[:, 1], same.all(1))
    names = ("category", "colour", "both")
    return {name: round(part.float().mean().item(), 3) for name, part in zip(names, parts, strict=True)}


def mistakes(asked: list[tuple[str, str]], named: list[tuple[str, str]]) -> dict[str, int]:
    """How often which category or colour was taken for which, the most frequent first."""
    wrong = Counter(
        f"{wanted} → {got}"
        for pair, name in zip(asked, named, strict=True)
        for wanted, got in zip(pair, name, strict=True)
        if wanted != got
    )
    return dict(wrong.most_common())


def _true_images(cameras: Tensor, i: int, category: str, color: str) -> Tensor:  # [1, V, 3, H, W]
    item = make_object(FIRST_HELD_OUT_SEED + FIRST_SEED + i, category, color)
    return over(render(item.shape, cameras, FOV_DEG, CRISP_PX), GREY)[None]


def _generate(
    model: ViewsModel,
    prompts: list[str],
    first_seed: int,
    cameras: Tensor,
    three_d_aware: tuple[float, ...] | None,
) -> Tensor:  # [B, V, 3, H, W]
    settings = model.settings
    noise = torch.cat(
        [initial_noise(model, len(cameras), seed) for seed in range(first_seed, first_seed + len(prompts))]
    )
    aware = settings.three_d_aware if three_d_aware is None else three_d_aware
    sampling = Sampling(settings.steps, settings.guidance, aware)
    latents = denoise(model, condition_on_text(model, prompts), noise, cameras, sampling)
    return model.decode_frames(latents[:, :, 0])


def clouds(model: ViewsModel, images: Tensor, cameras: Tensor) -> tuple[GaussianCloud, GaussianCloud]:
    """The splats of views [V, 3, H, W]: as reconstructed, and as refined."""
    gaussians = reconstruction.views_to_gaussians(model, images[None], cameras)
    cloud = reconstruction.to_cloud(gaussians)
    with torch.enable_grad():
        rgba = reconstruction.matte(model, images, gaussians, cameras)
        steps = refining_steps(len(cameras))
        return cloud, fit(cloud, rgba, cameras, model.settings.fov_deg, steps=steps)


def _shown(model: ViewsModel, cloud: GaussianCloud, cameras: Tensor) -> Tensor:  # [V, 3, H, W]
    settings = model.settings
    grey = torch.full((len(cameras), 3), settings.rendering.background)
    size = settings.size_px
    splats = SplatParameters.of(cloud)
    return render_cloud(splats, cameras, settings.fov_deg, size, size, grey, "linear").movedim(-1, 1)


def _mean_psnr(made: Tensor, true: Tensor) -> float:  # [N, V, 3, H, W] each
    """In dB; of each object over all views, as if they were one image."""
    return psnr(*(views.transpose(1, 2).flatten(2, 3) for views in (made, true)))
