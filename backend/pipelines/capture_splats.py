"""From a capture, images with known cameras, to an asset folder of splats: no model is needed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..gaussians import capture as captures
from ..gaussians.beginning import extent, first_cloud
from ..gaussians.capture import Capture, View
from ..gaussians.capture_fit import fit_views, measure
from ..seeds import generator_for
from ..shared.asset import FPS, write_asset
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.reconstruction import ReconstructionRequest
from ..shared.sequence_file import Blending

MOST_VIEWS = 24  # that an asset keeps of a capture
BEGINNING = 0.3  # of the splats that are asked for
FOLLOWING = 0.2  # of the steps of the first frame, for each later one


def reconstruct(request: ReconstructionRequest, directory: Path, progress: Progress) -> Path:
    """Fits splats to every frame of a capture, each beginning where the one before it ended.

    Raises:
        DioramaError: E_CAPTURE naming what is wrong; E_CANCELLED within a step of being asked.
    """
    # 1. The capture, in a world of its own size.
    progress.stage("Reading the images")
    whole = captures.read_capture(Path(request.capture), request.resolution)
    center, radius = extent(whole)
    unit = captures.moved(whole, center, 1 / radius)
    blending: Blending = "linear" if whole.has_alpha else "display"  # of renders; photos are as viewers show

    # 2. Splats, frame after frame.
    generator = generator_for(request.seed, "capture")
    start = max(1, min(request.splats, max(1000, round(BEGINNING * request.splats))))
    cloud = first_cloud(unit, start, request.sh_degree, generator)
    clouds, figures = [], []
    for frame, views in enumerate(unit.frames):
        steps = request.iterations if frame == 0 else max(1, round(FOLLOWING * request.iterations))
        moving = len(unit.frames) > 1
        progress.stage(f"Fitting frame {frame + 1} of {len(unit.frames)}" if moving else "Fitting the splats")
        done = 0

        def step_done(steps: int = steps) -> None:
            nonlocal done
            done += 1
            progress.step(done, steps)

        count = request.splats if frame == 0 else len(cloud)
        cloud = fit_views(cloud, views, steps, count, blending, whole.has_alpha, generator, step_done)
        clouds.append(_placed(cloud, center.numpy(), radius))
        figures.append(measure(cloud, unit.held_out[frame] or views, blending))
    worst = min(figures, key=lambda each: each["psnr"])
    held_out = len(unit.held_out[0])
    kind = f"{held_out} held-out views" if held_out else "the views themselves, too few to hold any out"
    progress.log(
        "info",
        f"{len(clouds[0]):,} splats: {worst['psnr']} dB, {worst['object_psnr']} dB of the object, on {kind}",
    )

    # 3. The asset folder.
    progress.stage("Writing the asset")
    kept, fov_deg = _kept_views(whole)
    return write_asset(
        directory,
        request=request.to_dict(),
        model=request.model,
        clouds=clouds,
        views=np.stack([[_pixels(view) for view in seen] for seen in kept]),
        cameras=np.stack([seen[0].camera.double().numpy() for seen in kept]),
        fov_deg=fov_deg,
        blending=blending,
        timings=progress.timings,
        front="-Y",
        fps=whole.fps or FPS,
        figures={**worst, "held_out": held_out},
    )


def _placed(cloud: GaussianCloud, center: np.ndarray, radius: float) -> GaussianCloud:
    """Back from the unit ball to where the capture was taken."""
    means = (cloud.means.astype(np.float64) * radius + center).astype(np.float32)
    return replace(cloud, means=means, scales=cloud.scales * np.float32(radius))


def _kept_views(capture: Capture) -> tuple[list[list[View]], float]:
    """Some of the views [V][F], all seen through one lens, and its horizontal field of view in degrees."""
    frames = capture.frames
    count = len(frames[0])
    cameras = [[view.camera for view in seen] for seen in frames]
    if not all(
        len(seen) == count and torch.equal(torch.stack(seen), torch.stack(cameras[0])) for seen in cameras
    ):
        frames = frames[:1]  # an asset's cameras stand still
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_VIEWS)).round().astype(int))
    first = capture.frames[0][0]
    height, width = first.size_px
    focal = float(first.K[0, 0])
    fov_deg = math.degrees(2 * math.atan(width / (2 * focal)))
    lens = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return [[_through(seen[i], lens, (height, width)) for seen in frames] for i in chosen], fov_deg


def _through(view: View, K: torch.Tensor, size_px: tuple[int, int]) -> View:  # [3, 3]
    """The view as another lens at its place sees it; nothing is where it saw nothing."""
    if torch.allclose(view.K, K, atol=1e-3) and view.size_px == size_px:
        return view
    height, width = size_px
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    where = torch.stack([x, y], -1)
    where = (where - K[:2, 2]) / K[[0, 1], [0, 1]] * view.K[[0, 1], [0, 1]] + view.K[:2, 2]
    grid = where / torch.tensor([view.size_px[1], view.size_px[0]]) * 2 - 1
    image = view.rgba.float().movedim(-1, 0)[None]
    found = torch.nn.functional.grid_sample(image, grid[None], align_corners=False)[0].movedim(0, -1)
    return View(found.round().clamp(0, 255).to(torch.uint8), K, view.camera)


def _pixels(view: View) -> np.ndarray:  # [H, W, 4]
    """Values from 0 to 1 in 16 bits, which hold the image's 8 exactly."""
    return (view.rgba.float() / 255).half().numpy()
