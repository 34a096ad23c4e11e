"""An image to splats without views in between: TripoSplat's sampling, its octree, and the image's camera."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..cameras import orbit
from ..gaussians.fitting import SplatParameters, render_rgba
from ..gaussians.meshing import glb_from_gaussians
from ..gaussians.rigidity import multiply, rotate
from ..models.lgm import Gaussians
from ..models.triposplat_flow import Context, TripoSplatFlow
from ..seeds import generator_for
from ..shared.asset import write_asset
from ..shared.ply import SH_C0, GaussianCloud
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from .image_source import SourceImages
from .octree import sample_points
from .triposplat_image import appearance_tokens, detail_tokens, framed, on_black
from .triposplat_model import TripoSplatModel

# A camera that no photographer takes is none that was understood; then the usual one is taken.
_FARTHEST = 5.0  # object sizes
_FOV_DEG = (5.0, 70.0)
_HIGHEST_DEG = 60.0


@dataclass(frozen=True)
class ImageCamera:
    """The camera that took the image, as the model understands it: it looks at the origin, Z up."""

    azimuth: float  # radians, from +X counter-clockwise seen from above
    elevation_deg: float
    radius: float  # from the origin, where the object is about 1 large
    fov_deg: float

    @property
    def usual(self) -> bool:
        """Whether a photographer may have stood there."""
        low, high = _FOV_DEG
        return (
            0 < self.radius <= _FARTHEST
            and low <= self.fov_deg <= high
            and abs(self.elevation_deg) <= _HIGHEST_DEG
        )


USUAL_CAMERA = ImageCamera(0.0, elevation_deg=5.0, radius=1.7, fov_deg=39.6)


def camera_of(token: Tensor) -> ImageCamera:  # [5]
    """What a camera token says: direction (3), 1 / distance, distance * tan(fov / 2)."""
    x, y, z, nearness, spread = token.double().tolist()
    length = math.sqrt(x * x + y * y + z * z)
    if not (math.isfinite(length + nearness + spread) and length > 0 and nearness > 0):
        return ImageCamera(0.0, 0.0, math.inf, 0.0)
    return ImageCamera(
        azimuth=math.atan2(y, x),
        elevation_deg=math.degrees(math.asin(z / length)),
        radius=1 / nearness,
        fov_deg=math.degrees(2 * math.atan(spread * nearness)),
    )


def times(steps: int, shift: float) -> list[float]:
    """Of the sampling, from 1 (noise) to 0; a larger shift spends more steps near the noise."""
    even = [1 - i / steps for i in range(steps + 1)]
    return [shift * u / (1 + (shift - 1) * u) for u in even]


def denoise(
    flow: TripoSplatFlow,
    latent: Tensor,  # [B, L, C], noise
    camera: Tensor,  # [B, 1, 5], noise
    conditional: Context,
    unconditional: Context,
    steps: int,
    guidance: float,
    shift: float,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    on_branch: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents of the object, and the token of the camera that saw it.

    Euler's steps along a rectified flow, with classifier-free guidance of both.

    Args:
        on_step: called with the number of steps done and the latent and camera so far; may raise.
        on_branch: called between the guidance's branches; may raise.

    Source: TripoSplat (arXiv 2605.16355), and its released inference.
    """
    for i, (t, after) in enumerate(pairwise(times(steps, shift))):
        timestep = latent.new_full((len(latent),), 1000 * t)
        velocities = [v.float() for v in flow(latent, camera, timestep, conditional)]
        if guidance > 1:
            if on_branch:
                on_branch()
            without = flow(latent, camera, timestep, unconditional)
            velocities = [
                guidance * v - (guidance - 1) * w.float() for v, w in zip(velocities, without, strict=True)
            ]
        latent, camera = (x - v * (t - after) for x, v in zip((latent, camera), velocities, strict=True))
        if on_step:
            on_step(i + 1, latent, camera)
    return latent, camera


def generate(
    model: TripoSplatModel,
    request: GenerationRequest,
    source: SourceImages,
    directory: Path,
    progress: Progress,
) -> Path:
    """The asset folder of the object in an image.

    View 0 is the camera that took the image; the image itself is kept in the asset.

    Raises:
        DioramaError: E_IMAGE about the image; those of `write_asset`.
    """
    settings = model.settings
    pixels = Image.fromarray(np.rint(source.objects["front"] * 255).astype(np.uint8))
    image = framed(pixels, settings.size_px, settings.erosion_px)
    gaussians, token = image_to_gaussians(model, image, request, progress)
    camera = camera_of(token)
    if not camera.usual:
        progress.log(
            "warning",
            "The model did not understand from where the image was taken; a usual camera is taken in its "
            f"place, {USUAL_CAMERA.elevation_deg:g}° above the object. Its front may face another way.",
        )
        camera = USUAL_CAMERA
    cloud = turned_cloud(gaussians, -camera.azimuth)

    progress.stage("Rendering the views")
    cameras = orbit(
        request.views or settings.num_views,
        camera.elevation_deg if request.elevation_deg is None else request.elevation_deg,
        camera.radius if request.radius is None else request.radius,
    )
    splats, views = SplatParameters.of(cloud), []
    for i, one in enumerate(cameras):
        views.append(
            render_rgba(splats, one[None], camera.fov_deg, settings.view_px, settings.view_px, "display")
        )
        progress.step(i + 1, len(cameras))
    images = torch.cat(views)  # [V, 4, H, W]
    mesh = None
    if request.mesh:
        mesh = glb_from_gaussians(cloud, images, cameras, camera.fov_deg, "display", progress)

    progress.stage("Writing the asset")
    return write_asset(
        directory,
        request=request.to_dict(),
        model=request.model,
        clouds=[cloud],
        views=images.movedim(1, -1)[:, None].numpy(),
        cameras=cameras.numpy(),
        fov_deg=camera.fov_deg,
        blending="display",
        timings=progress.timings,
        mesh=mesh,
        sources={**source.kept, "object": np.asarray(image, np.float32) / 255},
    )


def image_to_gaussians(
    model: TripoSplatModel, image: Image.Image, request: GenerationRequest, progress: Progress
) -> tuple[Gaussians, Tensor]:  # of one object, on the CPU; [5]
    """Gaussians of the object in a framed image, and the token of the image's camera."""
    settings, flow, device = model.settings, model.flow, model.plan.device
    seen = on_black(image).to(device)
    normal = partial(torch.randn, generator=generator_for(request.seed, "triposplat"))
    detail_noise = normal(model.detail_encoder.noise_shape(settings.size_px))
    latent = normal((1, flow.config.latent_tokens, flow.config.latent_channels)).to(device)
    camera = normal((1, 1, 5)).to(device)

    progress.stage("Looking at the image")
    appearance = appearance_tokens(model.appearance_encoder, seen)
    detail = detail_tokens(model.detail_encoder, seen, detail_noise, appearance.shape[1])
    progress.raise_if_cancelled()
    conditional = flow.encode_context(appearance, detail)
    absent = flow.encode_context(torch.zeros_like(appearance[:, :1]), torch.zeros_like(detail[:, :1]))
    unconditional = Context(absent.tokens, copies=appearance.shape[1])

    progress.stage("Generating the object")
    steps = request.steps or settings.steps_of(request.preset, request.fast)
    guidance = settings.guidance if request.guidance is None else request.guidance
    shift = settings.shift if request.shift is None else request.shift
    latent, camera = denoise(
        flow, latent, camera, conditional, unconditional, steps, guidance, shift,
        lambda i, *_: progress.step(i, steps), progress.raise_if_cancelled,
    )  # fmt: skip

    progress.stage("Making the splats")

    def child_logits(centres: Tensor, resolution: int) -> Tensor:
        progress.raise_if_cancelled()
        level = torch.tensor([resolution], device=device)
        return model.decoder.child_logits(centres[None].to(device), level, latent)[0]

    count = (request.gaussians or settings.gaussians) // model.decoder.config.gaussians_per_point
    uniform = partial(torch.rand, generator=generator_for(request.seed, "octree"))
    points = sample_points(child_logits, count, uniform)[None].to(device)
    gaussians = model.decoder.gaussians(model.decoder.features(points, latent), points)
    return Gaussians(*(field.cpu() for field in gaussians)), camera[0, 0].cpu()


def turned_cloud(gaussians: Gaussians, angle: float) -> GaussianCloud:
    """One object's Gaussians turned about Z; their colours are the same from all sides."""
    turn = torch.tensor([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])
    means, opacities, scales, quats, rgb = (field[0] for field in gaussians)
    return GaussianCloud(
        means=rotate(turn, means).numpy(),
        quats=multiply(turn, quats).numpy(),
        scales=scales.numpy(),
        opacities=opacities.numpy(),
        sh=((rgb - 0.5) / SH_C0)[:, None].numpy(),
    )
