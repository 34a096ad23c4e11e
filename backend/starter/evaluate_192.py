"""Measures the 192 px starter: is it what was asked for, is it sharp, and is what was not seen right?"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..evaluation.image_quality import psnr
from ..gaussians.color import over
from ..gaussians.fitting import SplatParameters, render_rgba
from ..pipelines import orbits
from ..pipelines.conditioning import Conditioning, condition_on_image, condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.model import ViewsModel, load
from ..pipelines.noise import initial_noise
from ..shared.ply import GaussianCloud
from ..training.image_grid import write_image_grid
from . import evaluate_views
from .autoencoder import quality
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
    parser = argparse.ArgumentParser(prog="python -m backend evaluate starter-192", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=300, help="a third of them pairs never seen together")
    parser.add_argument(
        "--images", type=int, default=30, help="photos of compositions, to see from all sides"
    )
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), help="for the table and sheets")
    parser.add_argument("--plain", action="store_true", help="without the 3D-aware steps")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(args.weights, args.out, plain=args.plain)
    table = {
        "view size, px": evaluation.model.settings.size_px,
        **evaluation.of_text(args.prompts),
        **evaluation.of_images(args.images),
        **evaluation.of_seeds(),
    }
    (args.out / "starter-192.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
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
        self.model: ViewsModel = load(weights)
        self.judge = load_judge(WorldClassifier, weights / "judge")
        self.out = out
        settings = self.model.settings
        self.cameras = orbits.view_cameras(settings, settings.num_views)
        self.sampling = Sampling(
            settings.steps, settings.guidance, () if plain else tuple(settings.three_d_aware)
        )

    @torch.no_grad()
    def of_text(self, count: int) -> dict[str, Any]:
        """Parts of 1 for the names, dB for splats, and the mistakes."""
        asked = prompts_to_judge(count)
        named: list[tuple[str, str]] = []
        splats: list[tuple[float, float, int]] = []
        for number, pair in enumerate(tqdm(asked, "prompts", unit="prompt")):
            images = self._views(condition_on_text(self.model, [prompt_for(*pair)]), FIRST_SEED + number)
            named += self.judge.name(images[None])
            if number % SPLATS_OF_EVERY == 0:
                first, refined = evaluate_views.clouds(self.model, images, self.cameras)
                splats.append(
                    (psnr(self._shown(first), images), psnr(self._shown(refined), images), len(first))
                )
                write_image_grid(
                    self.out / f"text-{number:04d}.png", torch.stack([images, self._shown(refined)])
                )
        true = [
            self.judge.name(self._true(FIRST_OBJECT + i, pair)[None])[0]
            for i, pair in enumerate(tqdm(asked[::SPLATS_OF_EVERY], "true objects", unit="object"))
        ]
        new = [is_held_out(*pair) for pair in asked]
        table: dict[str, Any] = {"prompts": count}
        true_asked = asked[::SPLATS_OF_EVERY]
        judged: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
            "all": (asked, named),
            "pairs never seen together": (_where(new, asked), _where(new, named)),
            "true images, same judge": (true_asked, true),
        }
        for name, pair_of_lists in judged.items():
            parts = evaluate_views.right(*pair_of_lists)
            table |= {f"{name}: {part}": value for part, value in parts.items()}
        first_db, refined_db, numbers = torch.tensor(splats).mean(0).tolist()
        return table | {
            "reconstructed splats against views, dB": round(first_db, 2),
            "refined splats against views, dB": round(refined_db, 2),
            "splats": round(numbers),
            "mistakes": evaluate_views.mistakes(asked, named),
        }

    @torch.no_grad()
    def of_images(self, count: int) -> dict[str, Any]:
        """Compositions that were never seen, from one photo of each: all views against the truth."""
        rows = []
        numbers = itertools.islice(
            (n for n in itertools.count(FIRST_OBJECT) if not pictures.draw(n)[1].caption), count
        )
        for number in tqdm(numbers, "photos", total=count, unit="photo"):
            shape, _ = pictures.draw(number)
            photo = pictures.photos_of(number)[1]
            (given,) = render(shape, photo.camera[None], photo.fov_deg, pictures.SIZE_PX)
            truth = self._traced(shape).roll(-photo.view, 0)
            images = self._views(condition_on_image(self.model, given), FIRST_SEED + number)
            _, refined = evaluate_views.clouds(self.model, images, self.cameras)
            shown, wanted = self._shown(refined), over(truth, GREY)
            inside, wanted_inside = self._rgba(refined)[:, 3] > INSIDE, truth[:, 3] > INSIDE
            rows.append(
                (
                    psnr(images[1:], wanted[1:]),
                    psnr(shown[1:], wanted[1:]),
                    ((inside & wanted_inside).sum() / (inside | wanted_inside).sum()).item(),
                    quality(images, wanted)[1],
                    quality(shown, wanted)[1],
                )
            )
            write_image_grid(self.out / f"image-{number}.png", torch.stack([wanted, images, shown]))
        names = (
            "novel views against truth, dB",
            "novel views of the splats against truth, dB",
            "silhouettes of the splats against truth, IoU",
            "sharpness of the views",
            "sharpness of the splats",
        )
        means = torch.tensor(rows).mean(0).tolist()
        return {f"from one image: {name}": round(mean, 3) for name, mean in zip(names, means, strict=True)}

    @torch.no_grad()
    def of_seeds(self) -> dict[str, float]:
        """How different one prompt's objects are from seed to seed, by the judge's features, as a part of how
        different true objects are."""
        made, true = [], []
        for number, pair in enumerate(_spread(list(itertools.product(CATEGORIES, COLORS)), DIVERSE_PROMPTS)):
            conditioning = condition_on_text(self.model, [prompt_for(*pair)])
            seeds = range(FIRST_SEED + DIVERSE_SEEDS * number, FIRST_SEED + DIVERSE_SEEDS * (number + 1))
            made.append(self._distance(self._views(conditioning, seed) for seed in seeds))
            true.append(self._distance(self._true(FIRST_OBJECT + seed, pair) for seed in seeds))
        return {"diversity of seeds, of that of true objects": round(sum(made) / sum(true), 3)}

    def _distance(self, objects: Iterable[Tensor]) -> float:  # [V, 3, H, W] each
        features = torch.stack([self.judge.features(views).mean(0) for views in objects])
        return torch.pdist(features).mean().item()

    def _views(self, conditioning: Conditioning, seed: int) -> Tensor:  # [V, 3, H, W]
        noise = initial_noise(self.model, len(self.cameras), seed)
        latents = denoise(self.model, conditioning, noise, self.cameras, self.sampling)
        return self.model.decode_frames(latents[0])[:, 0]

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


def _where(mask: list[bool], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(itertools.compress(pairs, mask))
