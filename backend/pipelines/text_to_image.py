"""A prompt to an image of an object, for models that need one: any text-to-image pipeline of diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.auto_pipeline import AutoPipelineForText2Image
from safetensors import SafetensorError

from ..seeds import generator_for
from ..shared import model_store
from ..shared.progress import Progress
from ..shared.protocol import DioramaError, is_out_of_memory
from .memory import ACTIVATIONS, SPARE, WORKSPACE_BYTES, Size, network_size
from .model_cache import forget
from .plan import Plan
from .planned import planned

SUFFIX = ", the whole object, in the middle of a plain light grey background"
DISTILLED_STEPS = 4  # of pipelines that say they are, as FLUX.2-klein; others have their own number
_DECODED = 1024**2 * 128  # pixels and channels of an image that is decoded


@dataclass(frozen=True)
class TextToImageWork:
    """Making one image, as far as memory is concerned."""

    networks: dict[str, Size]
    what: str = "an image of the prompt"
    less: str = ""

    def needed_bytes(self, plan: Plan) -> int:
        """The most memory of the plan's device that is needed at any time: an estimate."""
        weights = {
            "none": sum(size.weights for size in self.networks.values()),
            "model": max(size.weights for size in self.networks.values()),
            "sequential": 2 * max(size.largest for size in self.networks.values()),
        }[plan.offload]
        most = plan.dtype.itemsize * (weights + _DECODED * ACTIVATIONS["decode"])
        return round(SPARE * most) + WORKSPACE_BYTES


def folder_of(chosen: str | None) -> Path:
    """The folder of the pipeline: the one chosen, else that among the models.

    Raises:
        DioramaError: E_WEIGHTS_MISSING, saying how to get one.
    """
    folder = Path(chosen) if chosen else model_store.text_to_image_folder(model_store.models_root())
    if not model_store.is_pipeline(folder):
        raise DioramaError(
            "E_WEIGHTS_MISSING",
            f"an image must be made of the prompt, and {folder} holds no text-to-image pipeline of diffusers",
            hint="Give an image, name the folder of a pipeline, or install FLUX.2-klein-4B (Apache-2.0, "
            f"16 GB): {model_store.where_to_press('text-to-image')}.",
        )
    return folder


def image_of(prompt: str, folder: Path, seed: int, progress: Progress) -> np.ndarray:  # [H, W, 3] sRGB
    """An image of what the prompt says, before a plain background.

    Raises:
        DioramaError: E_WEIGHTS_CORRUPT if the folder cannot be read, E_OUT_OF_MEMORY, E_CANCELLED.
    """
    progress.stage("Making an image of the prompt")
    parts = [path.parent for path in folder.glob("*/config.json") if any(path.parent.glob("*.safetensors"))]
    if not parts:
        raise DioramaError("E_WEIGHTS_MISSING", f"{folder} has no weights in safetensors files")
    work = TextToImageWork({part.name: network_size(part)[0] for part in parts})
    try:
        return planned(work, lambda plan: _made(prompt, folder, seed, plan, progress), progress)
    finally:
        forget()  # hooks that move networks are parts of cycles


def _made(prompt: str, folder: Path, seed: int, plan: Plan, progress: Progress) -> np.ndarray:
    forget()  # the plan counts on its memory
    pipeline = _load(folder, plan)
    distilled = pipeline.config.get("is_distilled", False)
    steps = {"num_inference_steps": DISTILLED_STEPS} if distilled else {}

    def on_step(_pipeline: Any, i: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        progress.step(i + 1, pipeline.num_timesteps)  # raises if the job is cancelled
        return {}

    made = pipeline(
        prompt + SUFFIX,
        generator=generator_for(seed, "text to image"),
        output_type="np",
        callback_on_step_end=on_step,
        **steps,
    )
    image: np.ndarray = made.images[0]
    return image.astype(np.float32)


def _load(folder: Path, plan: Plan) -> Any:
    # Not float16 on GPUs, in which some of these networks overflow.
    dtype = torch.bfloat16 if plan.dtype == torch.float16 else plan.dtype
    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        if is_out_of_memory(error):
            raise
        message = f"{folder} is not a text-to-image pipeline that can be read"
        raise DioramaError("E_WEIGHTS_CORRUPT", message, detail=str(error)) from error
    pipeline.set_progress_bar_config(disable=True)
    if plan.offload == "model":
        pipeline.enable_model_cpu_offload(device=plan.device)
    elif plan.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=plan.device)
    else:
        pipeline.to(plan.device)
    return pipeline
