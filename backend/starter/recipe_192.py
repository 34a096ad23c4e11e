"""The recipe of the starter with 192 px views: `python -m backend train starter-192`.

Its world (`objects/`) has 64 kinds of objects and random compositions, rendered when needed. The stages are
single images, then views with cameras, by a denoiser that text, an image or both condition (VideoMV); the
decoder of the autoencoder, whose encoder is found and not trained; a reconstructor on true images, then on
half-denoised ones, with the denoiser frozen; a judge. Denoiser and reconstructor begin with the shipped
starter's weights. Each stage is kept in the work folder, and an interrupted recipe goes on where it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ..models.lgm import LGM
from ..models.principal_autoencoder import PrincipalAutoencoder
from ..models.videomv_unet import VideoMVImageUNet
from ..pipelines import schedules
from ..pipelines.conditioning import condition_on_image, condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.latents import unshuffled
from ..pipelines.model import ViewsModel
from ..pipelines.noise import initial_noise
from ..pipelines.settings import ModelSettings
from ..pipelines.three_d_aware import SplatRendering
from ..shared.model_store import STARTER
from ..training import denoiser, reconstructor
from ..training.image_grid import write_image_grid
from ..training.loop import Batch, TrainingPlan
from ..training.text import make_text_encoder, make_tokenizer, tokens_of
from . import autoencoder, decoder_192, recipe, reconstructor_192
from .conditioned import ConditionedObjective, make_image_encoder
from .critic import Critic
from .dataset import GREY, save_whole
from .enlarged import enlarge_denoiser, enlarge_text_encoder, strengthen_image
from .objects import asked_for, judged, pictures
from .objects.framing import ELEVATION_DEG, FOV_DEG, RADIUS
from .objects.vocabulary import TOKENS, is_held_out, vocabulary
from .reconstructor_192 import INPUT_VIEWS
from .train_judge import ClassifierObjective

OBJECTS, HELD_OUT = 3000, 50
SEED = 0
WIDTH = 128  # of a text token
LATENT_CHANNELS = 24  # of a sixteenth of the views' side
IMAGE_WIDTH = 4  # as published
SAMPLED_OBJECTS = 100  # of which components are found
SEEN_TOGETHER = (8, 4, 1, 1)  # views of an object in a batch: from fewer sides, more objects at the same cost
PRIOR = STARTER  # weights to begin with, of `python -m backend train starter`
WEIGHTS = Path("out/training/weights192")  # until they are better than those that are shipped
SHOWN_STEPS = 12  # of denoising, while it trains
PROMPTS = (
    "a red and white spotted mushroom",
    "a blue cat with a yellow scarf",
    "a striped green and black fish",
    "an orange castle",
    "a turquoise rocket",
    "a pink guitar",
)

# Neighbouring patches are so alike that the shape shows through much noise: with the small starter's schedule
# it is decided in the first tenth of the steps, before an image or text has had its say.
SCHEDULE = {**schedules.STARTER, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.015}

PLANS = {  # batch, shared by all processes, and the rest
    "images": (32, TrainingPlan(1500, 1e-3, ema_decay=0.998, keep_every=250)),
    "first views": (8, TrainingPlan(750, 8e-4, ema_decay=0.998, keep_every=150, constant=True)),
    "views": (8, TrainingPlan(1650, 8e-4, ema_decay=0.998, keep_every=150)),  # with a louder image
    "decoder": (8, TrainingPlan(2500, 1e-3, ema_decay=0.998, keep_every=250)),
    "decoder with a critic": (
        8,
        TrainingPlan(1500, 4e-4, betas=(0.5, 0.99), ema_decay=0.995, keep_every=250),
    ),
    "reconstructor": (2, TrainingPlan(1000, 6e-4, ema_decay=0.995, keep_every=100)),
    "reconstructor on half-denoised views": (2, TrainingPlan(300, 3e-4, ema_decay=0.99, keep_every=100)),
    "judge": (64, TrainingPlan(1500, 2e-3, ema_decay=0.99, keep_every=250)),
}

SETTINGS = ModelSettings(
    schedule=SCHEDULE,
    num_views=pictures.VIEWS,
    size_px=pictures.SIZE_PX,
    elevation_deg=ELEVATION_DEG,
    radius=RADIUS,
    fov_deg=FOV_DEG,
    steps=25,
    guidance=3.0,
    three_d_aware=(0.4, 0.6, 0.8),
    input_views=len(INPUT_VIEWS),
    rendering=SplatRendering(FOV_DEG, pictures.SIZE_PX, GREY, "linear"),
    words=tuple(vocabulary()),
    prompt_beside_image=True,
)


def main(argv: list[str]) -> None:
    """Trains what is not trained yet, and writes the weights."""
    recipe.main(argv, "starter-192", __doc__ or "", PLANS, WEIGHTS, Recipe)


class Recipe:
    """The networks while they are trained, and the images that they learn from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        torch.manual_seed(SEED)
        self.autoencoder = PrincipalAutoencoder(
            latent_channels=LATENT_CHANNELS, sample_size=pictures.SIZE_PX // 2
        )
        self.tokenizer = make_tokenizer(vocabulary(), TOKENS)
        self.text_encoder = make_text_encoder(self.tokenizer, WIDTH)
        self.image_encoder = make_image_encoder(WIDTH)
        self.unet = VideoMVImageUNet(
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock3D",) * 2,
            up_block_types=("CrossAttnUpBlock3D",) * 2,
            cross_attention_dim=WIDTH,
            attention_head_dim=32,
            transformer_in_heads=2,
            norm_num_groups=16,
            image_embedding_dim=WIDTH,
            image_width=IMAGE_WIDTH,
        )
        self.reconstructor = LGM.from_pretrained(PRIOR / "reconstructor").float()
        self.judge = judged.make_judge()
        enlarge_denoiser(self.unet, PRIOR / "unet")
        words = PreTrainedTokenizerFast.from_pretrained(PRIOR / "tokenizer")
        enlarge_text_encoder(self.text_encoder, self.tokenizer, PRIOR / "text_encoder", words)

    @cached_property
    def world(self) -> pictures.Pictures:
        """All but what evaluation asks for as new: some pairs of a kind and a colour."""
        every = pictures.load(self.work / "world192", 0, OBJECTS)
        return every.where(lambda item: not item.caption or not is_held_out(item.category, item.color))

    @cached_property
    def held_out(self) -> pictures.Pictures:
        return pictures.load(self.work / "world192", pictures.FIRST_HELD_OUT, HELD_OUT)

    @cached_property
    def tokens(self) -> Tensor:  # [N, L]
        return tokens_of(self.tokenizer, [item.caption for item in self.world.items])

    @property
    def model(self) -> ViewsModel:
        """The networks as a pipeline uses them."""
        return ViewsModel(
            SETTINGS,
            self.tokenizer,
            self.text_encoder,
            self.unet,
            self.autoencoder,
            self.reconstructor,
            self.image_encoder,
        )

    def run(self, stage: str) -> None:
        """Trains one stage, or loads it if it is done."""
        self._find_components()
        if stage.startswith("decoder"):
            critic = Critic() if stage.endswith("critic") else None
            self._train(
                stage,
                autoencoder.DecoderObjective(self.autoencoder, decoder_192.noisy, critic),
                lambda generator, size: decoder_192.batch_of(self.world, generator, size),
                lambda path: autoencoder.show(
                    self.autoencoder, decoder_192.held_out_images(self.held_out), path
                ),
            )
        elif stage == "images":
            self._train_denoiser(stage, denoiser.IMAGES)
        elif stage == "first views":
            self._train_denoiser(stage, denoiser.VIEWS)
        elif stage == "views":
            grey = torch.full((1, 3, pictures.SIZE_PX, pictures.SIZE_PX), GREY)
            meaning, nothing = self.model.encode_image(grey), torch.zeros_like(self.model.encode(grey))
            strengthen_image(self.unet, nothing, meaning)
            self._train_denoiser(stage, denoiser.VIEWS)
        elif stage == "judge":
            self._train_judge(stage)
        else:
            self._train_reconstructor(stage)

    def _find_components(self) -> None:
        """The autoencoder's encoder: found once, then read."""
        kept, coder = self.work / "192-components.safetensors", self.autoencoder
        if not kept.exists():
            some = pictures.load(self.work / "world192", 0, SAMPLED_OBJECTS)
            images = torch.stack([some.image(i, i % pictures.VIEWS) for i in range(len(some))])
            coder.learn_components(unshuffled(coder, 2 * pictures.on_grey(images) - 1))
            save_whole({"components": coder.components.weight.detach(), "spread": coder.spread}, kept)
        found = load_file(kept)
        with torch.no_grad():
            coder.components.weight.copy_(found["components"])
            coder.spread.copy_(found["spread"])

    def _train_denoiser(self, stage: str, kind: denoiser.ViewsStage) -> None:
        self._train(
            stage,
            ConditionedObjective(
                self.unet,
                self.text_encoder,
                self.image_encoder,
                SCHEDULE if kind.cameras else schedules.STARTER,  # images show patches, views show shapes
                kind,
                self.autoencoder.spread,  # wide shapes before fine grain, though both vary by 1
            ),
            lambda generator, size: self._denoiser_batch(kind, generator, size),
            self._show_views if kind.cameras else None,
        )

    def _denoiser_batch(self, kind: denoiser.ViewsStage, generator: torch.Generator, size: int) -> Batch:
        nothing = tokens_of(self.tokenizer, [""])[0]
        if kind.cameras:
            views = SEEN_TOGETHER[int(torch.randint(len(SEEN_TOGETHER), (), generator=generator))]
            kind, size = replace(kind, views=views), size * kind.views // views
        return asked_for.batch_of(self.world, self.autoencoder, self.tokens, nothing, kind, generator, size)

    def _train_reconstructor(self, stage: str) -> None:
        seen = self._half_denoised if stage.endswith("half-denoised views") else None
        shown = reconstructor_192.batch_of(self.held_out, torch.Generator().manual_seed(1), 8)
        self._train(
            stage,
            reconstructor.ReconstructorObjective(self.reconstructor, FOV_DEG, "linear", INPUT_VIEWS),
            lambda generator, size: reconstructor_192.batch_of(self.world, generator, size, seen),
            lambda path: reconstructor.show(self.reconstructor, shown, path, SETTINGS.rendering, INPUT_VIEWS),
        )

    def _train_judge(self, stage: str) -> None:
        world, held_out = (
            part.where(lambda item: bool(item.caption)) for part in (self.world, self.held_out)
        )
        self._train(
            stage,
            ClassifierObjective(self.judge),
            lambda generator, size: judged.batch_of(world, self.judge, generator, size),
            lambda path: judged.show(self.judge, held_out, path),
        )

    def _train(
        self,
        stage: str,
        objective: nn.Module,
        batch_of: Callable[[torch.Generator, int], Batch],
        show: Callable[[Path], float] | None,
    ) -> None:
        recipe.train_stage(
            stage, PLANS, self.work / f"192-{stage.replace(' ', '-')}", objective, batch_of, show
        )

    @torch.no_grad()
    def _half_denoised(self, objects: Tensor, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """What a 3D-aware step would see: input views as the denoiser believes them to be, at any noise."""
        count = len(objects)
        every = torch.arange(pictures.VIEWS).expand(count, -1)
        images = pictures.on_grey(self.world.images(objects, every))
        latents = self.model.encode(images.flatten(0, 1)).unflatten(0, (count, -1))  # [B, V, C, h, w]
        noise = torch.randn(latents.shape, generator=generator).transpose(1, 2)
        captions = [self.world.items[i].caption for i in objects.tolist()]
        conditioning = condition_on_text(self.model, captions)
        x0 = reconstructor.half_denoised(
            self.unet,
            DDIMScheduler(**SETTINGS.schedule),
            latents.transpose(1, 2),
            noise,
            torch.randint(1000, (count,), generator=generator),
            conditioning.context[count:],
            self.world.cameras.expand(count, -1, -1, -1),
            **{name: value[count:] for name, value in conditioning.image.items()},
        )
        chosen = x0.transpose(1, 2)[torch.arange(count)[:, None], inputs]
        return self.model.decode(chosen.flatten(0, 1)).unflatten(0, inputs.shape)

    def _show_views(self, path: Path) -> float:
        """Writes views of some prompts and of a held-out photo; returns the latter's PSNR, in dB."""
        model = self.model
        cameras = self.world.cameras
        photo = self.held_out.items[0].photos[0]
        true = torch.stack(
            [self.held_out.image(0, (photo.view + i) % pictures.VIEWS) for i in range(pictures.VIEWS)]
        )
        given = [
            condition_on_text(model, list(PROMPTS)),
            condition_on_image(model, self.held_out.image(0, pictures.VIEWS).float() / 255),
        ]
        rows = []
        sampling = Sampling(SHOWN_STEPS, SETTINGS.guidance)
        for conditioning, seeds in zip(given, (range(len(PROMPTS)), range(1)), strict=True):
            noise = torch.cat([initial_noise(model, len(cameras), seed) for seed in seeds])
            latents = denoise(model, conditioning, noise, cameras, sampling)
            rows.append(model.decode_frames(latents[:, :, 0]))
        truth = pictures.on_grey(true)
        write_image_grid(path, torch.cat([*rows, truth[None]]))
        return -10 * (rows[1][0] - truth).square().mean().log10().item()

    def write(self, folder: Path) -> None:
        """Writes the weights: half precision, and what they were made by."""
        folder.mkdir(parents=True, exist_ok=True)
        SETTINGS.write(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        for part in ("text_encoder", "image_encoder", "unet", "autoencoder", "reconstructor", "judge"):
            copy.deepcopy(getattr(self, part)).half().save_pretrained(folder / part)
        recipe.write_record(folder, "starter-192", SEED, PLANS, objects=OBJECTS)
