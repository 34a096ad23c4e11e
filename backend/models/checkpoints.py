"""Reads weight files that others published, and fills networks with them without leaving a gap."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..shared.protocol import DioramaError

_LISTED = 12  # names of each kind in a refusal; the rest is in its detail


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a `.safetensors`, `.pth`, `.pt`, `.ckpt` or `.bin` file, by name.

    The wrappers that trainers put around a state dict are removed: a `state_dict` entry, and the `module.` in
    front of names. Pickled files are only read as tensors; anything else in them is refused, not run.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if there is no such file, E_WEIGHTS_CORRUPT if it cannot be read.
    """
    if not path.is_file():
        raise DioramaError("E_WEIGHTS_MISSING", f"there is no weight file {path}")
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            # Only the zip format of torch can be mapped into memory instead of read.
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
        SafetensorError,
        IndexError,
        struct.error,
        pickle.UnpicklingError,
    ) as e:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{path.name} is damaged, incomplete, or not a weight file",
            hint="Download the file again and compare its size with the published one.",
            detail=str(e),
        ) from e
    return _tensors(found, path)


def _tensors(found: object, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise DioramaError(
            "E_WEIGHTS_CORRUPT", f"{path.name} holds a {type(found).__name__}, not named tensors"
        )
    return {
        str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)
    }


def load_strictly(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Fills a network; every parameter must be given, fit, and nothing may be left over.

    The tensors are taken over, not copied, so that a network made on the meta device becomes real.

    Args:
        source: what the weights come from, for the refusal.

    Raises:
        DioramaError: E_WEIGHTS_CORRUPT, listing what is missing, left over, or of another shape.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - weights.keys())
    unexpected = sorted(weights.keys() - wanted.keys())
    unfit = [
        f"{name} {list(weights[name].shape)} instead of {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & weights.keys())
        if weights[name].shape != wanted[name].shape
    ]
    groups = [("missing", missing), ("left over", unexpected), ("of another shape", unfit)]
    if not any(names for _, names in groups):
        model.load_state_dict(weights, strict=True, assign=True)
        return
    kind = type(model).__name__
    raise DioramaError(
        "E_WEIGHTS_CORRUPT",
        f"{source} does not hold the weights of {kind}: "
        + "; ".join(f"{len(names)} {what}: {_shortened(names)}" for what, names in groups if names),
        hint="This is a checkpoint of another model, or of another version of it.",
        detail="\n".join(f"{what}: {name}" for what, names in groups for name in names),
    )


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f", and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
