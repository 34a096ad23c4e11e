"""From a request to an asset folder: which model, which steps, in what order."""

from __future__ import annotations

import gc
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
from ..protocol import DioramaError, explained, is_out_of_memory
from ..request import GenerationRequest
from . import views
from .image_source import read_object
from .memory import free_bytes, work_of
from .model import ViewsModel, load, read_settings
from .plan import CPU, Plan, choose

REFINING_STEPS = 160
PREVIEWS = 4  # pictures of the unfinished views, over all steps
OBJECT_PART = 200  # of 256 pixels: how large the object stands in a picture that says what to make
FAINTEST = 0.005  # splats of less opacity are left out, as the reconstructor's authors do


@torch.inference_mode()
def generate(request: GenerationRequest, directory: Path, progress: Progress) -> Path:
    """Makes the views, the splats and the asset folder `directory` that holds them.

    How is planned from the free memory. If that runs out all the same, the next leaner plan is tried, once.

    Raises:
        DioramaError: in words, whatever went wrong; E_CANCELLED within a step of being asked to stop.
    """
    progress.stage("Loading the model")
    folder = require(request.model)
    work = work_of(folder, read_settings(folder), request.views)
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else CPU
    choice = choose(work, device, free_bytes(device) + _kept_bytes(device))
    progress.log("info" if choice.fits else "warning", choice.reason)
    for plan in filter(None, (choice.plan, choice.leaner)):
        try:
            return _generate(request, directory, progress, folder, plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = explained(error)
        # Here, where the error no longer holds what it was raised among.
        forget()
        if plan is choice.plan and choice.leaner:
            progress.log("warning", f"Memory ran out; trying again, once: {choice.leaner}.")
    hint = f"Ask for fewer than {work.views} views, or close other programs."
    raise DioramaError(
        "E_OUT_OF_MEMORY", f"there was not enough memory: {choice.reason}", hint, failure.detail
    )


def _generate(
    request: GenerationRequest, directory: Path, progress: Progress, folder: Path, plan: Plan
) -> Path:
    model = _loaded(folder, plan)
    settings = model.settings
    told = _told(model, request)
    if unknown := model.unknown_words(request.prompt):
        known = ", ".join(settings.words)
        progress.log("warning", f"The model does not know: {', '.join(unknown)}. It knows: {known}.")
    num_views = request.views or settings.num_views
    steps = request.steps or settings.steps
    cameras = views.view_cameras(model, num_views)

    progress.stage("Generating views")
    preview = directory / "preview.partial.png"

    def on_step(i: int, x0: Tensor) -> None:
        progress.step(i, steps)
        if i % max(steps // (PREVIEWS + 1), 1) == 0 and i < steps:
            write_png(preview, contact_sheet(_images_last(_pictures(model, x0)[:, None])))
            progress.preview(preview)

    try:
        latents = views.denoise(
            model,
            told,
            views.starting_noise(model, num_views, request.seed),
            cameras,
            steps,
            settings.guidance if request.guidance is None else request.guidance,
            settings.three_d_aware,
            on_step,
        )
    finally:
        preview.unlink(missing_ok=True)
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


_kept: dict[tuple[Path, Plan], ViewsModel] = {}  # the model of the last job, if there was one


def _loaded(folder: Path, plan: Plan) -> ViewsModel:
    """The model, which stays for the next job; another one goes before it comes."""
    if (folder, plan) not in _kept:
        forget()
        _kept[folder, plan] = load(folder, plan)
    return _kept[folder, plan]


def forget() -> None:
    """Gives back the memory of the model that was kept for the next job."""
    _kept.clear()
    gc.collect()  # hooks that move networks are parts of cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _kept_bytes(device: torch.device) -> int:
    """How much of the main memory `forget` would give back; that of GPUs is known without."""
    models = _kept.values() if device.type == "cpu" else ()
    return sum(weight.nbytes for model in models for net in model.networks for weight in net.parameters())


def _pictures(model: ViewsModel, latents: Tensor) -> Tensor:  # [1, 4, V, h, w] -> [V, 3, H, W]
    return model.decode(latents[0].transpose(0, 1)).cpu()


def _images_last(images: Tensor) -> np.ndarray:  # [V, F, C, H, W] -> [V, F, H, W, C]
    return images.movedim(-3, -1).numpy()
