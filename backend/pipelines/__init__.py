"""From a request to an asset folder: which model, which steps, in what order."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..asset import contact_sheet, write_asset, write_png
from ..gaussians.fitting import fit
from ..gaussians.meshing import glb_from_gaussians
from ..model_folders import require
from ..models.lgm import Gaussians
from ..ply import SH_C0, GaussianCloud
from ..progress import Progress
from ..protocol import DioramaError
from ..request import GenerationRequest
from . import distill, views
from .image_source import read_object
from .model import ViewsModel, load

REFINING_STEPS = 160
PREVIEWS = 4  # pictures of the unfinished views, over all steps
OBJECT_PART = 200  # of 256 pixels: how large the object stands in a picture that says what to make
FAINTEST = 0.005  # splats of less opacity are left out, as the reconstructor's authors do


@torch.inference_mode()
def generate(request: GenerationRequest, directory: Path, progress: Progress) -> Path:
    """Makes the views, the splats and the asset folder `directory` that holds them.

    Raises:
        DioramaError: in words, whatever went wrong; E_CANCELLED within a step of being asked to stop.
    """
    progress.stage("Loading the model")
    model = _loaded(require(request.model), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    settings = model.settings
    told = _told(model, request)
    if unknown := model.unknown_words(request.prompt):
        known = ", ".join(settings.words)
        progress.log("warning", f"The model does not know: {', '.join(unknown)}. It knows: {known}.")
    num_views = request.views or settings.num_views
    cameras = views.view_cameras(model, num_views)
    preview = directory / "preview.partial.png"
    how = _distilled if request.method == "distill" else _reconstructed
    try:
        cloud, pictures = how(model, told, cameras, request, progress, preview)
    finally:
        preview.unlink(missing_ok=True)

    mesh = None
    if request.mesh:
        mesh = glb_from_gaussians(cloud, pictures, cameras, settings.fov_deg, "linear", progress)

    progress.stage("Writing the asset")
    return write_asset(
        directory,
        request=request.to_dict(),
        model=request.model,
        clouds=[cloud],
        views=_images_last(pictures[:, None]),
        cameras=cameras.numpy(),
        fov_deg=settings.fov_deg,
        blending="linear",
        timings=progress.timings,
        mesh=mesh,
    )


def _reconstructed(
    model: ViewsModel,
    told: views.Conditioning,
    cameras: Tensor,  # [V, 4, 4]
    request: GenerationRequest,
    progress: Progress,
    preview: Path,
) -> tuple[GaussianCloud, Tensor]:
    """Splats of generated views, and these views cut out: [V, 4, H, W]."""
    settings = model.settings
    steps = request.steps or settings.steps
    progress.stage("Generating views")

    def on_step(i: int, x0: Tensor) -> None:
        progress.step(i, steps)
        if i % max(steps // (PREVIEWS + 1), 1) == 0 and i < steps:
            write_png(preview, contact_sheet(_images_last(_pictures(model, x0)[:, None])))
            progress.preview(preview)

    latents = views.denoise(
        model,
        told,
        views.starting_noise(model, len(cameras), request.seed),
        cameras,
        steps,
        settings.guidance if request.guidance is None else request.guidance,
        settings.three_d_aware,
        on_step,
    )
    images = _pictures(model, latents)  # [V, 3, H, W]

    progress.stage("Reconstructing")
    gaussians = views.views_to_gaussians(model, images[None], cameras)
    pictures = views.cut_out(model, images, gaussians, cameras)  # [V, 4, H, W]

    progress.stage("Refining the splats")
    with torch.inference_mode(False), torch.enable_grad():
        cloud = fit(
            cloud_of(gaussians),
            pictures.clone(),
            cameras,
            settings.fov_deg,
            steps=REFINING_STEPS,
            seed=request.seed,
            on_step=lambda i, _: progress.step(i, REFINING_STEPS),
        )
    return cloud, pictures


def _distilled(
    model: ViewsModel,
    told: views.Conditioning,
    cameras: Tensor,  # [V, 4, 4]
    request: GenerationRequest,
    progress: Progress,
    preview: Path,
) -> tuple[GaussianCloud, Tensor]:
    """Splats distilled out of the model, and what its cameras see of them: [V, 4, H, W]."""
    steps = request.steps or distill.STEPS
    progress.stage("Distilling")

    def on_step(i: int, pictures: Tensor) -> None:
        progress.step(i, steps)
        if i % max(steps // (PREVIEWS + 1), 1) == 0 and i < steps:
            write_png(preview, contact_sheet(_images_last(pictures.clamp(0, 1)[:, None].cpu())))
            progress.preview(preview)

    guidance = model.settings.guidance if request.guidance is None else request.guidance
    cloud = distill.distill(model, told, cameras, steps, guidance, request.seed, on_step)
    return cloud, distill.views_of(model, cloud, cameras)


def _told(model: ViewsModel, request: GenerationRequest) -> views.Conditioning:
    """What the request says to a model that is told by text, or by a picture.

    Raises:
        DioramaError: E_REQUEST if it says it in the other way; E_IMAGE about the picture.
    """
    if model.image_encoder is None:
        if request.image:
            raise DioramaError("E_REQUEST", f"{request.model} is told by text what to make, not by a picture")
        return views.told_by_text(model, [request.prompt])
    if not request.image:
        raise DioramaError("E_REQUEST", f"{request.model} needs a picture of what to make")
    size = model.settings.size_px
    return views.told_by_image(model, read_object(Path(request.image), size, size * OBJECT_PART // 256))


def cloud_of(gaussians: Gaussians) -> GaussianCloud:
    """One object's Gaussians, without those that nobody would see, as a cloud for files and fitting."""
    kept = gaussians.opacities[0] > FAINTEST
    means, opacities, scales, quats, rgb = (field[0][kept].cpu().numpy() for field in gaussians)
    return GaussianCloud(means, quats, scales, opacities, sh=((rgb - 0.5) / SH_C0)[:, None])


@functools.lru_cache(maxsize=1)
@torch.inference_mode(False)  # distillation takes gradients through the weights
def _loaded(folder: Path, device: torch.device) -> ViewsModel:
    return load(folder, device)


def _pictures(model: ViewsModel, latents: Tensor) -> Tensor:  # [1, 4, V, h, w] -> [V, 3, H, W]
    return model.decode(latents[0].transpose(0, 1)).cpu()


def _images_last(images: Tensor) -> np.ndarray:  # [V, F, C, H, W] -> [V, F, H, W, C]
    return images.movedim(-3, -1).numpy()
