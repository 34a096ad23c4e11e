"""Trains VideoMV on images of objects: `python -m backend train videomv`, at any size of its networks.

Two stages, as in the paper: `--stage views` teaches a video model's U-Net to denoise views under known
cameras; `--stage reconstructor` teaches the reconstructor to make Gaussians of half-denoised views, with the
U-Net frozen. Image-conditioned models learn on white, from any side; text-conditioned ones on grey, and
without the caption now and then.

Source: VideoMV (arXiv 2403.12010) and its released code.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..install.converters import videomv_unet
from ..models.checkpoints import load_strictly, read_checkpoint
from ..models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from ..pipelines import reconstruction
from ..pipelines.conditioning import condition_on_image, condition_on_text, with_suffix
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.latents import latent_size
from ..pipelines.model import ViewsModel
from ..pipelines.noise import initial_noise
from ..pipelines.settings import ModelSettings
from ..pipelines.three_d_aware import render
from ..shared.protocol import DioramaError
from . import full_size, image_grid, objaverse, reconstructor
from .denoiser import CAPTION_DROPOUT
from .loop import Batch, TrainingPlan
from .objectives import HalfDenoisedObjective, Perceptual, ViewsObjective
from .text import tokens_of

COMPARED = 4  # random views to compare, in addition to those that the reconstructor sees
OFFSET_NOISE = 0.1  # of one value for a view and channel, of image-conditioned models
SHOWN, STEPS_SHOWN = 2, 20  # objects in a sample sheet, and how they are sampled
FOV_TOLERANCE_DEG = 0.5  # G-Objaverse writes 39.6 in some of its digits

# 8 objects a GPU; learning rate and averaging of the image model; so nearly constant a rate that it is here.
# The steps are those of the text model (the image model: 27 500). The reconstructor's are not stated: ours.
_VIDEOMV = TrainingPlan(66_000, 3e-5, 10, True, (0.9, 0.999), 0.0, None, ema_decay=0.9999, keep_every=1000)
PLANS = {"views": _VIDEOMV, "reconstructor": dataclasses.replace(_VIDEOMV, steps=20_000)}
OBJECTS_PER_PROCESS = 8


@dataclass(frozen=True)
class Objects:
    """The data set that batches are drawn from: plain data, which worker processes load without networks."""

    items: tuple[objaverse.Rendered, ...]
    tokens: Tensor  # [N, L] of their captions
    no_tokens: Tensor  # [L] instead, now and then
    settings: ModelSettings
    latent: tuple[int, int, int]
    by_image: bool


def main(argv: list[str]) -> None:
    """Trains one stage and makes a model folder of the result."""
    parser = full_size.parser_of("train videomv", __doc__)
    parser.add_argument("--stage", choices=PLANS, required=True)
    parser.add_argument("--prior", type=Path, help="views: begin with the U-Net of this video model's file")
    parser.add_argument("--vgg16", type=Path, help="reconstructor: VGG16's file, for the perceptual distance")
    args = parser.parse_args(argv)
    if (args.prior and args.stage != "views") or (args.vgg16 and args.stage != "reconstructor"):
        raise DioramaError("E_REQUEST", "--prior is for --stage views, and --vgg16 for --stage reconstructor")
    recipe = f"python -m backend train videomv --stage {args.stage}"
    run = full_size.run_of(args, recipe, OBJECTS_PER_PROCESS * full_size.processes(), PLANS[args.stage])
    model = full_size.load_model(run)
    if not isinstance(model.unet, VideoMVUNet):
        raise DioramaError(
            "E_REQUEST", f"{run.model} holds a {type(model.unet).__name__}, not VideoMV's U-Net"
        )
    objects, data = read_objects(run.data, model)
    if args.prior:
        begin_from_prior(model.unet, args.prior)
        data["prior"] = str(args.prior)
    if args.stage == "views":
        denoising = ViewsObjective(model)
        draw = functools.partial(views_batch, objects, run.at_once)
        show = functools.partial(show_views, model, objects)
        full_size.carry_out(
            run,
            denoising,
            draw,
            show,
            data,
            lambda folder: full_size.copy_with(run, "unet", model.unet, folder),
        )
        return
    objective = HalfDenoisedObjective(model, Perceptual(args.vgg16) if args.vgg16 else None)
    data["perceptual"] = bool(args.vgg16)
    full_size.carry_out(
        run,
        objective,
        functools.partial(reconstruction_batch, objects, run.at_once),
        functools.partial(show_reconstructions, objective, objects),
        data,
        lambda folder: full_size.copy_with(run, "reconstructor", model.reconstructor, folder),
    )


def read_objects(root: Path, model: ViewsModel) -> tuple[Objects, dict[str, Any]]:
    """The objects under a root that fit the model, and what to write down about them.

    Raises:
        DioramaError: E_DATA if there is none, with what is wrong with the first ones.
    """
    settings = model.settings
    by_image = isinstance(model.unet, VideoMVImageUNet)
    found = objaverse.scan(root, views=settings.num_views)

    def unfit(item: objaverse.Rendered) -> str | None:
        if abs(item.fov_deg - settings.fov_deg) > FOV_TOLERANCE_DEG:
            return f"its cameras have {item.fov_deg:g} degrees, the model's {settings.fov_deg:g}"
        return None if item.caption or by_image else "it has no caption, which conditions this model"

    found = found.without(unfit)
    if full_size.is_first():
        print(found.report(), flush=True)
    suffixed = [with_suffix(item.caption, settings.prompt_suffix) for item in found.objects]
    captions = [""] * len(suffixed) if by_image else suffixed
    tokenizer: Any = model.tokenizer
    objects = Objects(
        found.objects,
        tokens_of(tokenizer, captions),
        tokens_of(tokenizer, [settings.negative_prompt])[0],  # as VideoMV has it, and not an empty one
        settings,
        latent_size(model.autoencoder.config, settings.size_px),
        by_image,
    )
    return objects, {"folder": str(root.resolve()), "objects": len(found.objects)}


def begin_from_prior(unet: VideoMVUNet, path: Path) -> None:
    """Fills a U-Net with that of a video model, published by ModelScope, I2VGen-XL or in diffusers' names.

    What such a model does not know, the cameras, begins as nothing.

    Raises:
        DioramaError: E_WEIGHTS_MISSING, E_WEIGHTS_CORRUPT if it is another network's.
    """
    weights: Mapping[str, Tensor] = read_checkpoint(path)
    if any(name.startswith("input_blocks.") for name in weights):
        weights = videomv_unet(weights)
    cameras: Any = unet.camera_embedding
    cameras[0].reset_parameters()
    nn.init.zeros_(cameras[2].weight)
    nn.init.zeros_(cameras[2].bias)
    fresh = {f"camera_embedding.{name}": value for name, value in cameras.state_dict().items()}
    load_strictly(unet, {**fresh, **weights}, path.name)
    unet.float().requires_grad_(False)


def views_batch(objects: Objects, size: int, generator: torch.Generator) -> Batch:
    """Random objects at random strengths of noise."""
    return _stacked([_views_of_one(objects, generator)[0] for _ in range(size)])


def reconstruction_batch(objects: Objects, size: int, generator: torch.Generator) -> Batch:
    """The same, with views to reconstruct from and others to compare, larger.

    Source: VideoMV's released training: any four views are seen, and compared again, with four others.
    """
    settings, rows = objects.settings, []
    for _ in range(size):
        row, item, first = _views_of_one(objects, generator)
        count = len(item.cameras)
        row["seen"] = torch.randperm(count, generator=generator)[: settings.input_views]
        row["compared"] = torch.cat([torch.randperm(count, generator=generator)[:COMPARED], row["seen"]])
        numbers = [(first + int(view)) % count for view in row["compared"]]
        row["targets"] = objaverse.load(item, settings.rendering.size_px, numbers).rgba[:, 0]
        rows.append(row)
    return {**_stacked(rows), "background": torch.rand(3, generator=generator)}


def _views_of_one(objects: Objects, generator: torch.Generator) -> tuple[Batch, objaverse.Rendered, int]:
    """All views of a random object, the object, and which of its views is the first."""

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    number = below(len(objects.items))
    item = objects.items[number]
    first = below(len(item.cameras)) if objects.by_image else 0
    seen = objaverse.load(item, objects.settings.size_px).starting_at(first)
    channels, *size = objects.latent
    noise = torch.randn(channels, len(item.cameras), *size, generator=generator)
    if objects.by_image:
        noise += OFFSET_NOISE * torch.randn(channels, len(item.cameras), 1, 1, generator=generator)
    dropped = float(torch.rand((), generator=generator)) < CAPTION_DROPOUT and not objects.by_image
    row = {
        "rgba": seen.rgba[:, 0],
        "tokens": objects.no_tokens if dropped else objects.tokens[number],
        "cameras": seen.cameras,
        "noise": noise,
        "timesteps": torch.tensor(below(1000)),
    }
    return row, item, first


def _stacked(rows: list[Batch]) -> Batch:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def show_views(model: ViewsModel, objects: Objects, path: Path) -> float:
    """Writes generated views of the first objects; returns the PSNR of their reconstruction, in dB."""
    settings, rows, rendered = model.settings, [], []
    with torch.autocast(model.device.type, torch.bfloat16):
        for number, item in enumerate(objects.items[:SHOWN]):
            if objects.by_image:
                image = objaverse.load(item, settings.size_px, [0]).rgba[0, 0].float() / 255
                conditioning = condition_on_image(model, image)
            else:
                conditioning = condition_on_text(model, [item.caption])
            noise = initial_noise(model, len(item.cameras), number)
            cameras = item.cameras.to(model.device)
            sampling = Sampling(min(STEPS_SHOWN, settings.steps), settings.guidance)
            latents = denoise(model, conditioning, noise, cameras, sampling)
            images = model.decode_frames(latents[:, :, 0])
            gaussians = reconstruction.views_to_gaussians(model, images, cameras)
            small = dataclasses.replace(settings.rendering, size_px=settings.size_px)
            rows.append(images[0])
            rendered.append(render(gaussians, cameras, small)[0][0])
    image_grid.write_image_grid(path, torch.stack(rows))
    return -10 * (torch.stack(rendered) - torch.stack(rows)).square().mean().log10().item()


def show_reconstructions(objective: HalfDenoisedObjective, objects: Objects, path: Path) -> float:
    """Writes true images above those of the Gaussians of half-denoised views; returns the PSNR, in dB."""
    model = objective.model
    batch = reconstruction_batch(objects, SHOWN, torch.Generator().manual_seed(1))
    given = objective.given(**{name: value.to(model.device) for name, value in batch.items()})
    inputs = objective.reconstruction.input_views
    return reconstructor.show(model.reconstructor, given, path, model.settings.rendering, inputs)
