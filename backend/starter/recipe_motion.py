"""The recipe of the moving starter: `python -m backend train starter-motion`, after the starter's own.

Vivid-ZOO in the small, in the papers' order. The starter's layers within a view learn single frames and the
words for motions; this model of images becomes one of four sides that still knows single images (as MVDream
from Stable Diffusion); with it frozen, motion modules learn from clips of one side (as AnimateDiff); and with
both frozen, the alignment layers learn from clips of four. Images are encoded and splats made by the
starter's networks of 96 px, which are not trained here: the crisp decoder shows every wrong colour.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from ..gaussians.color import over
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..pipelines.conditioning import condition_on_text
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.model import ViewsModel, load
from ..pipelines.noise import video_noise
from ..pipelines.orbits import view_cameras
from ..shared.model_store import MOTION, STARTER
from ..training import multiview_motion
from ..training.image_grid import write_image_grid
from ..training.loop import Batch, TrainingPlan
from ..training.text import make_text_encoder, make_tokenizer, tokens_of
from . import clips, dataset, motion_data, recipe
from .judges import WorldClassifier, load_judge
from .motion_judge import MotionClassifier
from .motions import MOTION_SYNONYMS, motion_vocabulary
from .recipe_prior import SMALL
from .recipe_prior import WEIGHTS as PRIOR
from .world import vocabulary

NUM_CLIPS, HELD_OUT, UNSEEN = 3200, 60, 240
SEED = 1
PROMPTS = (
    "a green fish swimming",
    "a red mushroom hopping",
    "a yellow duck turning",
    "a blue car growing",
    "a purple cactus swaying",
    "a white rocket",
)

PLANS = {  # batch, shared by all processes, and the rest
    "motion judge": (16, TrainingPlan(500, 2e-3, ema_decay=0.98, keep_every=250)),
    "images": (32, TrainingPlan(2400, 6e-4, ema_decay=0.995, keep_every=600)),
    "sides": (8, TrainingPlan(14300, 6e-4, ema_decay=0.997, keep_every=500)),
    "clips": (8, TrainingPlan(10700, 1e-3, ema_decay=0.995, keep_every=400)),
    "alignment": (2, TrainingPlan(3500, 1e-3, ema_decay=0.995, keep_every=500)),
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
        self.prior = load(PRIOR / SMALL)
        still_words = vocabulary()
        self.tokenizer = make_tokenizer([*still_words, *motion_vocabulary()])
        self.text_encoder = _with_more_words(self.prior.text_encoder, self.tokenizer)
        config = self.prior.unet.config
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
        known = self.prior.unet.state_dict()
        self.network.load_state_dict(
            {name: known.get(name, tensor) for name, tensor in self.network.state_dict().items()}
        )
        nn.init.zeros_(self.network.camera_embedding.linear_2.weight)
        nn.init.zeros_(self.network.camera_embedding.linear_2.bias)
        self.judge = MotionClassifier(tuple(MOTION_SYNONYMS))
        self.settings = dataclasses.replace(
            self.prior.settings,
            num_views=clips.NUM_VIEWS,
            num_frames=clips.FRAMES,
            shared_noise=motion_data.SHARED_NOISE,
            three_d_aware=(0.4, 0.6, 0.8),
            words=tuple(sorted({*self.prior.settings.words, *motion_vocabulary()})),
        )

    @property
    def model(self) -> ViewsModel:
        """The networks as a pipeline uses them."""
        return dataclasses.replace(
            self.prior,
            settings=self.settings,
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            unet=self.network,
        )

    def _clips(self, first: int, count: int) -> clips.WorldClips:
        return clips.load(self.work / "clips", range(first, first + count))

    @cached_property
    def latents(self) -> tuple[Tensor, Tensor, list[str]]:
        """All clips encoded, [N, V, F, C, h, w] in half precision; their cameras; their captions."""
        path = self.work / "clips-latents.safetensors"
        if not path.exists():
            world = self._clips(0, NUM_CLIPS)
            parts = []
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                for rgba in tqdm(world.rgba.flatten(0, 2).split(64), "encoding", unit="batch"):
                    images = over(rgba.float() / 255, dataset.GREY)
                    parts.append(self.prior.encode(images).half())
            latents = torch.cat(parts).unflatten(0, world.rgba.shape[:3])
            dataset.save_whole(
                {"latents": latents, "cameras": world.cameras},
                path,
                {"captions": json.dumps(world.captions)},
            )
        with safe_open(path, "pt") as file:
            captions = json.loads(file.metadata()["captions"])
        tensors = load_file(path)
        return tensors["latents"], tensors["cameras"], captions

    def run(self, stage: str) -> None:
        """Trains one stage, or loads it if it is done."""
        if stage == "motion judge":
            first = dataset.FIRST_HELD_OUT_SEED
            unseen = self._clips(first + 200, UNSEEN)
            self._train(
                stage,
                motion_data.MotionClassifierObjective(self.judge),
                lambda generator, size: motion_data.classifier_batch_of(unseen, self.judge, generator, size),
                lambda path: motion_data.show_classifier(self.judge, self._clips(first, HELD_OUT), path),
            )
            return
        kind = STAGES[stage]
        latents, cameras, captions = self.latents
        tokens = tokens_of(self.tokenizer, captions)
        nothing = tokens_of(self.tokenizer, [""])[0]
        self._train(
            stage,
            multiview_motion.MultiViewMotionObjective(
                self.network, self.text_encoder, self.settings.schedule, kind
            ),
            lambda generator, size: motion_data.batch_of(
                latents, cameras, tokens, nothing, kind, generator, size
            ),
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
        objects = load_judge(WorldClassifier, PRIOR / SMALL / "judge")
        recipe.write_model(self.model, folder, judge=objects, motion_judge=self.judge)
        recipe.write_record(folder, "starter-motion", SEED, PLANS, clips=NUM_CLIPS)


def _with_more_words(encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """The text encoder, whose first words are the tokenizer's, with room for all of the tokenizer's."""
    larger = make_text_encoder(tokenizer, encoder.config.hidden_size)
    fresh = larger.state_dict()
    for name, tensor in encoder.state_dict().items():
        fresh[name][: len(tensor)] = tensor
    larger.load_state_dict(fresh)
    return larger
