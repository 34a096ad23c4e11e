"""The file of Vivid-ZOO's alignment layers, which fit only the networks that they were trained between."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors import safe_open
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


def bases_sha256(network: MultiViewMotionUNet) -> str:
    """Fingerprint of all weights but the alignment's, the same in full precision and in float16."""
    aligning = network.alignment().keys()
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name not in aligning:
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()
