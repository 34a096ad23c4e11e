"""From a request to an asset folder: which model, which steps, in what order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..gaussians.fitting import fit
from ..gaussians.meshing import glb_from_gaussians
from ..shared.asset import contact_sheet, write_asset, write_png
from ..shared.catalogue import MODELS
from ..shared.model_store import MOTION, require
from ..shared.output_folder import partial_folder
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.protocol import DioramaError, explained, is_out_of_memory
from ..shared.request import GenerationRequest
from . import conditioning, distill, orbits, reconstruction, triposplat, triposplat_model, views
from .image_source import read_object
from .memory import Planned, Work, choose, free_bytes, work_of
from .model import ViewsModel, load
from .model_cache import forget, kept_bytes, loaded
from .moving import Show, moving_splats, pictures_of
from .plan import CPU, Plan
from .settings import read_settings
from .triposplat_model import TripoSplatSettings

REFINING_STEPS = 160
PREVIEWS = 4  # pictures of the unfinished views, over all steps
OBJECT_PART = 200  # of 256 pixels: how large the object stands in a picture that says what to make


@torch.inference_mode()
def generate(request: GenerationRequest, directory: Path, progress: Progress) -> Path:
    """Makes the views, the splats and the asset folder `directory` that holds them.

    How is planned from the free memory. If that runs out all the same, the next leaner plan is tried, once.

    Raises:
        DioramaError: in words, whatever went wrong; E_CANCELLED within a step of being asked to stop.
    """
    progress.stage("Loading the model")
    folder = _folder(request)
    if MODELS[request.model].pipeline == "triposplat":
        settings = TripoSplatSettings.read(folder)
        work = triposplat_model.work_of(folder, settings, request.gaussians or settings.gaussians)

        def from_image(plan: Plan) -> Path:
            model = loaded(folder, plan, triposplat_model.load)
            return triposplat.generate(model, request, directory, progress)

        return _planned(work, from_image, progress)
    return _planned(
        _work_of_views(request, folder),
        lambda plan: _generate(request, directory, progress, folder, plan),
        progress,
    )


def _work_of_views(request: GenerationRequest, folder: Path) -> Work:
    settings, distilled = read_settings(folder), request.method == "distill"
    if distilled and settings.num_frames > 1:
        raise DioramaError(
            "E_REQUEST",
            f"{request.model} makes objects that move; distilled ones stand still",
            "Choose a model of objects that stand still, or the usual method.",
        )
    return work_of(folder, settings, request.views, request.frames, distilled)


def _planned(work: Planned, make: Callable[[Plan], Path], progress: Progress) -> Path:
    """Makes the asset as fits into the free memory, and if that runs out, once more with less."""
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else CPU
    choice = choose(work, device, free_bytes(device) + kept_bytes(device))
    progress.log("info" if choice.fits else "warning", choice.reason)
    for plan in filter(None, (choice.plan, choice.leaner)):
        try:
            return make(plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = explained(error)
        # Here, where the error no longer holds what it was raised among.
        forget()
        if plan is choice.plan and choice.leaner:
            progress.log("warning", f"Memory ran out; trying again, once: {choice.leaner}.")
    hint = f"Ask for fewer than {work.less}, or close other programs."
    raise DioramaError(
        "E_OUT_OF_MEMORY", f"there was not enough memory: {choice.reason}", hint, failure.detail
    )


def _generate(
    request: GenerationRequest, directory: Path, progress: Progress, folder: Path, plan: Plan
) -> Path:
    model = loaded(folder, plan, load)
    settings = model.settings
    prompt, near = model.with_known_words(request.prompt)
    if near:
        words = ", ".join(f"“{known}” for “{word}”" for word, known in near.items())
        progress.log("warning", f"The model does not know all words, and takes near ones: {words}.")
    understood = dataclasses.replace(request, prompt=prompt)
    if unknown := model.unknown_words(prompt):
        known = ", ".join(settings.words)
        progress.log("warning", f"The model does not know: {', '.join(unknown)}. It knows: {known}.")
    num_views = request.views or settings.num_views
    cameras = orbits.view_cameras(model.settings, num_views, request.elevation_deg, request.radius)
    if unusual := orbits.unusual_orbit(model.settings, request.elevation_deg, request.radius):
        progress.log("warning", unusual)
    moves = settings.num_frames > 1

    still = _distilled if request.method == "distill" else _still_splats

    def show(i: int, steps: int, pictures: Callable[[], Tensor]) -> None:
        if i % max(steps // (PREVIEWS + 1), 1) == 0 and i < steps:
            write_png(aside / "preview.png", contact_sheet(_images_last(pictures())))
            progress.preview(aside / "preview.png")

    directory.mkdir(parents=True, exist_ok=True)
    with partial_folder(directory) as aside:
        clouds, pictures = (moving_splats if moves else still)(model, understood, cameras, progress, show)

    mesh = None
    if request.mesh:
        mesh = glb_from_gaussians(clouds[0], pictures[:, 0], cameras, settings.fov_deg, "linear", progress)

    progress.stage("Writing the asset")
    return write_asset(
        directory,
        request=request.to_dict(),
        model=request.model,
        clouds=clouds,
        views=_images_last(pictures),
        cameras=cameras.numpy(),
        fov_deg=settings.fov_deg,
        blending="linear",
        timings=progress.timings,
        mesh=mesh,
        tracked=moves,
    )


def _still_splats(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: Show,
) -> tuple[list[GaussianCloud], Tensor]:  # one cloud, [V, 1, 4, H, W]
    """Splats of an object that stands still, and its views, cut out."""
    settings = model.settings
    told = _told(model, request)
    steps = request.steps or settings.steps

    progress.stage("Generating views")

    def on_step(i: int, x0: Tensor) -> None:
        progress.step(i, steps)
        show(i, steps, lambda: pictures_of(model, x0[0].transpose(0, 1)[:, None]))

    latents = views.denoise(
        model,
        told,
        views.starting_noise(model, len(cameras), request.seed),
        cameras,
        steps,
        settings.guidance if request.guidance is None else request.guidance,
        settings.three_d_aware,
        on_step,
        settings.fast if request.fast else None,
    )
    images = model.decode(latents[0].transpose(0, 1)).cpu()  # [V, 3, H, W]

    progress.stage("Reconstructing")
    gaussians = reconstruction.views_to_gaussians(model, images[None], cameras)
    pictures = reconstruction.cut_out(model, images, gaussians, cameras)  # [V, 4, H, W]

    progress.stage("Refining the splats")
    with torch.inference_mode(False), torch.enable_grad():
        cloud = fit(
            reconstruction.cloud_of(gaussians),
            pictures.clone(),
            cameras,
            settings.fov_deg,
            steps=REFINING_STEPS,
            seed=request.seed,
            on_step=lambda i, _: progress.step(i, REFINING_STEPS),
        )
    return [cloud], pictures[:, None]


def _folder(request: GenerationRequest) -> Path:
    """Where the model is that makes what is asked for: if it is to move, that may be one within the model."""
    folder = Path(require(request.model))
    return folder / MOTION if request.frames and (folder / MOTION).is_dir() else folder


def _distilled(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: Show,
) -> tuple[list[GaussianCloud], Tensor]:  # one cloud, [V, 1, 4, H, W]
    """Splats distilled out of the model, and what its cameras see of them."""
    steps = request.steps or distill.STEPS
    guidance = model.settings.guidance if request.guidance is None else request.guidance
    told = _told(model, request)
    progress.stage("Distilling")

    def on_step(i: int, pictures: Tensor) -> None:
        progress.step(i, steps)
        show(i, steps, lambda: pictures.clamp(0, 1)[:, None])

    cloud = distill.distill(model, told, cameras, steps, guidance, request.seed, on_step)
    return [cloud], distill.views_of(model, cloud, cameras)[:, None]


def _told(model: ViewsModel, request: GenerationRequest) -> conditioning.Conditioning:
    """What the request says to the model: its text, or its picture.

    Raises:
        DioramaError: E_IMAGE about the picture.
    """
    if request.image is None:
        return conditioning.told_by_text(model, [request.prompt])
    size = model.settings.size_px
    return conditioning.told_by_image(
        model, read_object(Path(request.image), size, size * OBJECT_PART // 256)
    )


def _images_last(images: Tensor) -> np.ndarray:  # [V, F, C, H, W] -> [V, F, H, W, C]
    return images.movedim(-3, -1).cpu().numpy()
