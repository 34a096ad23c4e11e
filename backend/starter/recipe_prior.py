"""The recipe that the starter begins with: `python -m backend train starter-prior`, from nothing.

Everything is learnt from the small world of `world.py`, which is drawn while it is needed. The stages are
those of the papers, in the small: an autoencoder; single images, then videos of an orbit, then views with
cameras (VideoMV); a reconstructor on true images, then on half-denoised ones, with the denoiser frozen. The
wider starter (`recipe_views.py`) goes on from the weights of 192 px.
The decoder learns on after the denoiser, since only the encoder must stay as it is:
first at 96 px, as large as the encoder sees, then at 192 px. Decoder and reconstructor of that size begin
with the small ones. Each stage is kept in the work folder, and an interrupted recipe goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from ..gaussians.color import over
from ..models.lgm import LGM
from ..models.videomv_unet import VideoMVUNet
from ..pipelines import orbits, reconstruction, schedules
from ..pipelines.conditioning import condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.model import ViewsModel
from ..pipelines.noise import initial_noise
from ..pipelines.settings import ModelSettings
from ..pipelines.three_d_aware import SplatRendering, render
from ..training import denoiser, reconstructor
from ..training.image_grid import write_image_grid
from ..training.loop import Batch, TrainingPlan
from ..training.text import make_text_encoder, make_tokenizer, tokens_of
from . import autoencoder, dataset, recipe, reconstructor_data
from .critic import Critic
from .enlarged import enlarge_reconstructor, twice_as_large
from .half_denoised import decoded, half_denoised
from .world import COLOR_SYNONYMS, SYNONYMS, vocabulary, words_of

OBJECTS, HELD_OUT = 3200, 50
CRISP_OBJECTS = 400  # at 192 px
WEIGHTS = Path("out/training/prior")
SEED = 0
WIDTH = 128  # of a text token
LATENT_CHANNELS = 8  # twice the large models': an eye of a snowman is half a latent pixel
PROMPTS = (
    "a red mushroom",
    "a blue snowman",
    "a yellow duck",
    "a green car",
    "a white rocket",
    "a purple house",
)

PLANS = {  # batch, shared by all processes, and the rest
    "autoencoder": (16, TrainingPlan(2600, 1.5e-3, ema_decay=0.995, keep_every=400)),
    "images": (32, TrainingPlan(4000, 1e-3, ema_decay=0.995, keep_every=500)),
    "video": (8, TrainingPlan(200, 6e-4, ema_decay=0.99, keep_every=200)),
    "views": (8, TrainingPlan(1300, 8e-4, ema_decay=0.998, keep_every=300)),
    "decoder": (16, TrainingPlan(6000, 1e-3, ema_decay=0.997, keep_every=500)),
    "reconstructor": (4, TrainingPlan(1300, 1e-3, ema_decay=0.995, keep_every=300)),
    "reconstructor on half-denoised views": (4, TrainingPlan(400, 3e-4, ema_decay=0.99, keep_every=200)),
    "crisp decoder": (8, TrainingPlan(3000, 1e-3, ema_decay=0.997, keep_every=500)),
    "crisp decoder with a critic": (
        8,
        TrainingPlan(1500, 4e-4, betas=(0.5, 0.99), ema_decay=0.995, keep_every=250),
    ),
    "crisp reconstructor": (2, TrainingPlan(400, 6e-4, ema_decay=0.99, keep_every=100)),
    "crisp reconstructor on half-denoised views": (
        2,
        TrainingPlan(150, 3e-4, ema_decay=0.98, keep_every=50),
    ),
}

SETTINGS = ModelSettings(
    schedule=schedules.STARTER,
    num_views=8,
    size_px=dataset.CRISP_PX,
    elevation_deg=dataset.ELEVATION_DEG,
    radius=dataset.RADIUS,
    fov_deg=dataset.FOV_DEG,
    steps=25,
    guidance=3.0,
    three_d_aware=(0.5, 0.7, 0.9),  # later, splats are still more like the views, and those lose details
    input_views=len(reconstructor_data.INPUT_VIEWS),
    rendering=SplatRendering(dataset.FOV_DEG, dataset.CRISP_PX, dataset.GREY, "linear"),
    words=tuple(sorted(words_of(SYNONYMS) | words_of(COLOR_SYNONYMS))),
)


SMALL_SETTINGS = dataclasses.replace(
    SETTINGS,
    size_px=dataset.SIZE_PX,
    rendering=dataclasses.replace(SETTINGS.rendering, size_px=dataset.SIZE_PX),
)


def main(argv: list[str]) -> None:
    """Trains what is not trained yet, and writes the weights."""
    recipe.main(argv, "starter-prior", __doc__ or "", PLANS, WEIGHTS, Recipe)


class Recipe:
    """The networks while they are trained, and the images that they learn from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        torch.manual_seed(SEED)
        self.tokenizer = make_tokenizer(vocabulary())
        self.text_encoder = make_text_encoder(self.tokenizer, WIDTH)
        self.unet = VideoMVUNet(
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
        )
        self.autoencoder, self.crisp_autoencoder = (
            AutoencoderKL(
                out_channels=channels,  # 12: blocks of four pixels
                block_out_channels=(24, 48, 96, 96),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                norm_num_groups=8,
                mid_block_add_attention=False,
                sample_size=dataset.SIZE_PX,
                latent_channels=LATENT_CHANNELS,
                scaling_factor=1.0,
            )
            for channels in (3, 12)
        )
        self.reconstructor = LGM(
            input_size=dataset.SIZE_PX,
            down_channels=(16, 48, 96, 128),
            down_attention=(False, False, False, True),
            up_channels=(128, 96, 48),
            up_attention=(True, False, False),
            layers_per_block=1,
            attention_heads=4,
            anchor="ray",
        )
        self.crisp_reconstructor = twice_as_large(self.reconstructor.config)
        with torch.no_grad():
            self.reconstructor.conv.bias[4:7] = -2.0  # splats begin as small as pixels

    @cached_property
    def world(self) -> dataset.WorldViews:
        return dataset.load(self.work / "world", range(OBJECTS))

    @cached_property
    def held_out(self) -> dataset.WorldViews:
        first = dataset.FIRST_HELD_OUT_SEED
        return dataset.load(self.work / "world", range(first, first + HELD_OUT))

    @cached_property
    def crisp_world(self) -> dataset.WorldViews:
        return dataset.load(self.work / "world-192", range(CRISP_OBJECTS), dataset.CRISP_PX)

    @cached_property
    def crisp_held_out(self) -> dataset.WorldViews:
        first = dataset.FIRST_HELD_OUT_SEED
        return dataset.load(self.work / "world-192", range(first, first + HELD_OUT), dataset.CRISP_PX)

    @cached_property
    def latents(self) -> Tensor:  # [N, V, C, h, w]
        """All images of the world, encoded; also sets the autoencoder's scale, so that they vary by 1."""
        path = self.work / "latents.safetensors"
        if not path.exists():
            parts = []
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                for rgba in tqdm(self.world.rgba.flatten(0, 1).split(64), "encoding", unit="batch"):
                    parts.append(
                        autoencoder.encode(self.autoencoder, over(rgba.float() / 255, dataset.GREY)).float()
                    )
            dataset.save_whole({"latents": torch.cat(parts)}, path)
        latents = load_file(path)["latents"]
        self.autoencoder.register_to_config(scaling_factor=1 / latents.std().item())
        return (latents / latents.std()).unflatten(0, self.world.rgba.shape[:2])

    def model(self, crisp: bool) -> ViewsModel:
        """The networks as a pipeline uses them, with decoder and reconstructor of 192 px or of 96."""
        large = (SETTINGS, self.crisp_autoencoder, self.crisp_reconstructor)
        small = (SMALL_SETTINGS, self.autoencoder, self.reconstructor)
        settings, autoencoder, reconstructor = large if crisp else small
        return ViewsModel(settings, self.tokenizer, self.text_encoder, self.unet, autoencoder, reconstructor)

    def run(self, stage: str) -> None:
        """Trains one stage, or loads it if it is done."""

        def still() -> Tensor:  # [N, 4, H, W]
            return self.world.rgba.flatten(0, 1)

        if stage == "autoencoder":
            self._train(
                stage,
                autoencoder.AutoencoderObjective(self.autoencoder),
                lambda generator, size: autoencoder.batch_of(still(), generator, size),
                lambda path: autoencoder.show(
                    self.autoencoder, autoencoder.held_out_images(self.held_out), path
                ),
            )
        elif stage == "decoder":
            self._train(
                stage,
                autoencoder.CrispObjective(self.autoencoder),
                lambda generator, size: autoencoder.batch_of(still(), generator, size),
                lambda path: autoencoder.show(
                    self.autoencoder, autoencoder.held_out_images(self.held_out), path
                ),
            )
        elif stage.startswith("crisp decoder"):
            if stage == "crisp decoder":
                _ = self.latents.shape  # the autoencoder's scale
                autoencoder.begin_crisp(self.crisp_autoencoder, self.autoencoder)
            critic = Critic() if stage.endswith("critic") else None
            images = self.crisp_world.rgba.flatten(0, 1)
            self._train(
                stage,
                autoencoder.CrispObjective(self.crisp_autoencoder, critic),
                lambda generator, size: autoencoder.batch_of(images, generator, size),
                lambda path: autoencoder.show(
                    self.crisp_autoencoder, autoencoder.held_out_images(self.crisp_held_out), path
                ),
            )
        elif stage in ("images", "video", "views"):
            self._train_denoiser(stage, getattr(denoiser, stage.upper()))
        else:
            self._train_reconstructor(stage)

    def _train_denoiser(self, stage: str, kind: denoiser.ViewsStage) -> None:
        tokens = tokens_of(self.tokenizer, self.world.captions)
        nothing = tokens_of(self.tokenizer, [""])[0]
        self._train(
            stage,
            denoiser.DenoiserObjective(self.unet, self.text_encoder, SETTINGS.schedule, kind),
            lambda generator, size: denoiser.batch_of(
                self.world.cameras, self.latents, tokens, nothing, kind, generator, size
            ),
            self._show_views if kind.cameras else None,
        )

    def _train_reconstructor(self, stage: str) -> None:
        crisp = stage.startswith("crisp")
        model = self.model(crisp)
        world, held_out = (self.crisp_world, self.crisp_held_out) if crisp else (self.world, self.held_out)
        if stage == "crisp reconstructor":
            enlarge_reconstructor(self.crisp_reconstructor, self.reconstructor)
        seen = partial(seen_half_denoised, model, world) if stage.endswith("half-denoised views") else None
        shown = reconstructor_data.batch_of(held_out, torch.Generator().manual_seed(1), 16)
        inputs = reconstructor_data.INPUT_VIEWS
        self._train(
            stage,
            reconstructor.ReconstructorObjective(model.reconstructor, dataset.FOV_DEG, "linear", inputs),
            lambda generator, size: reconstructor_data.batch_of(world, generator, size, seen),
            lambda path: reconstructor.show(
                model.reconstructor, shown, path, model.settings.rendering, inputs
            ),
        )

    def _train(
        self,
        stage: str,
        objective: nn.Module,
        batch_of: Callable[[torch.Generator, int], Batch],
        show: Callable[[Path], float] | None,
    ) -> None:
        folder = self.work / stage.replace(" ", "-")
        recipe.train_stage(stage, PLANS, folder, objective, batch_of, show)

    def _show_views(self, path: Path) -> float:
        """Writes generated views of some prompts; returns the PSNR of their reconstruction, in dB."""
        model = self.model(crisp=False)
        cameras = orbits.view_cameras(model.settings, SETTINGS.num_views)
        noise = torch.cat([initial_noise(model, len(cameras), seed) for seed in range(len(PROMPTS))])
        latents = denoise(
            model,
            condition_on_text(model, list(PROMPTS)),
            noise,
            cameras,
            Sampling(20, SETTINGS.guidance),
        )
        images = model.decode_frames(latents[:, :, 0])
        write_image_grid(path, images)
        rendered, _ = render(
            reconstruction.views_to_gaussians(model, images, cameras), cameras, model.settings.rendering
        )
        return -10 * (rendered - images).square().mean().log10().item()

    def write(self, folder: Path) -> None:
        """Writes the weights of 192 px, half precision, and the plans."""
        recipe.write_model(self.model(crisp=True), folder)
        recipe.write_record(folder, "starter-prior", SEED, PLANS, objects=OBJECTS)


def seen_half_denoised(
    model: ViewsModel,
    world: dataset.WorldViews,
    objects: Tensor,  # [B]
    inputs: Tensor,  # [B, 4] views
    generator: torch.Generator,
) -> Tensor:  # [B, 4, 3, H, W]
    """Input views as a 3D-aware step sees them: decoded estimates of the clean latents, at any noise."""
    parity = inputs[:, :1] % 2
    seen = parity + torch.arange(0, world.rgba.shape[1], 2)  # the orbit of 8 that has the input views
    images = over(world.images(objects, seen), dataset.GREY)
    captions = [world.captions[i] for i in objects.tolist()]
    latents = half_denoised(model, images, captions, world.cameras[seen], generator)
    return decoded(model, latents, (inputs - parity) // 2)
