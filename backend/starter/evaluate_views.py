"""Measures the starter: is it what was asked for, is it sharp, and is what was not seen right?"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..evaluation.image_quality import psnr
from ..gaussians.color import over
from ..gaussians.fitting import SplatParameters, render_rgba
from ..pipelines import orbits, reconstruction
from ..pipelines.conditioning import Conditioning, condition_on_image, condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.memory import plans
from ..pipelines.model import ViewsModel, load
from ..pipelines.noise import initial_noise
from ..pipelines.plan import CPU
from ..pipelines.views import refined
from ..shared.model_store import STARTER
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from ..training.image_grid import write_image_grid
from .autoencoder import sharpness
from .dataset import GREY
from .judges import WorldClassifier, load_judge
from .objects import pictures
from .objects.named import Request, make_object, prompt_for
from .objects.vocabulary import CATEGORIES, COLORS, is_held_out
from .sdf import Shape
from .tracing import render

FIRST_SEED = 5000  # far from those that were looked at while the recipe was made
FIRST_OBJECT = 2_000_000  # of the true objects: neither trained on nor held out for looking at
SPLATS_OF_EVERY = 8  # prompts, to save time
INSIDE = 0.5  # alpha from which on a pixel is the object's
DIVERSE_PROMPTS, DIVERSE_SEEDS = 12, 4


def main(argv: list[str]) -> int:
    """Prints the table, and writes it with the images it was counted from. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m backend evaluate starter", description=__doc__)
    parser.add_argument("--weights", type=Path, default=STARTER)
    parser.add_argument("--prompts", type=int, default=300, help="a third of them pairs never seen together")
    parser.add_argument(
        "--images", type=int, default=30, help="photos of compositions, to see from all sides"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        help="a folder of folders with views of an object, 0.png to 7.png, from its front",
    )
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), help="for the table and sheets")
    parser.add_argument("--plain", action="store_true", help="without the 3D-aware steps")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(args.weights, args.out, plain=args.plain)
    table: dict[str, Any] = {
        "view size, px": evaluation.model.settings.size_px,
        **evaluation.of_text(args.prompts),
        **evaluation.of_images(args.images),
        **evaluation.of_seeds(),
    }
    if args.photos:
        table["from the first of these views"] = evaluation.of_photos(args.photos)
    (args.out / "starter.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    for name, value in table.items():
        if not isinstance(value, dict):
            print(f"{name:<64}{value:>8}")
    return 0


def prompts_to_judge(count: int) -> list[tuple[str, str]]:
    """Categories with colours, as evenly as can be; a third are pairs that training never shows together."""
    pairs = list(itertools.product(CATEGORIES, COLORS))
    new = [pair for pair in pairs if is_held_out(*pair)]
    known = [pair for pair in pairs if not is_held_out(*pair)]
    return _spread(new, count // 3) + _spread(known, count - count // 3)


def _spread(pairs: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    return [pairs[i * len(pairs) // count % len(pairs)] for i in range(count)]


class Evaluation:
    """A model and its judge.

    Args:
        weights: the folder that the recipe wrote.
        out: for image grids.
        plain: without the 3D-aware steps.
    """

    def __init__(self, weights: Path, out: Path, *, plain: bool = False) -> None:
        self.model: ViewsModel = load(weights, plans(CPU)[0])
        self.judge = load_judge(WorldClassifier, weights / "judge")
        self.out = out
        settings = self.model.settings
        self.cameras = orbits.view_cameras(settings, settings.num_views)
        usual = Sampling.of(GenerationRequest(prompt="an object"), settings)
        self.sampling = replace(usual, three_d_aware=()) if plain else usual

    @torch.no_grad()
    def of_text(self, count: int) -> dict[str, Any]:
        """Parts of 1 for the names, dB for splats, and the mistakes."""
        asked = prompts_to_judge(count)
        named: list[tuple[str, str]] = []
        splats: list[tuple[float, float, int]] = []
        shown: list[Tensor] = []  # views, and the splats from there
        for first in tqdm(range(0, count, SPLATS_OF_EVERY), "prompts", unit=f"{SPLATS_OF_EVERY} prompts"):
            prompts = [prompt_for(*pair) for pair in asked[first : first + SPLATS_OF_EVERY]]
            seeds = range(FIRST_SEED + first, FIRST_SEED + first + len(prompts))
            made = self._views(condition_on_text(self.model, prompts), seeds)
            named += self.judge.name(made)
            images = made[0]
            reconstructed, fitted = clouds(self.model, images, self.cameras)
            shown.append(torch.stack([images, self._shown(fitted)]))
            decibels = psnr(self._shown(reconstructed), images), psnr(shown[-1][1], images)
            splats.append((*decibels, len(fitted)))
            write_image_grid(self.out / f"text-{first:04d}.png", shown[-1])
        true_objects = [
            self._true(FIRST_OBJECT + i, pair)
            for i, pair in enumerate(tqdm(asked[::SPLATS_OF_EVERY], "true objects", unit="object"))
        ]
        true = [self.judge.name(views[None])[0] for views in true_objects]
        views, refined_views = torch.stack(shown).unbind(1)
        new = [is_held_out(*pair) for pair in asked]
        table: dict[str, Any] = {"prompts": count}
        true_asked = asked[::SPLATS_OF_EVERY]
        judged: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
            "all": (asked, named),
            "pairs never seen together": (_where(new, asked), _where(new, named)),
            "true images, same judge": (true_asked, true),
        }
        for name, pair_of_lists in judged.items():
            parts = right(*pair_of_lists)
            table |= {f"{name}: {part}": value for part, value in parts.items()}
        first_db, refined_db, numbers = torch.tensor(splats).mean(0).tolist()
        return table | {
            "reconstructed splats against views, dB": round(first_db, 2),
            "refined splats against views, dB": round(refined_db, 2),
            "splats": round(numbers),
            "sharpness of the views": round(sharpness(views, torch.stack(true_objects)), 3),
            "sharpness of the splats": round(sharpness(refined_views, torch.stack(true_objects)), 3),
            "mistakes": mistakes(asked, named),
        }

    @torch.no_grad()
    def of_images(self, count: int) -> dict[str, Any]:
        """Compositions that were never seen, from one photo of each: all views against the truth."""
        numbers = itertools.islice(
            (n for n in itertools.count(FIRST_OBJECT) if not pictures.draw(n)[1].caption), count
        )
        rows = []
        for number in tqdm(numbers, "photos", total=count, unit="photo"):
            shape, _ = pictures.draw(number)
            photo = pictures.photos_of(number)[1]
            (given,) = render(shape, photo.camera[None], photo.fov_deg, pictures.SIZE_PX)
            truth = self._traced(shape).roll(-photo.view, 0)
            rows.append(self._from_image(given, truth, number))
        return {
            f"from one image: {name}": round(sum(row[name] for row in rows) / len(rows), 3)
            for name in rows[0]
        }

    @torch.no_grad()
    def of_photos(self, folder: Path) -> dict[str, dict[str, float]]:
        """The same of objects in folders of their own, whose first view is the image."""
        rows = {}
        for each in tqdm(sorted(path for path in folder.iterdir() if path.is_dir()), "folders"):
            views = [Image.open(each / f"{i}.png").convert("RGBA") for i in range(len(self.cameras))]
            truth = torch.from_numpy(np.stack([np.asarray(view) for view in views])).movedim(-1, 1) / 255
            row = self._from_image(truth[0], truth, each.name)
            rows[each.name] = {name: round(value, 3) for name, value in row.items()}
        return rows

    def _from_image(self, image: Tensor, truth: Tensor, name: object) -> dict[str, float]:
        """One object of which the first side is given, [4, H, W], and all are known, [V, 4, H, W]."""
        (views,) = self._views(condition_on_image(self.model, image), [FIRST_SEED])
        _, fitted = clouds(self.model, views, self.cameras)
        shown, wanted = self._shown(fitted), over(truth, GREY)
        inside, wanted_inside = self._rgba(fitted)[:, 3] > INSIDE, truth[:, 3] > INSIDE
        write_image_grid(self.out / f"image-{name}.png", torch.stack([wanted, views, shown]))
        return {
            "novel views against truth, dB": psnr(views[1:], wanted[1:]),
            "novel views of the splats against truth, dB": psnr(shown[1:], wanted[1:]),
            "silhouettes of the splats against truth, IoU": (
                (inside & wanted_inside).sum() / (inside | wanted_inside).sum()
            ).item(),
            "sharpness of the views": sharpness(views, wanted),
            "sharpness of the splats": sharpness(shown, wanted),
        }

    @torch.no_grad()
    def of_seeds(self) -> dict[str, float]:
        """How different one prompt's objects are from seed to seed, by the judge's features, as a part of how
        different true objects are."""
        made, true = [], []
        for number, pair in enumerate(_spread(list(itertools.product(CATEGORIES, COLORS)), DIVERSE_PROMPTS)):
            conditioning = condition_on_text(self.model, DIVERSE_SEEDS * [prompt_for(*pair)])
            seeds = range(FIRST_SEED + DIVERSE_SEEDS * number, FIRST_SEED + DIVERSE_SEEDS * (number + 1))
            made.append(self._distance(self._views(conditioning, seeds)))
            true.append(self._distance(self._true(FIRST_OBJECT + seed, pair) for seed in seeds))
        return {"diversity of seeds, of that of true objects": round(sum(made) / sum(true), 3)}

    def _distance(self, objects: Iterable[Tensor]) -> float:  # [V, 3, H, W] each
        features = torch.stack([self.judge.features(views).mean(0) for views in objects])
        return torch.pdist(features).mean().item()

    def _views(self, conditioning: Conditioning, seeds: Sequence[int]) -> Tensor:  # [B, V, 3, H, W]
        noise = torch.cat([initial_noise(self.model, len(self.cameras), seed) for seed in seeds])
        latents = denoise(self.model, conditioning, noise, self.cameras, self.sampling)
        return self.model.decode_frames(latents[:, :, 0]).float()

    def _rgba(self, cloud: GaussianCloud) -> Tensor:  # [V, 4, H, W]
        size, fov_deg = self.model.settings.size_px, self.model.settings.fov_deg
        return render_rgba(SplatParameters.of(cloud), self.cameras, fov_deg, size, size, "linear")

    def _shown(self, cloud: GaussianCloud) -> Tensor:  # [V, 3, H, W]
        return over(self._rgba(cloud), GREY, "linear")

    def _true(self, number: int, pair: tuple[str, str]) -> Tensor:  # [V, 3, H, W]
        shape = make_object(number, Request(*pair, trim="", pattern="")).shape
        return over(self._traced(shape), GREY)

    def _traced(self, shape: Shape) -> Tensor:  # [V, 4, H, W]
        settings = self.model.settings
        return render(shape, self.cameras, settings.fov_deg, settings.size_px)


def clouds(model: ViewsModel, images: Tensor, cameras: Tensor) -> tuple[GaussianCloud, GaussianCloud]:
    """The splats of views [V, 3, H, W]: as reconstructed, and as refined."""
    gaussians = reconstruction.views_to_gaussians(model, images[None], cameras)
    cloud = reconstruction.to_cloud(gaussians)
    rgba = reconstruction.matte(model, images, gaussians, cameras)
    return cloud, refined(cloud, rgba, cameras, model.settings.fov_deg, 0, Progress())


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


def _where(mask: list[bool], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(itertools.compress(pairs, mask))
