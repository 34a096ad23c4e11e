"""Prompt to a multi-view video as Vivid-ZOO does (arXiv 2406.08659): views and frames denoised together."""

from __future__ import annotations

import torch
from accelerate.utils import align_module_device
from torch import Tensor

from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from .conditioning import condition_on_text
from .denoise import Sampling, denoise
from .model import ViewsModel
from .noise import video_noise
from .preview import ShowLatents


def video(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: ShowLatents,
) -> Tensor:  # [1, V, F, C, h, w]
    """Latents of a video of the prompt.

    Raises:
        DioramaError: E_REQUEST for sizes that the network cannot make; E_CANCELLED.
    """
    sampling = Sampling.of(request, model.settings)
    warn_if_not_aligned(model, progress)
    progress.stage("Denoising the video")
    return denoise(
        model,
        condition_on_text(model, [request.prompt]),
        video_noise(model, len(cameras), request.frames, request.seed),
        cameras,
        sampling,
        progress=progress,
        on_step=lambda i, x0: show(i, sampling.steps, x0),
    )


def warn_if_not_aligned(model: ViewsModel, progress: Progress) -> None:
    """Logs a warning if the layers between multi-view and motion modules are untrained: all of them zero."""
    unet = model.unet
    assert isinstance(unet, MultiViewMotionUNet)
    if not unet.config.motion or unet.camera_embedding is None:
        return
    if not any(_has_weights(layer) for name, layer in unet.named_modules() if ".align_" in name):
        progress.log(
            "warning",
            "the alignment between views and motion is not trained: views may disagree and move badly",
        )


def _has_weights(layer: torch.nn.Module) -> bool:
    """Whether any weight of a layer is not zero, wherever the weights are offloaded to."""
    with align_module_device(layer):
        return any(bool(parameter.any()) for parameter in layer.parameters())
