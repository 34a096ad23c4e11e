"""From a request to an asset folder: which model, which steps, in what order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from ..gaussians.meshing import glb_from_gaussians
from ..shared.asset import write_asset
from ..shared.catalogue import MODELS
from ..shared.model_store import MOTION, require
from ..shared.progress import Progress
from ..shared.protocol import DioramaError, explained, is_out_of_memory
from ..shared.request import GenerationRequest
from . import orbits, triposplat, triposplat_model
from .distill import distilled_splats
from .dynamic_splats import dynamic_splats
from .memory import Planned, Work, choose, free_bytes, work_of
from .model import load
from .model_cache import forget, kept_bytes, loaded
from .plan import CPU, Plan
from .preview import channels_last, previews
from .settings import read_settings
from .triposplat_model import TripoSplatSettings
from .views import still_splats


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
    # 1. The model, and its cameras.
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
    cameras = orbits.view_cameras(settings, request.views, request.elevation_deg, request.radius)
    if unusual := orbits.unusual_orbit(settings, request.elevation_deg, request.radius):
        progress.log("warning", unusual)

    # 2. Splats and views.
    moves = settings.num_frames > 1
    with previews(directory, progress) as show:
        if request.method == "distill":
            clouds, rgba = distilled_splats(model, understood, cameras, progress, show)
        elif moves:
            clouds, rgba = dynamic_splats(model, understood, cameras, progress, show)
        else:
            clouds, rgba = still_splats(model, understood, cameras, progress, show)

    # 3. A mesh of them, if one is asked for.
    mesh = None
    if request.mesh:
        mesh = glb_from_gaussians(clouds[0], rgba[:, 0], cameras, settings.fov_deg, "linear", progress)

    # 4. The asset folder.
    progress.stage("Writing the asset")
    return write_asset(
        directory,
        request=request.to_dict(),
        model=request.model,
        clouds=clouds,
        views=channels_last(rgba),
        cameras=cameras.numpy(),
        fov_deg=settings.fov_deg,
        blending="linear",
        timings=progress.timings,
        mesh=mesh,
        tracked=moves,
    )


def _folder(request: GenerationRequest) -> Path:
    """Where the model is that makes what is asked for: if it is to move, that may be one within the model."""
    folder = Path(require(request.model))
    return folder / MOTION if request.frames and (folder / MOTION).is_dir() else folder
