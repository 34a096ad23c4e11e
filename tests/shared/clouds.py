"""A small cloud with every kind of splat."""

from __future__ import annotations

import numpy as np

from backend.shared.ply import GaussianCloud


def make_cloud(count: int = 300, degree: int = 0, seed: int = 0) -> GaussianCloud:
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    sh = rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.2
    sh[:, 0] = rng.uniform(-1.5, 1.7, (count, 3))
    return GaussianCloud(
        means=(rng.normal(size=(count, 3)) * 0.35).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.exp(rng.normal(size=(count, 3)) * 0.6 - 3).astype(np.float32),
        opacities=rng.uniform(0.02, 1, count).astype(np.float32),
        sh=sh.astype(np.float32),
    )
