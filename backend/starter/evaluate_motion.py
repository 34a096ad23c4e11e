"""Measures the moving starter, whole and with each of its parts taken out: the paper's ablation in the small.

Source: Vivid-ZOO (arXiv 2406.08659), table 2. There people compared videos of networks that had been trained
without a part; here judges name what they see, and a part of the trained network is switched off.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..evaluation import fvd
from ..evaluation.assets import default_weights, installed
from ..evaluation.clip_score import clip_score
from ..evaluation.images import with_mask
from ..evaluation.silhouettes import silhouette_consistency
from ..gaussians.color import GREY, over
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..pipelines import orbits
from ..pipelines.conditioning import condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.memory import plans
from ..pipelines.model import ViewsModel, load
from ..pipelines.noise import video_noise
from ..pipelines.plan import CPU
from ..shared.model_store import MOTION, STARTER
from ..shared.request import GenerationRequest
from ..training.image_grid import write_image_grid
from . import clips
from .dataset import FIRST_HELD_OUT_SEED
from .judges import WorldClassifier, load_judge
from .motion_judge import MotionClassifier
from .motions import MOTION_SYNONYMS, STILL, make_clip, moving_prompt_for
from .objects.framing import FOV_DEG
from .objects.named import Request
from .objects.pictures import SIZE_PX
from .objects.vocabulary import CATEGORIES, COLORS
from .tracing import render

AWARE = "whole, with 3D-aware steps"  # as it is used; all other rows are without
NO_SIDES = "without the multi-view network"  # every view for itself, told nothing of its camera
PARTS: dict[str, tuple[str, ...]] = {  # of the network, that a row of the table is without
    AWARE: (),
    "whole": (),
    "without 3D-2D alignment": ("align_in",),
    "without 2D-3D alignment": ("align_out",),
    "without alignment": ("align_in", "align_out"),
    NO_SIDES: ("camera_embedding.linear_2", "align_in", "align_out"),
    "without motion modules": ("motion_modules.0.proj_out", "motion_modules.1.proj_out", "align_out"),
}
TRUE = "true clips"
FIRST_SEED = 7000  # far from those that were looked at while the recipe was made
OTHERS = 1000  # from there on: the true clips that FVD is measured against, which no row shows


Sees = Callable[[Tensor], Tensor]  # videos [N, F, 3, H, W] to what a network sees in them [N, D]


@dataclass(frozen=True)
class Judges:
    """Who looks at clips."""

    objects: WorldClassifier
    motions: MotionClassifier
    videos: dict[str, Sees]  # by the names of their columns
    real: dict[str, Tensor]  # what they see in true clips of the same prompts: [N, D]
    clip: Path | None  # the folder of a CLIP model, if there is one


def main(argv: list[str]) -> int:
    """Prints the table, and writes it with images of what it was counted from. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m backend evaluate starter-motion", description=__doc__)
    parser.add_argument("--weights", type=Path, default=STARTER / MOTION)
    parser.add_argument(
        "--prompts",
        type=int,
        choices=range(1, 321),
        metavar="N",
        default=60,
        help="of the 320 of category and motion",
    )
    parser.add_argument("--only", nargs="+", choices=(TRUE, *PARTS), help="these rows of the table only")
    parser.add_argument("--metric-weights", type=Path, help="folder with clip/ and videomae/, as of assets")
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), help="for the table and sheets")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    model = load(args.weights, plans(CPU)[0])
    asked = _asked(args.prompts)
    judges = _judges(args.weights, args.metric_weights or default_weights(), asked)
    assert isinstance(model.unet, MultiViewMotionUNet)
    networks = variants(model.unet)
    table: dict[str, Any] = {}
    cameras = orbits.view_cameras(model.settings, model.settings.num_views)
    for name in args.only or [TRUE, *networks]:
        if name == TRUE:
            made = (_true_clip(i, *what) for i, what in enumerate(asked))
        else:
            variant = dataclasses.replace(model, unet=networks[name])
            made = (
                _generate(variant, name, moving_prompt_for(*what), i, cameras) for i, what in enumerate(asked)
            )
        table[name] = measure(tqdm(made, name, len(asked), unit="clip"), asked, judges, cameras,
                              args.out / f"motion-{name.replace(' ', '-')}.png")  # fmt: skip
        print(json.dumps({name: table[name]}))
    (args.out / "starter-motion.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return 0


@torch.no_grad()
def _judges(weights: Path, metrics: Path | None, asked: list[tuple[str, str, str]]) -> Judges:
    """Our own, and those of large networks that are installed; and what they see in true clips."""
    motions = load_judge(MotionClassifier, weights / "motion_judge")
    videos: dict[str, Sees] = {"FVD by the motion judge": motions.seen}
    if folder := installed(metrics, fvd.FOLDER):
        network = fvd.video_network(folder)
        videos["FVD by VideoMAE"] = functools.partial(fvd.seen_by, network)
    true = tqdm([OTHERS + i for i in range(len(asked))], "true clips to compare with", unit="clip")
    seen = [
        [sees(video) for sees in videos.values()]
        for video in (_true_clip(i, *what) for i, what in zip(true, asked, strict=True))
    ]
    real = dict(zip(videos, map(torch.cat, zip(*seen, strict=True)), strict=True))
    return Judges(
        load_judge(WorldClassifier, STARTER / "judge"),
        motions,
        videos,
        real,
        installed(metrics, "clip"),
    )


def variants(whole: MultiViewMotionUNet) -> dict[str, MultiViewMotionUNet]:
    """The network, and the same without each of its parts."""
    return {name: _without(whole, those) for name, those in PARTS.items()}


def _without(network: MultiViewMotionUNet, parts: tuple[str, ...]) -> MultiViewMotionUNet:
    """A copy with these layers at zero, which is as if they were not there."""
    reduced = copy.deepcopy(network).eval()
    with torch.no_grad():
        for name, parameter in reduced.named_parameters():
            if any(part in name for part in parts):
                parameter.zero_()
    return reduced


def _asked(count: int) -> list[tuple[str, str, str]]:
    """Category, colour and motion of every prompt: colours follow one another."""
    motions = [motion for motion in MOTION_SYNONYMS if motion != STILL]
    pairs = [(category, motion) for category in CATEGORIES for motion in motions]
    colors = list(COLORS)
    step = max(len(pairs) // count, 1)
    while math.gcd(step, len(motions)) > 1:  # or some motions would be left out
        step -= 1
    return [
        (category, colors[(3 * i) % len(colors)], motion)
        for i, (category, motion) in enumerate(pairs[::step][:count])
    ]


@torch.no_grad()
def _generate(
    model: ViewsModel, name: str, prompt: str, i: int, cameras: Tensor
) -> Tensor:  # [V, F, 3, H, W]
    settings = model.settings
    conditioning = condition_on_text(model, [prompt])
    noise = video_noise(model, len(cameras), settings.num_frames, FIRST_SEED + i)
    together = 1 if name == NO_SIDES else len(cameras)
    usual = Sampling.of(GenerationRequest(prompt=prompt), settings)
    sampling = usual if name == AWARE else dataclasses.replace(usual, three_d_aware=())
    latents = torch.cat(
        [
            denoise(model, conditioning, some, seen, sampling)
            for some, seen in zip(noise.split(together, 1), cameras.split(together), strict=True)
        ],
        dim=1,
    )
    return model.decode_frames(latents[0])


def _true_clip(i: int, category: str, color: str, motion: str) -> Tensor:  # [V, F, 3, H, W]
    wanted = Request(category, color, "", "")
    clip = make_clip(FIRST_HELD_OUT_SEED + FIRST_SEED + i, clips.FRAMES, wanted, motion)
    cameras = clips.cameras()
    return over(torch.stack([render(s, cameras, FOV_DEG, SIZE_PX) for s in clip.frames], dim=1), GREY)


@torch.no_grad()
def measure(
    made: Iterable[Tensor],  # of [V, F, 3, H, W]
    asked: list[tuple[str, str, str]],
    judges: Judges,
    cameras: Tensor,  # [V, 4, 4]
    sheet: Path,
) -> dict[str, float]:
    """Means over all clips: parts of 1 for names and outlines, differences of sRGB values, and distances.

    FVD is between all views of all clips and those of true ones. By the motion judge it hears of motions
    only; between two sets of true clips it is not 0 either, but what so few clips leave.
    """
    rows, right, numbers, scores = [], [], [], []
    seen: dict[str, list[Tensor]] = {name: [] for name in judges.videos}
    for clip, (category, color, motion) in zip(made, asked, strict=True):
        rows.append(clip[:2].flatten(0, 1))
        names = judges.objects.name(clip.flatten(0, 1)[None])[0]
        right.append((names[0] == category, names[1] == color, judges.motions.name(clip[None])[0] == motion))
        masks = with_mask(clip, torch.full((3,), GREY))[:, :, 3]
        agreeing = [
            silhouette_consistency(masks[:, frame], cameras, FOV_DEG) or 0.0 for frame in range(clip.shape[1])
        ]
        turn = clip - clip.roll(1, 1)
        numbers.append(
            (
                sum(agreeing) / len(agreeing),
                (turn - turn.roll(-1, 1)).abs().mean().item(),
                (clip - clip.mean(1, keepdim=True)).square().mean().sqrt().item(),
            )
        )
        for name, sees in judges.videos.items():
            seen[name].append(sees(clip))
        if judges.clip:
            prompt = moving_prompt_for(category, color, motion)
            scores.append(clip_score(clip.flatten(0, 1), prompt, judges.clip))
    write_image_grid(sheet, torch.stack(rows[:: max(len(rows) // 12, 1)]))
    parts = torch.tensor(right).float()
    means = torch.tensor(numbers).mean(0).tolist()
    return {
        "category": round(parts[:, 0].mean().item(), 3),
        "colour": round(parts[:, 1].mean().item(), 3),
        "motion": round(parts[:, 2].mean().item(), 3),
        "all three": round(parts.prod(1).mean().item(), 3),
        "outlines of a frame agree": round(means[0], 4),
        "flicker (second difference)": round(means[1], 5),
        "motion (RMS about the mean frame)": round(means[2], 4),
        **{
            name: round(fvd.frechet_distance(torch.cat(found), judges.real[name]), 4)
            for name, found in seen.items()
        },
        **({"CLIP score": round(sum(scores) / len(scores), 2)} if scores else {}),
    }
