"""Measures the starter: is what it makes what was asked for, and do its splats look like its views?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..gaussians.fitting import fit, leaves_of
from ..gaussians.fitting import render as render_cloud
from ..pipelines import REFINING_STEPS, STARTER, cloud_of, views
from ..pipelines.model import ViewsModel, load
from ..training.sheets import write_sheet
from ..training.world import CATEGORIES, COLORS, prompt_for
from .classifier import load_classifier

FIRST_SEED = 5000  # far from those that were looked at while the recipe was made
AT_ONCE = 4


def main(argv: list[str]) -> None:
    """Prints the table, and writes it with the pictures it was counted from."""
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


@torch.no_grad()
def evaluate(weights: Path, seeds: int, three_d_aware: tuple[float, ...] | None, out: Path) -> dict[str, Any]:
    """Generates `seeds` objects for every category and colour, and judges them.

    Returns:
        Parts of 1 for the names, dB for the pictures, and the mistakes by category and colour.
    """
    model = load(weights, torch.device("cpu"))
    judge = load_classifier(weights / "judge")
    cameras = views.view_cameras(model, model.settings.num_views)
    asked = [(category, color) for category in CATEGORIES for color in COLORS] * seeds
    right = {"category": 0, "color": 0, "both": 0}
    wrong: dict[str, int] = {}
    forward, refined, rows = [], [], []
    for start in tqdm(range(0, len(asked), AT_ONCE), "generating", unit="batch"):
        pairs = asked[start : start + AT_ONCE]
        prompts = [prompt_for(*pair) for pair in pairs]
        numbers = range(FIRST_SEED + start, FIRST_SEED + start + len(pairs))
        pictures = _generate(model, prompts, numbers, cameras, three_d_aware)
        for pair, name in zip(pairs, judge.name(pictures), strict=True):
            same = [a == b for a, b in zip(pair, name, strict=True)]
            right["category"] += same[0]
            right["color"] += same[1]
            right["both"] += all(same)
            for word, found, ok in zip(pair, name, same, strict=True):
                if not ok:
                    wrong[f"{word} → {found}"] = wrong.get(f"{word} → {found}", 0) + 1
        for images in pictures:
            before, after = _splat_quality(model, images, cameras)
            forward.append(before)
            refined.append(after)
        rows.append(pictures[:, ::2].flatten(0, 1))
        if len(rows) == 12 or start + AT_ONCE >= len(asked):
            write_sheet(
                out / f"starter-{start:04d}.png", torch.stack([r for r in rows if len(r) == len(rows[0])])
            )
            rows = []
    count = len(asked)
    return {
        "prompts": count,
        "category right": round(right["category"] / count, 3),
        "colour right": round(right["color"] / count, 3),
        "both right": round(right["both"] / count, 3),
        "reconstructed splats against views, dB": round(sum(forward) / count, 2),
        "refined splats against views, dB": round(sum(refined) / count, 2),
        "mistakes": dict(sorted(wrong.items(), key=lambda item: -item[1])),
    }


def _generate(
    model: ViewsModel,
    prompts: list[str],
    seeds: range,
    cameras: Tensor,
    three_d_aware: tuple[float, ...] | None,
) -> Tensor:  # [B, V, 3, H, W]
    settings = model.settings
    noise = torch.cat([views.starting_noise(model, len(cameras), seed) for seed in seeds])
    aware = settings.three_d_aware if three_d_aware is None else three_d_aware
    latents = views.denoise(
        model, views.told_by_text(model, prompts), noise, cameras, settings.steps, settings.guidance, aware
    )
    return model.decode(latents.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(prompts), -1))


def _splat_quality(model: ViewsModel, images: Tensor, cameras: Tensor) -> tuple[float, float]:
    """PSNR over all views, in dB, of the reconstructor's splats and of the refined ones."""
    settings = model.settings
    gaussians = views.views_to_gaussians(model, images[None], cameras)
    cloud = cloud_of(gaussians)
    with torch.enable_grad():
        pictures = views.cut_out(model, images, gaussians, cameras)
        better = fit(cloud, pictures, cameras, settings.fov_deg, steps=REFINING_STEPS)
    grey = torch.full((len(cameras), 3), settings.rendering.background)
    found = []
    for each in (cloud, better):
        rendered = render_cloud(
            leaves_of(each), cameras, settings.fov_deg, *images.shape[-2:], grey, "linear"
        ).movedim(-1, 1)
        found.append(-10 * (rendered - images).square().mean().log10().item())
    return found[0], found[1]
