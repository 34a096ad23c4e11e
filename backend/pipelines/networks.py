"""Reads one network of a model from its folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from ..shared.protocol import DioramaError, is_out_of_memory
from .plan import Plan


def load_network(kind: Any, folder: Path, plan: Plan, dtype: torch.dtype | None = None) -> Any:
    """A network of a class that has `from_pretrained`, ready to be used, on the plan's device.

    Args:
        dtype: another than the plan's.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT, naming the folder.
    """
    transformers.utils.logging.disable_progress_bar()
    try:
        network = kind.from_pretrained(folder, local_files_only=True, torch_dtype=dtype or plan.dtype)
        if any(parameter.is_meta for parameter in network.parameters()):
            raise ValueError("the weights are of another network: not all of its own are among them")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        missing = not any(folder.glob("*.safetensors"))
        code = "E_WEIGHTS_MISSING" if missing else "E_WEIGHTS_CORRUPT"
        what = "has no weights" if missing else "cannot be read"
        raise DioramaError(code, f"{folder} {what}", detail=str(error)) from error
    if plan.device.type == "cpu" and network.dtype == torch.float32:
        _make_independent_of_threads(network)
    return network.to(plan.device if plan.offload == "none" else "cpu").eval().requires_grad_(False)


def _make_independent_of_threads(network: nn.Module) -> None:
    """Has oneDNN compute all convolutions.

    On one thread, torch would do those with a kernel of one pixel itself, which rounds otherwise: the same
    seed would give other bytes on one thread than on several. In half precision, in which networks are
    trained, that is left to torch: oneDNN has it for some processors only.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-2:] == (1, 1):
            module._conv_forward = partial(_by_onednn, module)  # type: ignore[method-assign, assignment]


def _by_onednn(module: nn.Conv2d | nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert not isinstance(module.padding, str)
    if torch.is_autocast_enabled("cpu") or {x.dtype, weight.dtype} != {torch.float32}:
        return type(module)._conv_forward(module, x, weight, bias)  # type: ignore[arg-type]
    return torch.mkldnn_convolution(
        x, weight, bias, module.padding, module.stride, module.dilation, module.groups
    )
