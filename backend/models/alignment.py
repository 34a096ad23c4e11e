"""The file of Vivid-ZOO's alignment layers, which fit only the networks that they were trained between."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..shared.protocol import DioramaError
from .multiview_motion_unet import MultiViewMotionUNet

_BASES = "bases_sha256"


def save_alignment(network: MultiViewMotionUNet, path: Path) -> None:
    """Writes the alignment layers alone, and in the metadata which frozen weights they belong to."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in network.alignment().items()}
    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial, metadata={_BASES: bases_sha256(network)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def bases_named_in(path: Path) -> str | None:
    """The fingerprint of the networks that an alignment belongs to; None for any other file of weights."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(_BASES)


def check_bases(network: MultiViewMotionUNet, trained_on: str, path: Path) -> None:
    """Refuses the alignment in `path` if the network's other weights are not those it was trained between.

    Raises:
        DioramaError: E_WEIGHTS_CORRUPT.
    """
    here = bases_sha256(network)
    if trained_on != here:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{path.name} was trained on other weights ({trained_on[:12]}…) than those here ({here[:12]}…)",
            "Load the multi-view and motion networks that it was trained between, or train it on these.",
        )


def load_alignment(network: MultiViewMotionUNet, path: Path) -> None:
    """Fills the alignment layers of a network whose other weights are already in place.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if there is no such file; E_WEIGHTS_CORRUPT if it cannot be read, was
            trained on other weights, or holds other tensors. The network is unchanged then.
    """
    if not path.is_file():
        raise DioramaError("E_WEIGHTS_MISSING", f"there is no weight file {path}")
    try:
        with safe_open(path, "pt") as file:
            trained_on = (file.metadata() or {}).get(_BASES)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (OSError, SafetensorError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT", f"{path.name} is damaged or not a safetensors file", detail=str(error)
        ) from error
    if trained_on is None:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{path.name} does not say which networks it aligns",
            "Choose a file that Diorama's training of the alignment wrote.",
        )
    wanted = network.alignment()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != {name: tuple(p.shape) for name, p in wanted.items()}:
        missing, unexpected = wanted.keys() - shapes.keys(), shapes.keys() - wanted.keys()
        unfit = [name for name in wanted.keys() & shapes.keys() if shapes[name] != tuple(wanted[name].shape)]
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{path.name} does not hold this network's {len(wanted)} alignment tensors: "
            f"{len(missing)} missing, {len(unexpected)} left over, {len(unfit)} of another shape",
            "This is the alignment of another network.",
            detail="\n".join(sorted([*missing, *unexpected, *unfit])),
        )
    check_bases(network, trained_on, path)
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])


def bases_sha256(network: MultiViewMotionUNet) -> str:
    """Fingerprint of all weights but the alignment's, the same in full precision and in float16."""
    aligning = network.alignment().keys()
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name not in aligning:
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()
