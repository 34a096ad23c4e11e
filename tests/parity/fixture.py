"""Reads a parity fixture and rebuilds the weights it was made with.

A fixture stores inputs, outputs and parameter names, but no weights: every parameter is uniform noise seeded
with its name. Nothing is zero, so that layers which start at zero in training count too.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor


@dataclass(frozen=True)
class Fixture:
    """Reference inputs (`in.*`) and outputs of a published network, and the weights that made them."""

    name: str
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]  # by component, under the published names
    tolerance: dict[str, dict[str, float]]  # by output; "*" means all
    path: Path

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def load_fixture(path: Path) -> Fixture:
    """Raises ValueError if the weights come out differently here from where the fixture was made."""
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        texts = file.metadata()
    if "keys" not in texts:  # the weights are in the file itself, and one text says where it comes from
        stored = [name for name in tensors if name.startswith("w.")]
        weights = {name.removeprefix("w."): tensors.pop(name).float() for name in stored}
        return Fixture(path.stem, tensors, texts, {"": weights}, {}, path)
    meta = {name: json.loads(value) for name, value in texts.items()}
    weights = {}
    for component, shapes in meta["keys"].items():
        filled = fill(shapes, meta["salt"], meta["adjust"].get(component, ()))
        if _digest(filled) != meta["weights_sha256"][component]:
            raise ValueError(f"{path}: the random generator gave other weights here for {component!r}")
        weights[component] = filled
    return Fixture(meta["fixture"], tensors, meta["config"], weights, meta["tolerance"], path)


def fill(
    shapes: Mapping[str, Sequence[int]],
    salt: str,
    adjust: Sequence[tuple[str, Any, Any]] = (),
) -> dict[str, Tensor]:
    """Weights made from names; `adjust` lists (name, factor, summand), each a number or one per row."""
    weights = {name: _tensor(name, shape, salt) for name, shape in shapes.items()}
    for name, *factor_and_summand in adjust:
        row = [-1] + [1] * (weights[name].ndim - 1)
        factor, summand = (torch.tensor(x, dtype=torch.float32).reshape(row) for x in factor_and_summand)
        weights[name] = weights[name] * factor + summand
    return weights


def _tensor(name: str, shape: Sequence[int], salt: str) -> Tensor:
    # Uniform, because torch.rand in float32 gives the same bits on every machine, and torch.randn does not.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{salt}:{name}".encode()))
    noise = torch.rand(tuple(shape), generator=generator) * 2 - 1
    if len(shape) >= 2:
        return noise * math.sqrt(3.0 / math.prod(shape[1:]))  # standard deviation 1 / sqrt(fan-in)
    noise = noise * (0.1 * math.sqrt(3.0))
    return noise + 1 if name.endswith("weight") else noise


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()
