"""A model on disk and in memory: its networks, and the settings it was trained for."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, CLIPVisionModelWithProjection, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ..cameras import at_unit_distance
from ..models.deepcache import DeepFeatures
from ..models.lgm import LGM
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from ..shared.progress import Progress
from ..shared.protocol import DioramaError
from . import latents as coding
from .networks import load_network
from .offload import offload
from .plan import Plan
from .settings import ModelSettings, read_settings

NEAR = 0.84  # how much alike two words must be, as `difflib` counts it: a horse (0.8) is no house
DENOISERS = (VideoMVUNet, VideoMVImageUNet, MultiViewMotionUNet)


@dataclass(frozen=True)
class ViewsModel:
    """A model in memory: the networks from prompt to views and splats, and how they are run."""

    settings: ModelSettings
    tokenizer: PreTrainedTokenizerBase
    text_encoder: CLIPTextModel
    unet: VideoMVUNet | MultiViewMotionUNet
    autoencoder: AutoencoderKL
    reconstructor: LGM
    image_encoder: CLIPVisionModelWithProjection | None = None
    plan: Plan = field(default_factory=Plan)

    @property
    def device(self) -> torch.device:
        """The device that networks run on; idle ones may be offloaded from it."""
        return self.unet.device if self.plan.offload == "none" else self.plan.device

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """All networks, for offloading and for counting their weights."""
        networks = self.text_encoder, self.unet, self.autoencoder, self.reconstructor, self.image_encoder
        return tuple(network for network in networks if network is not None)

    def predict(
        self,
        latents: Tensor,  # [B, V, F, C, h, w]
        timestep: int,
        context: Tensor,  # [B, L, D]
        cameras: Tensor,  # [V, 4, 4] camera-to-world
        image: dict[str, Tensor],  # more keyword arguments of an image-conditioned denoiser
        deep: DeepFeatures | None = None,
    ) -> Tensor:  # [B, V, F, C, h, w]
        """One evaluation of the denoiser, whichever it is: the noise (or v) of all frames of all views."""
        dtype = self.unet.dtype
        latents, cameras = latents.to(dtype), cameras.expand(len(latents), -1, -1, -1)
        image = {name: value.to(dtype) for name, value in image.items()}
        if isinstance(self.unet, MultiViewMotionUNet):
            moves = latents.shape[2] > 1  # else it is MVDream, or Stable Diffusion
            cameras = at_unit_distance(cameras)
            return self.unet(latents, timestep, context, cameras, motion=moves, deep=deep, **image).float()
        views = latents.squeeze(2).transpose(1, 2)  # [B, C, V, h, w]
        views = self.unet(views, timestep, context, cameras, deep=deep, **image).float()
        return views.transpose(1, 2).unsqueeze(2)

    def encode_prompts(self, prompts: list[str]) -> Tensor:  # [B, L, D]
        """The text encoder's hidden states of the prompts' tokens."""
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state

    def encode_image(
        self, images: Tensor, filter: Literal["bilinear", "bicubic"] = "bilinear"
    ) -> Tensor:  # [B, 3, H, W] sRGB 0..1 -> [B, 1, D]
        """CLIP image embeddings, projected but not normalised; `filter` resizes the images to CLIP's size."""
        assert self.image_encoder is not None
        return embed_images(self.image_encoder, images, filter)

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that the tokenizer does not know, in their order."""
        if not self.settings.words:
            return []
        found = self.tokenizer(prompt, return_offsets_mapping=True)
        pairs = zip(found.input_ids, found.offset_mapping, strict=True)
        return [prompt[a:b] for token, (a, b) in pairs if token == self.tokenizer.unk_token_id]

    def with_known_words(self, prompt: str) -> tuple[str, dict[str, str]]:
        """A prompt with known words for those that are spelt nearly like them, and which these were."""
        taken = {
            word: near[0]
            for word in self.unknown_words(prompt)
            if (near := difflib.get_close_matches(word.lower(), self.settings.words, 1, NEAR))
        }
        for word, known in taken.items():
            prompt = re.sub(rf"\b{re.escape(word)}\b", known, prompt)
        return prompt, taken

    def encode(self, images: Tensor) -> Tensor:  # [N, 3, H, W] sRGB 0..1 -> [N, 4, h, w]
        """Scaled latents of images: the mean of the posterior, so equal images have equal latents."""
        at_once = self.plan.images_at_once or len(images)
        return torch.cat([coding.encode(self.autoencoder, some) for some in images.split(at_once)])

    def decode_frames(
        self, latents: Tensor, progress: Progress | None = None
    ) -> Tensor:  # [V, F, C, h, w] -> [V, F, 3, H, W] sRGB 0..1
        """Images of all frames of all views."""
        return self.decode(latents.flatten(0, 1), progress).unflatten(0, latents.shape[:2])

    def decode(
        self, latents: Tensor, progress: Progress | None = None
    ) -> Tensor:  # [N, 4, h, w] -> [N, 3, H, W] sRGB 0..1
        """Images of scaled latents; `progress` counts those that are done."""
        parts: list[Tensor] = []
        for some in latents.split(self.plan.images_at_once or len(latents)):
            parts.append(coding.decode(self.autoencoder, some))
            if progress:
                progress.step(sum(map(len, parts)), len(latents))
        return torch.cat(parts)


def embed_images(
    image_encoder: CLIPVisionModelWithProjection,
    images: Tensor,  # [B, 3, H, W] sRGB 0..1
    filter: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:  # [B, 1, D]
    """CLIP image embeddings, projected but not normalised; `filter` resizes the images to CLIP's size."""
    side: Any = image_encoder.config.image_size
    small = F.interpolate(images, (side, side), mode=filter, antialias=True).clamp(0, 1)
    mean, std = (small.new_tensor(v).view(3, 1, 1) for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    inputs = ((small - mean) / std).to(image_encoder.dtype)
    return image_encoder(inputs).image_embeds.unsqueeze(1)


def load(folder: Path, plan: Plan = Plan()) -> ViewsModel:
    """Reads a model's folder: settings, and one sub-folder per network; `plan` decides dtype and device.

    Raises:
        DioramaError: E_WEIGHTS_MISSING naming the file that is not there, E_WEIGHTS_CORRUPT naming the
            network whose files are damaged.
    """
    settings = read_settings(folder)
    networks: dict[str, Any] = {
        "text_encoder": CLIPTextModel,
        "autoencoder": AutoencoderKL,
        "reconstructor": LGM,
    }
    if (folder / "image_encoder").is_dir():
        networks["image_encoder"] = CLIPVisionModelWithProjection
    networks["unet"] = _denoiser_class(folder / "unet")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        message = f"{folder / 'tokenizer'} cannot be read"
        raise DioramaError("E_WEIGHTS_CORRUPT", message, detail=str(error)) from error
    loaded = {part: load_network(kind, folder / part, plan) for part, kind in networks.items()}
    offload(loaded, plan)
    return ViewsModel(settings, tokenizer, **loaded, plan=plan)


def _denoiser_class(folder: Path) -> Any:
    """The class of a denoiser, which its config names."""
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
        return next(network for network in DENOISERS if network.__name__ == kind)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise DioramaError("E_WEIGHTS_CORRUPT", f"{folder} cannot be read", detail=str(error)) from error
