"""The recipe of the moving starter: `python -m backend train starter-motion`, after the starter's own.

Vivid-ZOO in the small, in the papers' order. The starter's layers within a view, which attend to the other
views too, learn single frames and the words for motions; then views of four sides (as MVDream), with what the
starter knows of cameras; in both, half of the objects are the starter's own, which stand still. With these
layers frozen, motion modules learn from clips of one side (as AnimateDiff). A small network needs more than
that: all of these layers learn on together, from clips of one side and frames of four. With all of them
frozen, the alignment layers learn from clips of four. Images are encoded and splats made by the starter's own
networks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors import safe_open
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from ..gaussians.color import over
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..models.videomv_unet import VideoMVImageUNet
from ..pipelines.conditioning import condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.latents import encode
from ..pipelines.model import ViewsModel, load
from ..pipelines.noise import video_noise
from ..pipelines.orbits import view_cameras
from ..shared.model_store import MOTION, STARTER
from ..training import multiview_motion
from ..training.image_grid import write_image_grid
from ..training.loop import Batch, TrainingPlan
from ..training.text import make_text_encoder, make_tokenizer, tokens_of
from . import clips, dataset, motion_data, recipe, recipe_views
from .motion_judge import MotionClassifier
from .motions import MOTION_SYNONYMS, motion_vocabulary
from .objects.encoded import encoded
from .objects.framing import RADIUS
from .objects.vocabulary import TOKENS, is_held_out, vocabulary

NUM_CLIPS, HELD_OUT, UNSEEN = 800, 60, 400
JUDGED_PX = 48  # of the clips that the judge of motions learns from
SEED = 1
FPS = 8  # as the starter's network was told
STILL = 0.5  # of the images and views: clips alone are of too few objects
PROMPTS = (
    "a green fish swimming",
    "a red mushroom hopping",
    "a yellow duck turning",
    "a blue car shaking",
    "a purple cactus swaying",
    "a brown dog nodding",
    "a pink cake growing",
    "a white and black striped cat stretching",
)

PLANS = {  # batch, shared by all processes, and the rest
    "motion judge": (16, TrainingPlan(1500, 2e-3, ema_decay=0.98, keep_every=250)),
    "images": (32, TrainingPlan(100, 1e-4, warmup=30, ema_decay=0.95, keep_every=100, muon=True)),
    "sides": (8, TrainingPlan(3500, 4e-4, warmup=50, ema_decay=0.995, keep_every=200, muon=True)),
    "clips": (8, TrainingPlan(8200, 1e-3, weight_decay=0.0, ema_decay=0.995, keep_every=200, muon=True)),
    "clips and sides": (
        8,
        TrainingPlan(3800, 7e-4, weight_decay=0.0, ema_decay=0.995, keep_every=200, muon=True),
    ),
    "alignment": (2, TrainingPlan(2000, 1e-3, ema_decay=0.995, keep_every=200, muon=True)),
}
STAGES = {
    "images": multiview_motion.IMAGES,
    "sides": multiview_motion.MULTIVIEW,
    "clips": multiview_motion.MOTION,
    "alignment": multiview_motion.ALIGNMENT,
}


def main(argv: list[str]) -> None:
    """Trains what is not trained yet, and writes the weights."""
    recipe.main(argv, "starter-motion", __doc__ or "", PLANS, STARTER / MOTION, Recipe)


class Recipe:
    """The networks while they are trained, and the clips that they learn from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        torch.manual_seed(SEED)
        self.still = load(STARTER)
        self.tokenizer = make_tokenizer([*vocabulary(), *motion_vocabulary()], TOKENS)
        self.text_encoder = _with_more_words(self.still.text_encoder, self.tokenizer)
        assert isinstance(self.still.unet, VideoMVImageUNet)
        config = self.still.unet.config
        self.network = MultiViewMotionUNet(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            block_out_channels=tuple(config["block_out_channels"]),
            attention=(True, True),
            layers_per_block=config["layers_per_block"],
            num_attention_heads=tuple(
                w // config["attention_head_dim"] for w in config["block_out_channels"]
            ),
            use_linear_projection=True,
            cross_attention_dim=config["cross_attention_dim"],
            norm_num_groups=config["norm_num_groups"],
            motion_heads=4,
            motion_max_frames=16,
        )
        _begin_with(self.network, self.still.unet)
        self.judge = MotionClassifier(tuple(MOTION_SYNONYMS))
        self.settings = dataclasses.replace(
            self.still.settings,
            prompt_beside_image=False,
            num_views=clips.NUM_VIEWS,
            num_frames=clips.FRAMES,
            shared_noise=motion_data.SHARED_NOISE,
            three_d_aware=(0.4, 0.6, 0.8),
            words=tuple(sorted({*self.still.settings.words, *motion_vocabulary()})),
        )

    @property
    def model(self) -> ViewsModel:
        """The networks as a pipeline uses them."""
        return dataclasses.replace(
            self.still,
            settings=self.settings,
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            unet=self.network,
            image_encoder=None,
        )

    def _judged(self, first: int, count: int) -> clips.WorldClips:
        first += dataset.FIRST_HELD_OUT_SEED
        return clips.load(self.work / "clips-48", range(first, first + count), JUDGED_PX)

    @cached_property
    def latents(self) -> tuple[Tensor, list[str]]:
        """All clips encoded, [N, V, F, C, h, w] in half precision, mirrored ones too, and their captions."""
        path = self.work / "clips-192-latents.safetensors"
        if not path.exists():
            parts: list[Tensor] = []
            captions: list[str] = []
            for seed in tqdm(range(0, NUM_CLIPS, clips.SHARD), "encoding", unit="shard"):
                world = clips.load(
                    self.work / "clips-192", range(seed, seed + clips.SHARD), self.settings.size_px
                )
                named = zip(world.rgba, world.captions, world.categories, world.colors, strict=True)
                for rgba, caption, category, color in named:
                    if not is_held_out(category, color):  # evaluation asks for those as new
                        parts += [_encoded(self.still.autoencoder, some) for some in (rgba, _mirrored(rgba))]
                        captions += 2 * [caption]
            dataset.save_whole({"latents": torch.stack(parts)}, path, {"captions": json.dumps(captions)})
        with safe_open(path, "pt") as file:
            return file.get_tensor("latents"), json.loads(file.metadata()["captions"])

    @cached_property
    def stills(self) -> tuple[Tensor, list[str]]:
        """The starter's own objects, which do not move."""
        path = self.work / f"192-{recipe_views.TRUE_COLORS}.safetensors"
        return motion_data.stills(encoded(recipe_views.world_of(self.work), self.still.autoencoder, path))

    def _draws(self, kind: multiview_motion.MotionStage) -> Callable[[torch.Generator, int], Batch]:
        """What draws the batches of a stage: clips, and without motion mostly objects that stand still."""
        cameras, nothing = clips.cameras(), tokens_of(self.tokenizer, [""])[0]

        def drawn(world: tuple[Tensor, list[str]]) -> Callable[[torch.Generator, int], Batch]:
            latents, tokens = world[0], tokens_of(self.tokenizer, world[1])
            return lambda generator, size: motion_data.batch_of(
                latents, cameras, tokens, nothing, kind, generator, size
            )

        moving = drawn(self.latents)
        if kind.motion:
            return moving
        still = drawn(self.stills)

        def mixed(generator: torch.Generator, size: int) -> Batch:
            count = round(STILL * size)
            return motion_data.shuffled(still(generator, count), moving(generator, size - count), generator)

        return mixed

    def run(self, stage: str) -> None:
        """Trains one stage, or loads it if it is done."""
        if stage == "motion judge":
            unseen = self._judged(200, UNSEEN)
            self._train(
                stage,
                motion_data.MotionClassifierObjective(self.judge),
                lambda generator, size: motion_data.classifier_batch_of(unseen, self.judge, generator, size),
                lambda path: motion_data.show_classifier(self.judge, self._judged(0, HELD_OUT), path),
            )
            return
        if stage == "clips and sides":
            draws = {name: self._draws(STAGES[name]) for name in ("clips", "sides")}
            self._train(
                stage,
                multiview_motion.ClipsAndSidesObjective(
                    self.network, self.text_encoder, self.settings.schedule
                ),
                lambda generator, size: {
                    f"{name}.{what}": values
                    for name, draw in draws.items()
                    for what, values in draw(generator, size).items()
                },
                lambda path: self._show(path, 1),
            )
            return
        kind = STAGES[stage]
        self._train(
            stage,
            multiview_motion.MultiViewMotionObjective(
                self.network, self.text_encoder, self.settings.schedule, kind
            ),
            self._draws(kind),
            (lambda path: self._show(path, clips.FRAMES if kind.motion else 1)) if kind.multiview else None,
        )

    def _train(
        self,
        stage: str,
        objective: nn.Module,
        batch_of: Callable[[torch.Generator, int], Batch],
        show: Callable[[Path], float] | None,
    ) -> None:
        folder = self.work / f"moving-{stage.replace(' ', '-')}"
        recipe.train_stage(stage, PLANS, folder, objective, batch_of, show)

    def _show(self, path: Path, frames: int) -> float:
        """Writes generated clips of some prompts; returns how far their frames are apart, as an RMS."""
        model = self.model
        cameras = view_cameras(model.settings, self.settings.num_views)
        rows = []
        for seed, prompt in enumerate(PROMPTS):
            noise = video_noise(model, len(cameras), frames, seed)
            conditioning = condition_on_text(model, [prompt])
            latents = denoise(model, conditioning, noise, cameras, Sampling(20, self.settings.guidance))
            rows.append(model.decode_frames(latents[0])[::2].flatten(0, 1))  # two sides
        sheet = torch.stack(rows)
        write_image_grid(path, sheet)
        return (sheet - sheet.mean(1, keepdim=True)).square().mean().sqrt().item()

    def write(self, folder: Path) -> None:
        """Writes the shipped weights: half precision, and what they were made by."""
        recipe.write_model(self.model, folder, motion_judge=self.judge)
        recipe.write_record(folder, "starter-motion", SEED, PLANS, clips=NUM_CLIPS)


@torch.no_grad()
def _begin_with(network: MultiViewMotionUNet, still: VideoMVImageUNet) -> None:
    """Copies the layers within a view, and what is known of cameras; those over views and images are left."""
    known = dict(still.state_dict())
    channels = network.config.in_channels
    known["conv_in.weight"] = known["conv_in.weight"][:, :channels]  # less the image's latents
    told = still.time_proj(torch.tensor([FPS])).to(still.dtype)
    known["time_embedding.linear_2.bias"] = (
        known["time_embedding.linear_2.bias"] + still.fps_embedding(told)[0]
    )
    place = known["camera_embedding.0.weight"].clone()
    place[:, 3:12:4] *= RADIUS  # cameras are at distance 1 here
    camera = {
        "linear_1.weight": place,
        "linear_1.bias": known["camera_embedding.0.bias"],
        "linear_2.weight": known["camera_embedding.2.weight"],
        "linear_2.bias": known["camera_embedding.2.bias"],
    }
    known |= {f"camera_embedding.{name}": tensor for name, tensor in camera.items()}
    network.load_state_dict({name: known.get(name, own) for name, own in network.state_dict().items()})


def _with_more_words(encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """The text encoder, whose first words are the tokenizer's, with room for all of the tokenizer's."""
    larger = make_text_encoder(tokenizer, encoder.config.hidden_size)
    fresh = larger.state_dict()
    for name, tensor in encoder.state_dict().items():
        fresh[name][: len(tensor)] = tensor
    larger.load_state_dict(fresh)
    return larger


def _mirrored(rgba: Tensor) -> Tensor:  # [V, F, 4, H, W]
    """A clip of the mirrored object, which goes round the other way."""
    return rgba.flip(-1).flip(0).roll(1, 0)


@torch.no_grad()
def _encoded(autoencoder: AutoencoderKL, rgba: Tensor) -> Tensor:  # [V, F, 4, H, W] -> [V, F, C, h, w]
    with torch.autocast("cpu", torch.bfloat16):
        images = over(rgba.flatten(0, 1).float() / 255, dataset.GREY)
        return encode(autoencoder, images).half().unflatten(0, rgba.shape[:2])
