"""The recipe of the starter: `python -m backend train starter`, after its prior (`recipe_prior.py`).

Its world (`objects/`) has 40 kinds of objects and random compositions, rendered when needed. All networks
begin with the prior's weights. The stages are the autoencoder; views with cameras, by a denoiser that text,
an image or both condition (VideoMV); the same while its views attend to each other; the decoder alone,
against a critic; encoder and decoder again, now with true colours, and the denoiser after them; a
reconstructor on true images; decoder and reconstructor on half-denoised ones, with the denoiser frozen; a
judge. Each stage is kept in the work folder, and an interrupted recipe goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ..models.lgm import LGM
from ..models.videomv_unet import VideoMVImageUNet
from ..pipelines import schedules
from ..pipelines.conditioning import condition_on_image, condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.model import ViewsModel
from ..pipelines.noise import initial_noise
from ..pipelines.settings import PRESETS, ModelSettings, Preset
from ..pipelines.three_d_aware import SplatRendering
from ..shared.model_store import STARTER
from ..training import denoiser, reconstructor
from ..training.image_grid import write_image_grid
from ..training.loop import Batch, TrainingPlan
from ..training.text import make_text_encoder, make_tokenizer, tokens_of
from . import autoencoder, recipe
from .conditioned import ConditionedObjective, make_image_encoder
from .critic import Critic
from .dataset import GREY
from .enlarged import (
    centre,
    enlarge_denoiser,
    enlarge_text_encoder,
    level,
    strengthen_image,
    with_more_channels,
)
from .half_denoised import decoded, half_denoised
from .objects import asked_for, cropped, judged, pictures, reconstructed
from .objects.encoded import Encoded, encoded
from .objects.framing import ELEVATION_DEG, FOV_DEG, RADIUS
from .objects.reconstructed import INPUT_VIEWS
from .objects.vocabulary import TOKENS, is_held_out, vocabulary
from .recipe_prior import WEIGHTS

OBJECTS, HELD_OUT, JUDGED = 2500, 50, 6000
SEED = 0
WIDTH = 128  # of a text token
LATENT_CHANNELS = 16  # twice the prior's: patterns in any colours are more to tell
IMAGE_WIDTH = 4  # as published
TRUE_COLORS = "latents-in-true-colours"  # name of the file of those that views are learnt from in the end
SEEN_TOGETHER = {  # views of an object in a batch: from fewer sides, more objects at the same cost
    "views": (8, 4, 1, 1),
    "joint views": (8, 8, 8, 1),
    "views in true colours": (8, 8, 8, 1),
}
PRIOR = WEIGHTS  # weights to begin with, of `python -m backend train starter-prior`
DECODED_VIEWS, DECODED_NOISE = 4, 0.3  # of an object, half-denoised for the decoder; the most noise
SHOWN_STEPS = 12  # of denoising, while it trains
PROMPTS = (
    "a red and white spotted mushroom",
    "a blue cat with a yellow scarf",
    "a striped green and black fish",
    "an orange castle",
    "a turquoise rocket",
    "a pink guitar",
)

PLANS = {  # batch, shared by all processes, and the rest
    "autoencoder": (16, TrainingPlan(2000, 6e-4, ema_decay=0.99, keep_every=200, muon=True)),
    "views": (8, TrainingPlan(7400, 6e-4, ema_decay=0.998, keep_every=200, muon=True)),
    "joint views": (8, TrainingPlan(2200, 4e-4, ema_decay=0.998, keep_every=200, muon=True)),
    "decoder": (
        8,
        TrainingPlan(1750, 4e-4, betas=(0.5, 0.99), ema_decay=0.99, keep_every=100, constant=True),
    ),
    "true colours": (16, TrainingPlan(3000, 6e-4, warmup=50, ema_decay=0.99, keep_every=300, muon=True)),
    "views in true colours": (
        8,
        TrainingPlan(2200, 6e-4, warmup=50, ema_decay=0.998, keep_every=300, muon=True),
    ),
    "reconstructor": (2, TrainingPlan(420, 6e-4, ema_decay=0.99, keep_every=100, muon=True)),
    "decoder on half-denoised views": (
        8,
        TrainingPlan(3600, 4e-4, betas=(0.5, 0.99), ema_decay=0.99, keep_every=100, constant=True),
    ),
    "reconstructor on half-denoised views": (
        2,
        TrainingPlan(850, 3e-4, ema_decay=0.98, keep_every=50, muon=True),
    ),
    "judge": (64, TrainingPlan(1800, 2e-3, ema_decay=0.99, keep_every=250)),
}

SETTINGS = ModelSettings(
    schedule=schedules.STARTER,
    num_views=pictures.VIEWS,
    size_px=pictures.SIZE_PX,
    elevation_deg=ELEVATION_DEG,
    radius=RADIUS,
    fov_deg=FOV_DEG,
    steps=25,
    guidance=2.0,
    three_d_aware=(0.5, 0.7, 0.9),
    input_views=len(INPUT_VIEWS),
    rendering=SplatRendering(FOV_DEG, pictures.SIZE_PX, GREY, "linear"),
    words=tuple(vocabulary()),
    presets={**PRESETS, "full": Preset("unipc", 25)},
    prompt_beside_image=True,
)


def main(argv: list[str]) -> None:
    """Trains what is not trained yet, and writes the weights."""
    recipe.main(argv, "starter", __doc__ or "", PLANS, STARTER, Recipe)


def world_of(work: Path) -> pictures.Pictures:
    """All objects but what evaluation asks for as new: some pairs of a kind and a colour."""
    every = pictures.load(work / "world192", 0, OBJECTS)
    return every.where(lambda item: not item.caption or not is_held_out(item.category, item.color))


class Recipe:
    """The networks while they are trained, and the images that they learn from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.latents = "latents"  # name of the file of those that the autoencoder makes
        torch.manual_seed(SEED)
        small = AutoencoderKL.from_pretrained(PRIOR / "autoencoder").float()
        self.known_channels = small.config["latent_channels"]
        self.autoencoder = with_more_channels(small, LATENT_CHANNELS)
        self.critic = Critic()
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
        return world_of(self.work)

    @cached_property
    def held_out(self) -> pictures.Pictures:
        return pictures.load(self.work / "world192", pictures.FIRST_HELD_OUT, HELD_OUT)

    @cached_property
    def tokens(self) -> Tensor:  # [N, L]
        return tokens_of(self.tokenizer, [item.caption for item in self.world.items])

    @cached_property
    def encoded(self) -> Encoded:  # by the autoencoder of now
        return encoded(self.world, self.autoencoder, self.work / f"192-{self.latents}.safetensors")

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
        if stage == "autoencoder" or stage.startswith("decoder"):
            self._train_autoencoder(stage)
        elif stage == "views":
            self._begin_with_images()
            self._train_denoiser(stage)
        elif stage == "joint views":
            self.unet.register_to_config(joint_attention=True)
            self._train_denoiser(stage)
        elif stage == "true colours":
            self._train_true_colors(stage)
        elif stage == "views in true colours":
            self._train_denoiser(stage)
        elif stage == "judge":
            self._train_judge(stage)
        else:
            self._train_reconstructor(stage)

    def _train_autoencoder(self, stage: str) -> None:
        encodes = stage == "autoencoder"
        images = cropped.held_out_images(self.held_out)

        def batch_of(generator: torch.Generator, size: int) -> Batch:
            if not stage.endswith("half-denoised views"):
                return cropped.batch_of(self.world, generator, size)
            objects = torch.randint(len(self.world), (size // DECODED_VIEWS,), generator=generator)
            views = torch.arange(0, pictures.VIEWS, pictures.VIEWS // DECODED_VIEWS).expand(len(objects), -1)
            true = pictures.on_grey(self.world.images(objects, views))
            latents = self._half_denoised(true, objects, views, generator, DECODED_NOISE)
            return cropped.cropped(true.flatten(0, 1), latents.flatten(0, 1), generator)

        self._train(
            stage,
            autoencoder.CrispObjective(self.autoencoder, None if encodes else self.critic, encodes=encodes),
            batch_of,
            lambda path: autoencoder.show(self.autoencoder, images, path),
        )
        if encodes:
            level(self.autoencoder, images, self.known_channels)

    def _train_true_colors(self, stage: str) -> None:
        images = cropped.held_out_images(self.held_out)
        directions = autoencoder.color_directions(self.autoencoder, cropped.held_out_images(self.world))
        self._train(
            stage,
            autoencoder.ColorsObjective(self.autoencoder, *directions),
            lambda generator, size: cropped.batch_of(self.world, generator, size),
            lambda path: autoencoder.show(self.autoencoder, images, path),
        )
        centre(self.autoencoder, cropped.held_out_images(self.world))
        self.latents = TRUE_COLORS
        self.__dict__.pop("encoded", None)

    def _begin_with_images(self) -> None:
        grey = torch.full((1, 3, pictures.SIZE_PX, pictures.SIZE_PX), GREY)
        with torch.no_grad():
            meaning, nothing = self.model.encode_image(grey), torch.zeros_like(self.model.encode(grey))
        strengthen_image(self.unet, nothing, meaning)

    def _train_denoiser(self, stage: str) -> None:
        self._train(
            stage,
            ConditionedObjective(
                self.unet, self.text_encoder, self.image_encoder, SETTINGS.schedule, denoiser.VIEWS
            ),
            lambda generator, size: self._denoiser_batch(SEEN_TOGETHER[stage], generator, size),
            self._show_views,
        )

    def _denoiser_batch(self, seen_together: tuple[int, ...], generator: torch.Generator, size: int) -> Batch:
        nothing = tokens_of(self.tokenizer, [""])[0]
        views = seen_together[int(torch.randint(len(seen_together), (), generator=generator))]
        kind, size = replace(denoiser.VIEWS, views=views), size * denoiser.VIEWS.views // views
        return asked_for.batch_of(self.encoded, self.tokens, nothing, kind, generator, size)

    def _train_reconstructor(self, stage: str) -> None:
        def seen(objects: Tensor, inputs: Tensor, generator: torch.Generator) -> Tensor:
            every = torch.arange(pictures.VIEWS).expand(len(objects), -1)
            images = pictures.on_grey(self.world.images(objects, every))
            return decoded(self.model, self._half_denoised(images, objects, every, generator), inputs)

        shown = reconstructed.batch_of(self.held_out, torch.Generator().manual_seed(1), 8)
        self._train(
            stage,
            reconstructor.ReconstructorObjective(self.reconstructor, FOV_DEG, "linear", INPUT_VIEWS),
            lambda generator, size: reconstructed.batch_of(
                self.world, generator, size, seen if stage.endswith("half-denoised views") else None
            ),
            lambda path: reconstructor.show(self.reconstructor, shown, path, SETTINGS.rendering, INPUT_VIEWS),
        )

    def _train_judge(self, stage: str) -> None:
        seen = judged.images(self.work / "judged.safetensors", JUDGED)
        named = self.held_out.where(lambda item: bool(item.caption))
        self._train(
            stage,
            judged.ClassifierObjective(self.judge),
            lambda generator, size: judged.batch_of(seen, generator, size),
            lambda path: judged.show(self.judge, named, path),
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

    def _half_denoised(
        self,
        images: Tensor,  # [B, V, 3, H, W]
        objects: Tensor,  # [B]
        views: Tensor,  # [B, V]
        generator: torch.Generator,
        noisiest: float = 1.0,
    ) -> Tensor:  # [B, V, C, h, w]
        captions = [self.world.items[i].caption for i in objects.tolist()]
        cameras = self.world.cameras[views]
        return half_denoised(self.model, images, captions, cameras, generator, noisiest)

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
        recipe.write_model(self.model, folder, judge=self.judge)
        recipe.write_record(folder, "starter", SEED, PLANS, objects=OBJECTS)
