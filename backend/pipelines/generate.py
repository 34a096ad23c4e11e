"""From a request to an asset folder: which model, which steps, in what order.

What only some requests need (motion, meshes, distillation, TripoSplat) is imported where it is used, so that
the first step of the others comes sooner.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..shared.asset import write_asset
from ..shared.catalogue import MODELS
from ..shared.floaters import floaters
from ..shared.model_store import MOTION, require
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.protocol import DioramaError
from ..shared.request import SIDES, GenerationRequest
from . import orbits
from .image_source import SourceImages, cut_out, read_object
from .memory import Planned, Work, work_of
from .model import load
from .model_cache import loaded
from .plan import Plan
from .planned import planned
from .preview import channels_last, previews
from .settings import ModelSettings, read_settings


@torch.inference_mode()
def generate(request: GenerationRequest, directory: Path, progress: Progress) -> Path:
    """Makes the views, the splats and the asset folder `directory` that holds them.

    How is planned from the free memory. If that runs out all the same, the next leaner plan is tried, once.

    Raises:
        DioramaError: in words, whatever went wrong; E_CANCELLED within a step of being asked to stop.
    """
    folder, work = work_for(request)
    source = _source_images(request, progress)
    progress.stage("Loading the model")

    def make(plan: Plan) -> Path:
        if request.has_four_sides:
            return _from_sides(request, source.objects, directory, progress, folder, plan)
        if MODELS[request.model].pipeline == "triposplat":
            from . import triposplat, triposplat_model

            model = loaded(folder, plan, triposplat_model.load)
            return triposplat.generate(model, request, source, directory, progress)
        return _generate(request, source, directory, progress, folder, plan)

    return planned(work, make, progress)


def work_for(request: GenerationRequest) -> tuple[Path, Planned]:
    """The folder of the model that makes what is asked for, and the sizes that its memory depends on.

    Raises:
        DioramaError: E_REQUEST if the model cannot make it; E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT.
    """
    folder = _folder(request)
    if request.has_four_sides:
        from . import four_sides

        return folder, four_sides.work_of(folder)
    if MODELS[request.model].pipeline == "triposplat":
        from . import triposplat_model

        settings = triposplat_model.TripoSplatSettings.read(folder)
        return folder, triposplat_model.work_of(folder, settings, request.gaussians or settings.gaussians)
    return folder, _work_of_views(request, folder)


def _source_images(request: GenerationRequest, progress: Progress) -> SourceImages:
    """The objects of the request's images, cut out; for models that need an image, of one that is made."""
    if not request.images and not MODELS[request.model].needs_image:
        return SourceImages()
    from .background_removal import installed_matte

    matte = installed_matte(progress)
    if request.images:
        paths = {SIDES[name]: Path(path) for name, path in request.images.items()}
        return SourceImages({side: read_object(path, matte) for side, path in paths.items()})
    from . import text_to_image

    folder = text_to_image.folder_of(request.text_to_image)
    made = text_to_image.image_of(request.prompt, folder, request.seed, progress)
    opaque = np.concatenate([made, np.ones_like(made[..., :1])], axis=-1)
    return SourceImages({"front": cut_out(opaque, "the image of the prompt", matte)}, {"prompt": made})


def _work_of_views(request: GenerationRequest, folder: Path) -> Work:
    settings, distilled = read_settings(folder), request.method == "distill"
    if distilled and settings.num_frames > 1:
        raise DioramaError(
            "E_REQUEST",
            f"{request.model} makes objects that move; distilled ones stand still",
            "Choose a model of objects that stand still, or the usual method.",
        )
    return work_of(folder, settings, request.views, request.frames, distilled)


def _from_sides(
    request: GenerationRequest,
    images: dict[str, np.ndarray],  # [H, W, 4] of the front, the left, the back and the right
    directory: Path,
    progress: Progress,
    folder: Path,
    plan: Plan,
) -> Path:
    from . import four_sides

    settings = read_settings(folder)
    rgba = four_sides.framed_sides(images, settings.size_px)
    cameras = _cameras(request, settings, len(images), progress)
    reconstructor = loaded(folder / four_sides.PART, plan, four_sides.load)
    cloud = four_sides.splats_of_sides(reconstructor, settings, rgba, cameras, request.seed, progress)
    return _written(request, settings, [cloud], rgba[:, None], cameras, directory, progress)


def _generate(
    request: GenerationRequest,
    source: SourceImages,
    directory: Path,
    progress: Progress,
    folder: Path,
    plan: Plan,
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
        progress.log("warning", f"The model does not know: {', '.join(unknown)}.")
        progress.log("info", f"It knows: {', '.join(word for word in settings.words if word.isalnum())}.")
    cameras = _cameras(request, settings, request.views, progress)

    # 2. Splats and views.
    image = source.objects.get("front")
    with previews(directory, progress) as show:
        if request.method == "distill":
            from .distill import distilled_splats

            clouds, rgba = distilled_splats(model, understood, image, cameras, progress, show)
        elif settings.num_frames > 1:
            from .dynamic_splats import dynamic_splats

            clouds, rgba = dynamic_splats(model, understood, cameras, progress, show)
        else:
            from .views import still_splats

            clouds, rgba = still_splats(model, understood, image, cameras, progress, show)

    # 3. The asset.
    return _written(request, settings, clouds, rgba, cameras, directory, progress, source.kept)


def _cameras(
    request: GenerationRequest, settings: ModelSettings, num_views: int | None, progress: Progress
) -> Tensor:  # [V, 4, 4]
    """The cameras of the views, with a warning if they are unlike those of the model's training."""
    if unusual := orbits.unusual_orbit(settings, request.elevation_deg, request.radius):
        progress.log("warning", unusual)
    return orbits.view_cameras(settings, num_views, request.elevation_deg, request.radius)


def _written(
    request: GenerationRequest,
    settings: ModelSettings,
    clouds: list[GaussianCloud],
    rgba: Tensor,  # [V, F, 4, H, W]
    cameras: Tensor,  # [V, 4, 4]
    directory: Path,
    progress: Progress,
    sources: dict[str, np.ndarray] | None = None,
) -> Path:
    """The asset folder, with a mesh of the first frame if one is asked for.

    Floaters go last: fitting fades splats out that nothing shows, which then are floaters too.
    """
    gone = floaters(clouds)
    if not gone.all():
        clouds = [cloud.only(~gone) for cloud in clouds]
    mesh = None
    if request.mesh:
        from ..gaussians.meshing import glb_from_gaussians

        mesh = glb_from_gaussians(clouds[0], rgba[:, 0], cameras, settings.fov_deg, "linear", progress)
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
        tracked=len(clouds) > 1,
        sources=sources or {},
    )


def _folder(request: GenerationRequest) -> Path:
    """Where the model is that makes what is asked for: if it is to move, that may be one within the model."""
    folder = Path(require(request.model))
    return folder / MOTION if request.frames and (folder / MOTION).is_dir() else folder
