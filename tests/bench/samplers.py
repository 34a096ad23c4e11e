"""How near each sampler comes to a long DDIM run, by its steps: python -m tests.bench.samplers.

For every sampler and number of steps, alone, with DeepCache and with 3D-aware steps: PSNR between the
starter's views and those of DDIM with 100 steps from the same noise, with seeds that nothing was chosen with;
then what the judge names of other objects that each preset makes. In float32, so that nothing but the steps
differs; ten minutes of one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from backend import allocator
from backend.evaluation.image_quality import psnr
from backend.pipelines import orbits
from backend.pipelines.conditioning import condition_on_text
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel, load
from backend.pipelines.noise import initial_noise
from backend.pipelines.samplers import SAMPLERS
from backend.shared.model_store import STARTER
from backend.shared.request import PRESETS, GenerationRequest
from backend.starter.judges import WorldClassifier, load_judge
from backend.starter.objects.named import prompt_for
from backend.starter.objects.vocabulary import CATEGORIES, COLORS

STEPS = (8, 12, 16, 20, 25)
REFERENCE_STEPS = 100
FIRST_SEED = 9100  # far from those that settings were chosen with
WAYS = {"alone": (False, False), "DeepCache": (True, False), "3D-aware": (False, True)}
NAMES = {"ddim": "DDIM", "unipc": "UniPC", "dpm++": "DPM-Solver++ 2M"}


@torch.inference_mode()
def views(model: ViewsModel, prompts: list[str], sampling: Sampling) -> Tensor:  # [B, V, 3, H, W]
    """The views of one object for every prompt, each from noise of its own."""
    cameras = orbits.view_cameras(model.settings, model.settings.num_views)
    seeds = range(FIRST_SEED, FIRST_SEED + len(prompts))
    noise = torch.cat([initial_noise(model, len(cameras), seed) for seed in seeds])
    latents = denoise(model, condition_on_text(model, prompts), noise, cameras, sampling)
    return torch.stack([model.decode_frames(one)[:, 0] for one in latents])


def some_objects() -> list[tuple[str, str]]:
    """Every category, each in a colour."""
    return [(category, list(COLORS)[i % len(COLORS)]) for i, category in enumerate(CATEGORIES)]


def named(objects: int) -> list[str]:
    """For each preset, of how many objects the judge names what was asked for."""
    model, judge = load(STARTER), load_judge(WorldClassifier, STARTER / "judge")
    pairs, lines = some_objects()[-objects:], []
    for preset in PRESETS:
        sampling = Sampling.of(GenerationRequest(prompt="an object", preset=preset), model.settings)
        found = [judge.name(views(model, [prompt_for(*pair)], sampling))[0] for pair in pairs]
        pairs_of_words = list(zip(found, pairs, strict=True))
        right = [sum(name[i] == pair[i] for name, pair in pairs_of_words) for i in range(2)]
        right.append(sum(name == pair for name, pair in pairs_of_words))
        counts = ", ".join(map("{} {}".format, ("category", "colour", "both"), right))
        lines.append(f"{preset}: {NAMES[sampling.sampler]}, {sampling.steps} steps: of {objects}: {counts}")
        print(lines[-1], flush=True)
    return lines


def compare(objects: int, ways: list[str]) -> list[dict[str, Any]]:
    """The rows of the table. Where steps are 3D-aware, so are the same parts of the reference's."""
    model = load(STARTER)
    settings = model.settings
    prompts = [prompt_for(*pair) for pair in some_objects()[:objects]]
    references: dict[bool, Tensor] = {}
    rows = []
    for way in ways:
        cached, aware = WAYS[way]
        fractions = settings.three_d_aware if aware else ()
        if aware not in references:
            long = Sampling(REFERENCE_STEPS, settings.guidance, fractions)
            references[aware] = views(model, prompts, long)
        for sampler in SAMPLERS:
            for steps in STEPS:
                cache = settings.fast if cached else None
                began = time.process_time()
                made = views(model, prompts, Sampling(steps, settings.guidance, fractions, cache, sampler))
                seconds = (time.process_time() - began) / len(prompts)
                near = [psnr(one, other) for one, other in zip(made, references[aware], strict=True)]
                row = {"way": way, "sampler": sampler, "steps": steps, "cpu_s": round(seconds, 2)}
                rows.append(row | {"db": round(statistics.mean(near), 2), "worst_db": round(min(near), 2)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The distances as a table of the documentation."""
    lines = [f"| way, sampler | {' | '.join(map(str, STEPS))} |", "|---|" + len(STEPS) * "---|"]
    for way in dict.fromkeys(row["way"] for row in rows):
        for sampler in SAMPLERS:
            found = {
                row["steps"]: row["db"] for row in rows if (row["way"], row["sampler"]) == (way, sampler)
            }
            lines.append(f"| {way}, {NAMES[sampler]} | {' | '.join(f'{found[s]:.1f}' for s in STEPS)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The distances as a figure: one panel for every way."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    figure = Figure(figsize=(3.6 * len(ways), 3.4), layout="constrained")
    for axes, way in zip(figure.subplots(1, len(ways), sharey=True, squeeze=False)[0], ways, strict=True):
        for sampler in SAMPLERS:
            found = [row for row in rows if (row["way"], row["sampler"]) == (way, sampler)]
            axes.plot(
                [row["steps"] for row in found], [row["db"] for row in found], "o-", label=NAMES[sampler]
            )
        axes.set(title=way, xlabel="steps", xscale="log", xticks=STEPS, xticklabels=STEPS)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"PSNR to DDIM, {REFERENCE_STEPS} steps (dB)")
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=2, help="to compare the samplers with")
    parser.add_argument("--named", type=int, default=6, help="objects of each preset that the judge names")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    parser.add_argument("--figure", type=Path, help="write the curves to this image")
    options = parser.parse_args()
    allocator.keep_memory()
    rows = compare(options.objects, options.ways)
    names = named(options.named) if options.named else []
    print(table(rows), *names, sep="\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
