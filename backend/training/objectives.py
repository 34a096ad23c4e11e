"""Training objectives of the full-size models; frozen networks encode images and captions on the way.

Nothing is encoded beforehand, so a data set of any size needs no more disk than its images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from ..gaussians.color import over
from ..models.checkpoints import read_checkpoint
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..models.videomv_unet import VideoMVImageUNet
from ..pipelines.model import ViewsModel
from .denoiser import DenoiserObjective, ViewsStage
from .loop import Batch
from .multiview_motion import ALIGNMENT, MultiViewMotionObjective
from .objaverse import GREY, WHITE
from .reconstructor import ReconstructorObjective, half_denoised

PERCEPTUAL_PX = 256


class ImageObjective(nn.Module):
    """Holds all networks of a model, of which some learn: the others never drop anything out, nor round.

    Frozen weights are kept in half precision where there is a GPU.

    Args:
        unused: networks that are left where they are.
    """

    def __init__(self, model: ViewsModel, unused: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.model = model
        parts = {"text_encoder", "unet", "autoencoder", "reconstructor", "image_encoder"} - set(unused)
        self.networks = nn.ModuleDict({part: net for part in sorted(parts) if (net := getattr(model, part))})
        self.networks.requires_grad_(False)

    def train(self, mode: bool = True) -> ImageObjective:
        """Only what learns is put into training mode."""
        super().train(mode)
        for network in self.networks.values():
            if not any(parameter.requires_grad for parameter in network.parameters()):
                network.eval()
        return self

    def shrink_frozen(self) -> None:
        """Once it is settled what learns: the rest in half precision, if there is a GPU.

        Not the text encoder: it is small, and runs where numbers of two precisions meet.
        """
        if torch.cuda.is_available():
            for part, network in self.networks.items():
                for parameter in network.parameters():
                    if not parameter.requires_grad and part != "text_encoder":
                        parameter.data = parameter.data.half()

    def encode(self, images: Tensor) -> Tensor:  # [..., 3, H, W] sRGB 0..1 -> [..., C, h, w]
        """Scaled latents of images, in the autoencoder's own precision."""
        flat = images.flatten(0, -4)
        with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
            return self.model.encode(flat).float().unflatten(0, images.shape[:-3])

    def decode(self, latents: Tensor) -> Tensor:  # [..., C, h, w] -> [..., 3, H, W] sRGB 0..1
        """Images of scaled latents."""
        flat = latents.flatten(0, -4)
        with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
            return self.model.decode(flat).unflatten(0, latents.shape[:-3])

    def image_conditioning(self, images: Tensor) -> dict[str, Tensor]:  # [B, V, 3, H, W], view 0 on white
        """Keyword arguments of an image-conditioned denoiser, in addition to the text; else none."""
        if not isinstance(self.model.unet, VideoMVImageUNet):
            return {}
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            meaning = self.model.encode_image(images[:, 0])
        return {"image_latents": self.encode(images[:, 0]), "image_embeddings": meaning.float()}

    @property
    def background(self) -> float:
        """Behind all images, as VideoMV has it: white for image-conditioned models, else grey."""
        return WHITE if isinstance(self.model.unet, VideoMVImageUNet) else GREY


class ViewsObjective(ImageObjective):
    """Views under known cameras are denoised well; all of the denoiser learns.

    Source: VideoMV (arXiv 2403.12010), section 3.1. Its code halves the gradients of the layers that see one
    view; to AdamW, which divides by their size, that is nothing, and it is left out.
    """

    def __init__(self, model: ViewsModel) -> None:
        super().__init__(model)
        unet: Any = model.unet
        stage = ViewsStage(model.settings.num_views, cameras=True)
        self.denoiser = DenoiserObjective(unet, model.text_encoder, model.settings.schedule, stage)
        unet.enable_gradient_checkpointing()
        self.shrink_frozen()

    def forward(
        self,
        rgba: Tensor,  # [B, V, 4, H, W] uint8, sRGB, straight alpha
        tokens: Tensor,  # [B, L]
        cameras: Tensor,  # [B, V, 4, 4] camera-to-world
        noise: Tensor,  # [B, C, V, h, w]
        timesteps: Tensor,  # [B]
    ) -> Tensor:
        images = over(rgba.float() / 255, self.background)
        latents = self.encode(images).transpose(1, 2)
        return self.denoiser(latents, tokens, cameras, noise, timesteps, **self.image_conditioning(images))


class HalfDenoisedObjective(ImageObjective):
    """Gaussians of half-denoised views look right from everywhere; only the reconstructor learns.

    Source: VideoMV (arXiv 2403.12010), section 3.2.
    """

    def __init__(self, model: ViewsModel, likeness: Perceptual | None = None) -> None:
        super().__init__(model)
        settings = model.settings
        self.scheduler = DDIMScheduler(**settings.schedule)
        model.reconstructor.requires_grad_(True)
        self.reconstruction = ReconstructorObjective(
            model.reconstructor,
            settings.fov_deg,
            settings.rendering.blending,
            tuple(range(1, 1 + settings.input_views)),  # after view 0 of the orbit, which defines the frame
            likeness,
        )
        self.shrink_frozen()

    def forward(self, **batch: Tensor) -> Tensor:
        """The loss of what `given` makes of a batch."""
        return self.reconstruction(**self.given(**batch))

    @torch.no_grad()
    def given(
        self,
        rgba: Tensor,  # [B, V, 4, H, W] uint8, sRGB, straight alpha
        tokens: Tensor,  # [B, L]
        cameras: Tensor,  # [B, V, 4, 4] camera-to-world
        noise: Tensor,  # [B, C, V, h, w]
        timesteps: Tensor,  # [B]
        seen: Tensor,  # [B, S] views to reconstruct from
        compared: Tensor,  # [B, T] views to compare
        targets: Tensor,  # [B, T, 4, H', W'] uint8, of these
        background: Tensor,  # [3] behind the Gaussians
    ) -> Batch:
        """The batch of `ReconstructorObjective`, from half-denoised views."""
        images = over(rgba.float() / 255, self.background)
        unet = self.model.unet
        image = self.image_conditioning(images)
        image = {name: value.to(unet.dtype) for name, value in image.items()}
        latents = self.encode(images).transpose(1, 2).to(unet.dtype)
        with torch.autocast(rgba.device.type, enabled=False):
            context = self.model.text_encoder(tokens).last_hidden_state.to(unet.dtype)
            x0 = half_denoised(
                unet, self.scheduler, latents, noise.to(unet.dtype), timesteps, context, cameras, **image
            )
        samples = torch.arange(len(seen), device=seen.device)[:, None]
        chosen = torch.cat([torch.zeros_like(seen[:, :1]), seen, compared], 1)
        return {
            "images": self.decode(x0.transpose(1, 2)[samples, seen]),
            "targets": targets.float() / 255,
            "cameras": cameras[samples, chosen],
            "background": background,
        }


class MotionObjective(ImageObjective):
    """Videos from several views are denoised well; only Vivid-ZOO's alignment learns.

    Source: Vivid-ZOO (arXiv 2406.08659), section 3.3.
    """

    def __init__(self, model: ViewsModel) -> None:
        super().__init__(model, unused=("reconstructor",))
        assert isinstance(model.unet, MultiViewMotionUNet)
        self.denoiser = MultiViewMotionObjective(
            model.unet, model.text_encoder, model.settings.schedule, ALIGNMENT, checkpointing=True
        )
        self.shrink_frozen()

    def forward(
        self,
        rgba: Tensor,  # [B, V, F, 4, H, W] uint8, sRGB, straight alpha
        background: Tensor,  # [B] grey, sRGB 0..1
        tokens: Tensor,  # [B, L]
        cameras: Tensor,  # [B, V, 4, 4] camera-to-world
        noise: Tensor,  # [B, V, F, C, h, w]
        timesteps: Tensor,  # [B]
    ) -> Tensor:
        images = over(rgba.float() / 255, background.view(-1, 1, 1, 1, 1, 1))
        return self.denoiser(self.encode(images), tokens, cameras, noise, timesteps)


class Perceptual(nn.Module):
    """LPIPS of images, made as small as it was trained on."""

    def __init__(self, vgg16_file: Path) -> None:
        super().__init__()
        from ..evaluation.image_quality import lpips_linear, vgg16_features

        self.vgg16 = vgg16_features(read_checkpoint(vgg16_file)).requires_grad_(False)
        self.linear = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in lpips_linear())

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:  # [N, 3, H, W] sRGB each -> [N]
        from ..evaluation.image_quality import lpips_distance

        if images.shape[-1] > PERCEPTUAL_PX:
            size = (PERCEPTUAL_PX, PERCEPTUAL_PX)
            images, targets = (F.interpolate(x, size, mode="bilinear") for x in (images, targets))
        return lpips_distance(images, targets, self.vgg16, list(self.linear))
