"""The published noise schedules, and conversions between predictions and clean latents."""

from __future__ import annotations

from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from .samplers import Scheduler

# All of them: plain DDIM, timesteps 981, 961, ... 1 of 1000 for 50 steps.
_COMMON: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_STABLE_DIFFUSION = _COMMON | {"beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "epsilon"}

# Keyword arguments of `DDIMScheduler`, by published model.
VIDEOMV_TEXT = _STABLE_DIFFUSION | {"beta_schedule": "scaled_linear"}
VIDEOMV_IMAGE = _COMMON | {
    "beta_schedule": "squaredcos_cap_v2",
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
}
# Ours: few steps reach far when the first one starts from nothing but noise, as it then does.
STARTER = VIDEOMV_IMAGE | {"timestep_spacing": "trailing"}
MVDREAM = VIDEOMV_TEXT
# AnimateDiff's betas really are linear, and Vivid-ZOO and Animate3D run everything with them.
VIVID_ZOO = _STABLE_DIFFUSION | {"beta_schedule": "linear"}
ANIMATE3D = VIVID_ZOO | {"set_alpha_to_one": True}


def x0_from_prediction(scheduler: Scheduler, prediction: Tensor, timestep: int, noisy: Tensor) -> Tensor:
    """Clean latents from a prediction (noise, v or x0, as the scheduler is configured)."""
    signal, noise = _amplitudes(scheduler, timestep)
    match scheduler.config["prediction_type"]:
        case "epsilon":
            return (noisy - noise * prediction) / signal
        case "v_prediction":
            return signal * noisy - noise * prediction
        case "sample":
            return prediction
        case other:
            raise ValueError(f"unknown prediction type {other!r}")


def prediction_from_x0(scheduler: Scheduler, x0: Tensor, timestep: int, noisy: Tensor) -> Tensor:
    """The prediction that makes `scheduler.step` continue towards the clean latents `x0`."""
    signal, noise = _amplitudes(scheduler, timestep)
    epsilon = (noisy - signal * x0) / noise
    match scheduler.config["prediction_type"]:
        case "epsilon":
            return epsilon
        case "v_prediction":
            return signal * epsilon - noise * x0
        case "sample":
            return x0
        case other:
            raise ValueError(f"unknown prediction type {other!r}")


def wanted_prediction(scheduler: DDIMScheduler, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The training target (noise or v, as the scheduler is configured) where `noise` was added to `x0`."""
    if scheduler.config["prediction_type"] == "v_prediction":
        return scheduler.get_velocity(x0, noise, timesteps)  # type: ignore[arg-type]
    return noise


def mixed_noise(
    common: Tensor,  # [..., 1, C, h, w]
    own: Tensor,  # [..., F, C, h, w]
    shared: float,
) -> Tensor:  # [..., F, C, h, w]
    """Noise of frames of which a part, as a fraction of the variance, is the same in all of them.

    Source: the mixed noise of PYoCo (arXiv 2305.10474, equation 6).
    """
    return shared**0.5 * common + (1 - shared) ** 0.5 * own


def _amplitudes(scheduler: Scheduler, timestep: int) -> tuple[float, float]:
    alpha = float(scheduler.alphas_cumprod[timestep])
    return alpha**0.5, (1 - alpha) ** 0.5
