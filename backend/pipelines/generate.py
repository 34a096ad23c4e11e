"""From a request to an asset folder: which model, which steps, in what order.

What only some requests need (motion, meshes, distillation, TripoSplat) is imported where it is used, so that
the first step of the others comes sooner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from ..shared.asset import write_asset
from ..shared.catalogue import MODELS
from ..shared.model_store import MOTION, require
from ..shared.progress import Progress
from ..shared.protocol import DioramaError, explained, is_out_of_memory
from ..shared.request import GenerationRequest
from . import orbits
from .devices import best_device, free_bytes
from .memory import Planned, Work, choose, work_of
from .model import load
from .model_cache import forget, kept_bytes, loaded
from .plan import Plan
from .preview import channels_last, previews
from .settings import read_settings


@torch.inference_mode()
def generate(request: GenerationRequest, directory: Path, progress: Progress) -> Path:
    """Makes the views, the splats and the asset folder `directory` that holds them.

    How is planned from the free memory. If that runs out all the same, the next leaner plan is tried, once.

    Raises:
        DioramaError: in words, whatever went wrong; E_CANCELLED within a step of being asked to stop.
    """
    progress.stage("Loading the model")
    folder, work = work_for(request)

    def make(plan: Plan) -> Path:
        if MODELS[request.model].pipeline == "triposplat":
            from . import triposplat, triposplat_model

            model = loaded(folder, plan, triposplat_model.load)
            return triposplat.generate(model, request, directory, progress)
        return _generate(request, directory, progress, folder, plan)

    return _planned(work, make, progress)


def work_for(request: GenerationRequest) -> tuple[Path, Planned]:
    """The folder of the model that makes what is asked for, and the sizes that its memory depends on.

    Raises:
        DioramaError: E_REQUEST if the model cannot make it; E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT.
    """
    folder = _folder(request)
    if MODELS[request.model].pipeline == "triposplat":
        from . import triposplat_model

        settings = triposplat_model.TripoSplatSettings.read(folder)
        return folder, triposplat_model.work_of(folder, settings, request.gaussians or settings.gaussians)
    return folder, _work_of_views(request, folder)


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
    device = best_device()
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
            from .distill import distilled_splats

            clouds, rgba = distilled_splats(model, understood, cameras, progress, show)
        elif moves:
            from .dynamic_splats import dynamic_splats

            clouds, rgba = dynamic_splats(model, understood, cameras, progress, show)
        else:
            from .views import still_splats

            clouds, rgba = still_splats(model, understood, cameras, progress, show)

    # 3. A mesh of them, if one is asked for.
    mesh = None
    if request.mesh:
        from ..gaussians.meshing import glb_from_gaussians

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
