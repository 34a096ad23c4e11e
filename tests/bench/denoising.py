"""How fast views are denoised, exactly and with features kept between steps: python -m tests.bench.denoising.

Three things: the arithmetic of the published networks, counted on tensors that have only sizes; what the fast
way costs in quality, with the starter's real weights; and the loops timed, with random weights at published
size on a graphics card, with networks of the starter's size without one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from backend.evaluation.image_quality import psnr
from backend.install.published import NETWORKS
from backend.install.published_settings import SETTINGS
from backend.models.deepcache import DeepFeatures
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from backend.pipelines import denoise as denoising
from backend.pipelines import orbits, reconstruction
from backend.pipelines.conditioning import Conditioning, condition_on_text
from backend.pipelines.deepcache import DeepCacheConfig, whole_steps
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.memory import plans
from backend.pipelines.model import ViewsModel, load
from backend.pipelines.noise import initial_noise, video_noise
from backend.pipelines.plan import CPU, Plan
from backend.pipelines.settings import ModelSettings
from backend.pipelines.three_d_aware import render
from backend.shared.model_store import MOTION, STARTER
from backend.starter.judges import WorldClassifier, load_judge
from backend.starter.motions import moving_prompt_for
from backend.starter.world import CATEGORIES, COLORS, prompt_for
from tests.bench.activation_memory import LATENT_PX, only_sizes
from tests.bench.rasterization import machine

DENOISERS = {
    "videomv-t2v": "videomv-t2v-unet",
    "videomv-i2v": "videomv-i2v-unet",
    "mvdream-lgm": "mvdream-v2-unet",
    "vivid-zoo": "vivid-zoo-unet",
}
TARGETS = {  # of the issues, for a graphics card
    "exact, times released": 3.0,
    "fast, times released": 6.0,
    "exact, part of the matmul peak": 0.4,
}
LAYERS, EVERY = (1, 2, 3), (2, 3, 5)  # of the table
FIRST_SEED = 9000  # far from those that settings were chosen with


@dataclass(frozen=True)
class Loop:
    """A denoiser with the sizes and settings it is used with, and random words and cameras to hear of."""

    net: Any
    settings: ModelSettings
    latent_px: int

    @property
    def steps(self) -> int:
        return self.settings.steps

    @property
    def replaced(self) -> set[int]:
        return Sampling(self.steps, self.settings.guidance, self.settings.three_d_aware).aware_steps

    def inputs(self, branches: int = 2) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of one evaluation, as the loops give them."""
        config, settings = self.net.config, self.settings
        count, side = settings.num_views, self.latent_px
        dtype, device = self.net.dtype, self.net.device
        moving = isinstance(self.net, MultiViewMotionUNet)
        shape = (
            (branches, count, settings.num_frames, config.in_channels, side, side)
            if moving
            else (branches, config.in_channels, count, side, side)
        )
        told: dict[str, Any] = {"motion": settings.num_frames > 1} if moving else {}
        if isinstance(self.net, VideoMVImageUNet):
            told["image_latents"] = torch.ones(branches, 4, side, side, dtype=dtype, device=device)
            told["image_embeddings"] = torch.ones(
                branches, 1, config.image_embedding_dim, dtype=dtype, device=device
            )
        noisy = torch.randn(shape, dtype=dtype, device=device)
        context = torch.randn(branches, 77, config.cross_attention_dim, dtype=dtype, device=device)
        cameras = torch.eye(4, dtype=dtype, device=device).expand(branches, count, 4, 4)
        return (noisy, 500, context, cameras), told

    def flop_of_step(self, layers: int | None = None) -> int:
        """Of one step, for both branches of the guidance: a whole one, or one with so many of the layers."""
        deep = DeepFeatures(layers) if layers else None
        arguments, told = self.inputs()
        for whole in (True, False) if deep else (True,):
            if deep:
                deep.begin(whole=whole)
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                self.net(*arguments, **told, deep=deep)
        return int(counter.get_total_flops())

    def flop(self, fast: DeepCacheConfig | None, whole: int, skipped: int) -> int:
        """Of a run, from those of its two kinds of steps; what 3D-aware steps do besides is not counted."""
        if not fast:
            return self.steps * whole
        count = len(whole_steps(fast, self.steps, self.replaced))
        return count * whole + (self.steps - count) * skipped


def published(name: str, device: torch.device = CPU) -> Loop:
    """A published model's denoiser at its size, with random weights."""
    with device:  # a billion random numbers take a CPU a while
        net = NETWORKS[DENOISERS[name]].make()
    return Loop(net.eval().requires_grad_(False), ModelSettings.from_dict(SETTINGS[name]), LATENT_PX)


def arithmetic(name: str) -> dict[str, Any]:
    """Operations of a run at published size, and how many times fewer they are in the fast way."""
    with only_sizes():
        loop = published(name)
        fast, whole = loop.settings.fast, loop.flop_of_step()
        exact = loop.flop(None, whole, whole)
        table = {}
        for layers in LAYERS:
            skipped = loop.flop_of_step(layers)
            for every in EVERY:
                other = dataclasses.replace(fast, whole_every=every, layers=layers)
                table[layers, every] = round(exact / loop.flop(other, whole, skipped), 2)
        return {
            "model": name,
            "exact_tflop": round(exact / 1e12, 1),
            "fast": dataclasses.asdict(fast),
            "times_fewer": table[fast.layers, fast.whole_every],
            "other_settings": {f"{layers} layers, every {every}": t for (layers, every), t in table.items()},
        }


def quality(folder: Path, objects: int, device: torch.device) -> dict[str, Any]:
    """What the fast way changes in what a starter makes: seconds, images, agreement, names.

    Objects are generated one after the other, exactly and fast in turn, with their 3D-aware steps.
    """
    model = load(folder, Plan(device))
    judge = load_judge(WorldClassifier, STARTER / "judge").to(device)
    cameras = orbits.view_cameras(model.settings, model.settings.num_views).to(device)
    pairs = [(category, list(COLORS)[i % len(COLORS)]) for i, category in enumerate(CATEGORIES)][:objects]
    rows = []
    for i, (category, color) in enumerate(pairs):
        made = {}
        for way, fast in (("exact", None), ("fast", model.settings.fast)):
            began = now(device)
            images = _generate(model, category, color, FIRST_SEED + i, cameras, fast)  # [F, V, 3, H, W]
            seconds = now(device) - began
            gaussians = reconstruction.views_to_gaussians(model, images, cameras)
            shown, _ = render(gaussians, cameras, model.settings.rendering)
            right = judge.name(images.flatten(0, 1)[None])[0][0] == category
            made[way] = images, seconds, psnr(shown.flatten(0, 1), images.flatten(0, 1)), right
        change = psnr(made["fast"][0].flatten(0, 1), made["exact"][0].flatten(0, 1))
        rows.append((change, *made["exact"][1:], *made["fast"][1:]))
    changes = [row[0] for row in rows]
    exact_s, exact_db, exact_right, fast_s, fast_db, fast_right = zip(*(row[1:] for row in rows), strict=True)
    return {
        "model": str(folder.relative_to(STARTER.parent)),
        "objects": len(rows),
        "fast": dataclasses.asdict(model.settings.fast),
        "exact_s": round(statistics.median(exact_s), 2),
        "fast_s": round(statistics.median(fast_s), 2),
        "fast_against_exact_db": {
            "mean": round(statistics.mean(changes), 1),
            "worst": round(min(changes), 1),
        },
        "splats_against_views_db": {
            "exact": round(statistics.mean(exact_db), 2),
            "fast": round(statistics.mean(fast_db), 2),
        },
        "category_right": {"exact": sum(exact_right), "fast": sum(fast_right)},
    }


@torch.inference_mode()
def _generate(
    model: ViewsModel, category: str, color: str, seed: int, cameras: Tensor, fast: DeepCacheConfig | None
) -> Tensor:  # [F, V, 3, H, W]
    settings, count = model.settings, len(cameras)
    moves = settings.num_frames > 1
    prompt = moving_prompt_for(category, color, "turning") if moves else prompt_for(category, color)
    noise = (
        video_noise(model, count, settings.num_frames, seed) if moves else initial_noise(model, count, seed)
    )
    sampling = Sampling(settings.steps, settings.guidance, settings.three_d_aware, fast)
    latents = denoise(model, condition_on_text(model, [prompt]), noise, cameras, sampling)
    return model.decode_frames(latents[0]).transpose(0, 1)


def contenders(loop: Loop) -> Iterator[tuple[str, Plan, DeepCacheConfig | None]]:
    """The released loop's arithmetic, ours exact, and ours fast; the network changes its numbers meanwhile.

    As released is: numbers of full precision, nothing compiled, the guidance's branches one after the other.
    Ours is the fastest plan for the device.
    """
    device = loop.net.device
    yield "released", Plan(device, batch_cfg=False), None
    plan = plans(device)[0]
    if plan.dtype != loop.net.dtype:
        loop.net.to(plan.dtype)
    yield "exact", plan, None
    yield "fast", plan, loop.settings.fast


@torch.inference_mode()
def run(loop: Loop, plan: Plan, fast: DeepCacheConfig | None) -> None:
    """A run of the real loop. Its 3D-aware steps leave the latents as they are: here is only the denoiser."""
    (noisy, _, context, _), image = loop.inputs()
    image.pop("motion", None)
    settings, noise = loop.settings, noisy[:1].float()
    if noise.ndim == 5:  # [B, C, V, h, w]
        noise = noise.transpose(1, 2).unsqueeze(2)
    nobody: Any = None  # the other networks have nothing to do
    model = ViewsModel(settings, nobody, nobody, loop.net, nobody, nobody, plan=plan)
    cameras = orbits.view_cameras(settings, settings.num_views)
    sampling = Sampling(settings.steps, settings.guidance, settings.three_d_aware, fast)
    with patch.object(denoising, "one_object_per_frame", lambda model, x0, *_: x0):
        denoise(model, Conditioning(context, image), noise, cameras, sampling)


def now(device: torch.device) -> float:  # seconds
    """When the graphics card has done what it was given; without one, CPU time: others keep it busy too."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def peak_tflops(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """What this machine multiplies matrices with, now."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        began = now(device)
        a @ b
        best = min(best, now(device) - began)
    return 2 * side**3 / best / 1e12


def race(name: str, loop: Loop, repeats: int) -> dict[str, Any]:
    """Seconds, TFLOP/s and memory of a run of every contender."""
    device, rows = loop.net.device, {}
    flops = loop.flop_of_step(), loop.flop_of_step(loop.settings.fast.layers)
    cuda = device.type == "cuda"
    brief = dataclasses.replace(loop, settings=dataclasses.replace(loop.settings, steps=2))
    for way, plan, fast in contenders(loop):
        run(brief, plan, fast)  # warms
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        taken = []
        for _ in range(repeats):
            began = now(device)
            run(loop, plan, fast)
            taken.append(now(device) - began)
        seconds, flop = statistics.median(taken), loop.flop(fast, *flops)
        rows[way] = {
            "s": round(seconds, 3),
            "tflop": round(flop / 1e12, 3),
            "tflop_s": round(flop / seconds / 1e12, 4),
            "part_of_matmul_peak": round(flop / seconds / 1e12 / peak_tflops(device, plan.dtype), 3),
            "peak_mib": torch.cuda.max_memory_allocated() >> 20 if cuda else None,
        }
    ratios = {
        "exact, times released": rows["released"]["s"] / rows["exact"]["s"],
        "fast, times released": rows["released"]["s"] / rows["fast"]["s"],
        "exact, part of the matmul peak": rows["exact"]["part_of_matmul_peak"],
    }
    return {"loop": name, "contenders": rows, "ratios": {key: round(r, 2) for key, r in ratios.items()}}


def starter(folder: Path) -> Loop:
    """A network of a starter's size, with random weights."""
    settings = ModelSettings.read(folder)
    config = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    kind = MultiViewMotionUNet if settings.num_frames > 1 else VideoMVUNet
    halvings = len(AutoencoderKL.load_config(STARTER / "autoencoder")["block_out_channels"]) - 1
    net = kind.from_config(config).eval().requires_grad_(False)
    return Loop(net, settings, settings.size_px >> halvings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--repeats", type=int, default=3, help="of every loop")
    parser.add_argument("--objects", type=int, default=4, help="to judge the quality by, up to 12")
    parser.add_argument("--only", nargs="+", choices=("arithmetic", "quality", "loops"))
    options = parser.parse_args()
    parts = options.only or ["arithmetic", "quality", "loops"]
    cuda = torch.cuda.is_available()
    device = torch.device("cuda") if cuda else CPU
    result: dict[str, Any] = {"machine": machine(), "card": torch.cuda.get_device_name() if cuda else None}

    def show(part: str, row: dict[str, Any]) -> None:
        result.setdefault(part, []).append(row)
        print(part, json.dumps(row, indent=1), flush=True)

    for name in DENOISERS if "arithmetic" in parts else ():
        show("arithmetic", arithmetic(name))
    for folder in (STARTER, STARTER / MOTION) if "quality" in parts else ():
        show("quality", quality(folder, options.objects, device))
    if "loops" in parts:
        for name in ("videomv-t2v", "vivid-zoo") if cuda else ():
            show("loops", race(name, published(name, device), options.repeats))
        for folder in () if cuda else (STARTER, STARTER / MOTION):
            show(
                "loops",
                race(f"random network of the size of {folder.name}", starter(folder), options.repeats),
            )
    if cuda:
        print("targets of the issues, for the loops:", TARGETS)
    print("machine", result["machine"], "load after", machine()["load"])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
