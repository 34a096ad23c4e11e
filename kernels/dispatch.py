"""The one way to draw splats: gsplat's `rasterization`, on whichever engine this computer has."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from .spherical_harmonics import MAX_DEGREE, view_dependent_colors
from .stages import TILE, Camera

Backend = Literal["auto", "numba", "warp", "gsplat", "torch"]
RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]
CameraModel = Literal["pinhole", "ortho"]


def rasterization(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4] wxyz, any length
    scales: Tensor,  # [..., N, 3] standard deviations
    opacities: Tensor,  # [..., N]
    colors: Tensor,  # [..., (C,) N, D], or [..., (C,) N, K, 3] with sh_degree
    viewmats: Tensor,  # [..., C, 4, 4] world to camera, OpenCV: +x right, +y down, +z forward
    Ks: Tensor,  # [..., C, 3, 3] pixels
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    tile_size: int = TILE,
    backgrounds: Tensor | None = None,  # [..., C, D]
    render_mode: RenderMode = "RGB",
    absgrad: bool = False,
    rasterize_mode: RasterizeMode = "classic",
    camera_model: CameraModel = "pinhole",
    covars: Tensor | None = None,
    *,
    max_alpha: float = 0.99,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Renders Gaussians from C cameras; differentiable in everything but the intrinsics.

    Computed in float32, or in float64 if an input is, whatever autocast says.
    Names, shapes and conventions are gsplat's (https://docs.gsplat.studio), so code written for it runs here.

    Args:
        near_plane: splats nearer than this, or farther than far_plane, are not drawn.
        radius_clip: splats whose radius in pixels is not larger than this are not drawn.
        eps2d: variance in px^2 added to every splat, so that none falls between pixels.
        sh_degree: None: colors are values; 0..3: colors are spherical harmonics coefficients.
        render_mode: RGB, D (accumulated depth), ED (expected depth), RGB+D or RGB+ED.
        rasterize_mode: "antialiased" fades splats by what eps2d adds to their area.
        camera_model: "pinhole", or "ortho" with focal lengths in pixels per unit of the world.
        max_alpha: largest alpha of one splat in one pixel: 0.99 in the 3DGS paper, 0.999 in gsplat 1.5.
        backend: "numba" (CPU); "warp" or, where it is already compiled, "gsplat" (CUDA; with its own
            max_alpha); "torch" (the reference: any device, also float64); or "auto", the fastest of these.

    Returns:
        colors [..., C, H, W, X], alphas [..., C, H, W, 1] and gsplat's dictionary of intermediate results,
        in which means2d [..., C, N, 2] is part of the graph.

    Raises:
        ValueError: shapes do not fit together, or an input holds NaN or infinity.
        NotImplementedError: an option of gsplat that Diorama has no use for.
    """
    _require_supported(packed, tile_size, absgrad, camera_model, covars)
    _require_one_of("render_mode", render_mode, get_args(RenderMode))
    _require_one_of("rasterize_mode", rasterize_mode, get_args(RasterizeMode))
    inputs = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "viewmats": viewmats, "Ks": Ks,
    }  # fmt: skip
    if backgrounds is not None:
        inputs["backgrounds"] = backgrounds
    _require_shapes(inputs, sh_degree)
    if min(width, height) < 1 or not 0 < near_plane < far_plane:
        raise ValueError(
            f"rasterization: {width} x {height} pixels from {near_plane} to {far_plane}: "
            "sizes and near_plane must be positive, and far_plane beyond near_plane"
        )
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in inputs.values()), torch.float32)
    backend = _choose(backend, means.device.type, dtype)
    camera = Camera(width, height, near_plane, far_plane, radius_clip, eps2d, camera_model == "pinhole")
    inputs = {name: tensor.to(dtype) for name, tensor in inputs.items()}
    _require_finite(inputs)
    with torch.autocast(means.device.type, enabled=False):
        if backend == "gsplat":
            import gsplat

            images, alphas, meta = gsplat.rasterization(
                **inputs, width=width, height=height, near_plane=near_plane, far_plane=far_plane,
                radius_clip=radius_clip, eps2d=eps2d, sh_degree=sh_degree, packed=False,
                render_mode=render_mode, rasterize_mode=rasterize_mode, camera_model=camera_model,
            )  # fmt: skip
        else:
            antialiased = rasterize_mode == "antialiased"
            images, alphas, meta = _render(
                _engine(backend), inputs, camera, sh_degree, render_mode, antialiased, max_alpha
            )
    return images, alphas, meta | {"backend": backend}


def drawing_device(device: torch.device) -> torch.device:
    """Where splats that a network on `device` has made are drawn fastest: there, or on the CPU.

    GPUs of AMD, Intel and Apple have no engine, nor has an NVIDIA driver that is too old for Warp. Only plain
    torch would be left, so the CPU's engine is taken: splats cross over to it, and finished images back.
    """
    drawn_there = device.type == "cuda" and not torch.version.hip and (_gsplat_is_compiled() or _warp_works())
    return device if drawn_there else torch.device("cpu")


def _render(
    engine: ModuleType,
    inputs: dict[str, Tensor],  # the checked tensors of `rasterization`
    camera: Camera,
    sh_degree: int | None,
    render_mode: RenderMode,
    antialiased: bool,
    max_alpha: float,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`rasterization` with one of our own engines: what is the same for all of them."""
    batch, N, C = inputs["means"].shape[:-2], inputs["means"].shape[-2], inputs["viewmats"].shape[-3]
    B = batch.numel()
    means, quats, scales, opacities, viewmats, Ks = (
        inputs[name].reshape(B, *inputs[name].shape[len(batch) :])
        for name in ("means", "quats", "scales", "opacities", "viewmats", "Ks")
    )
    colors = inputs["colors"]
    per_camera = colors.dim() == len(batch) + (3 if sh_degree is None else 4)
    colors = colors.reshape(B, C if per_camera else 1, N, *colors.shape[len(batch) + 1 + per_camera :])

    seen = engine.project(means, quats, scales, opacities, viewmats, Ks, camera)
    # The tensor that is given out must be the one in the graph: callers want its .grad.
    means2d = seen.means2d.reshape(*batch, C, N, 2)
    seen = replace(seen, means2d=means2d.reshape(B * C, N, 2))
    weights = opacities[:, None].expand(B, C, N).reshape(B * C, N)
    if antialiased:
        weights = weights * seen.compensations
    if sh_degree is not None:
        eyes = -(viewmats[..., :3, :3].mT @ viewmats[..., :3, 3:])[..., 0]  # [B, C, 3]
        colors = view_dependent_colors(sh_degree, means[:, None] - eyes[:, :, None], colors)
    if render_mode in ("D", "ED"):
        channels = seen.depths[..., None]  # [I, N, 1]
    elif render_mode == "RGB":
        channels = colors.flatten(0, 1)  # [B or I, N, D]
    else:
        every = colors.expand(B, C, N, colors.shape[-1]).flatten(0, 1)
        channels = torch.cat([every, seen.depths[..., None]], -1)

    images, alphas, offsets, flatten_ids = engine.rasterize(seen, channels, weights, camera, max_alpha)
    alphas = alphas[..., None]
    if "backgrounds" in inputs and render_mode not in ("D", "ED"):
        behind = inputs["backgrounds"].reshape(B * C, 1, 1, -1)
        behind = torch.nn.functional.pad(behind, (0, images.shape[-1] - behind.shape[-1]))  # no depth behind
        images = images + (1 - alphas) * behind
    if render_mode in ("ED", "RGB+ED"):
        depth = images[..., -1:] / alphas.clamp_min(1e-10)
        images = torch.cat([images[..., :-1], depth], -1)

    def per_image(tensor: Tensor) -> Tensor:
        return tensor.reshape(*batch, C, *tensor.shape[1:])

    meta = {
        "means2d": means2d,
        "radii": per_image(seen.radii),
        "depths": per_image(seen.depths),
        "conics": per_image(seen.conics),
        "opacities": per_image(weights),
        "tile_width": camera.tiles_x,
        "tile_height": camera.tiles_y,
        "isect_offsets": per_image(offsets),
        "flatten_ids": flatten_ids,
        "width": camera.width,
        "height": camera.height,
        "tile_size": TILE,
        "n_cameras": C,
    }
    return per_image(images), per_image(alphas), meta


def _choose(backend: Backend, device: str, dtype: torch.dtype) -> Backend:
    """The backend that "auto" stands for, or the given one if it can take these tensors."""
    _require_one_of("backend", backend, get_args(Backend))
    single = dtype == torch.float32
    if backend == "auto":
        if device == "cpu" and single and importlib.util.find_spec("numba"):
            return "numba"
        if device == "cuda" and single and _gsplat_is_compiled():
            return "gsplat"
        if device == "cuda" and single and _warp_works():
            return "warp"
        return "torch"
    needed = {"numba": "cpu", "warp": "cuda", "gsplat": "cuda"}.get(backend, device)
    if device != needed or not (single or backend == "torch"):
        raise ValueError(
            f"rasterization: backend {backend!r} takes float32 on {needed}, not {dtype} on {device}"
        )
    if backend == "gsplat" and not _gsplat_is_compiled():
        raise ValueError("rasterization: gsplat is not installed, or not compiled; use backend 'warp'")
    return backend


@functools.cache
def _gsplat_is_compiled() -> bool:
    """Whether gsplat would work at once. It is not imported to find out: that could start its compiler."""
    spec = importlib.util.find_spec("gsplat")
    if spec is None or not spec.submodule_search_locations:
        return False
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    wheels = Path(next(iter(spec.submodule_search_locations))).glob("csrc*.[sp][oy]*")
    built = (build for ending in ("so", "pyd") for build in root.glob(f"**/gsplat_cuda/gsplat_cuda.{ending}"))
    return any(wheels) or any(built)


@functools.cache
def _warp_works() -> bool:
    """Whether Warp is installed and finds a driver that is new enough for it."""
    if importlib.util.find_spec("warp") is None:
        return False
    works: bool = _engine("warp").wp.is_cuda_available()
    if not works:
        warnings.warn(
            "Warp finds no NVIDIA driver that it can use (580 or newer); splats are drawn slowly",
            stacklevel=4,
        )
    return works


def _engine(backend: Backend) -> ModuleType:
    """The module with `project` and `rasterize` of our own backends."""
    name = {"numba": "numba.engine", "warp": "warp.engine", "torch": "reference"}[backend]
    return importlib.import_module(f".{name}", __package__)


def _require_supported(
    packed: bool, tile_size: int, absgrad: bool, camera_model: str, covars: Tensor | None
) -> None:
    given = {
        "packed=True": packed,
        f"tile_size={tile_size} (only {TILE})": tile_size != TILE,
        "absgrad=True": absgrad,
        f"camera_model={camera_model!r} (only 'pinhole' and 'ortho')": camera_model
        not in get_args(CameraModel),
        "covars (give quats and scales)": covars is not None,
    }
    for option, wanted in given.items():
        if wanted:
            raise NotImplementedError(f"rasterization: {option} is not supported")


def _require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"rasterization: {name} is {value!r}, expected one of {', '.join(choices)}")


def _require_shapes(inputs: dict[str, Tensor], sh_degree: int | None) -> None:
    means, colors, viewmats = inputs["means"], inputs["colors"], inputs["viewmats"]
    batch, N = tuple(means.shape[:-2]), means.shape[-2] if means.dim() > 1 else -1
    C = viewmats.shape[-3] if viewmats.dim() > 2 else -1
    if 0 in (*batch, C):
        raise ValueError(f"rasterization: viewmats is {list(viewmats.shape)}: there is no camera")
    endings = {
        "means": (N, 3), "quats": (N, 4), "scales": (N, 3), "opacities": (N,),
        "viewmats": (C, 4, 4), "Ks": (C, 3, 3), "backgrounds": (C, colors.shape[-1]),
    }  # fmt: skip
    for name, tensor in inputs.items():
        if name != "colors" and tuple(tensor.shape) != batch + endings[name]:
            expected = list(batch + endings[name])
            raise ValueError(f"rasterization: {name} is {list(tensor.shape)}, expected {expected}")
    if sh_degree is not None and not 0 <= sh_degree <= MAX_DEGREE:
        raise NotImplementedError(f"rasterization: sh_degree={sh_degree} is not in 0..{MAX_DEGREE}")
    value = tuple(colors.shape[-1:] if sh_degree is None else colors.shape[-2:])
    if tuple(colors.shape) not in ((*batch, N, *value), (*batch, C, N, *value)):
        raise ValueError(f"rasterization: colors is {list(colors.shape)}, expected (…, N, …) or (…, C, N, …)")
    if sh_degree is not None and (value[0] < (sh_degree + 1) ** 2 or value[1] != 3):
        needed = (sh_degree + 1) ** 2
        raise ValueError(f"rasterization: colors ends in {list(value)}, expected [{needed}, 3] or more")


def _require_finite(inputs: dict[str, Tensor]) -> None:
    for name, tensor in inputs.items():
        if not _all_finite(tensor.detach()):
            bad = f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()}"
            raise ValueError(f"rasterization: {name} holds NaN or infinity in {bad} values")


def _all_finite(tensor: Tensor) -> bool:
    if tensor.device.type == "cpu":  # numpy: torch would wake its threads, which costs more than the check
        return bool(np.isfinite(tensor.numpy()).all())
    return bool(torch.isfinite(tensor).all())
