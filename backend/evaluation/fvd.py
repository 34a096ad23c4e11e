"""How far generated videos are from real ones: Fréchet distance between what a network sees in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..gaussians.color import GREY
from ..shared.asset import read_asset
from ..shared.protocol import DioramaError
from ..training import objaverse
from .images import seen_in

FOLDER = "videomae"  # among the weights of measures


def video_network(folder: Path) -> Any:
    """A VideoMAE that was finetuned to name actions, whose head gives what it saw instead of a name.

    The papers use I3D, of which there are only files that carry code (TorchScript) or pickles. VideoMAE is
    the network of content-debiased FVD, which follows motion better than I3D's (Ge et al., On the Content
    Bias in Fréchet Video Distance, 2024). So values can be compared with each other if the same network was
    used, and never with those of papers that used I3D.

    Args:
        folder: as transformers keeps it: config.json, model.safetensors. For instance those of
            MCG-NJU/videomae-base-finetuned-kinetics.

    Raises:
        DioramaError: E_WEIGHTS_CORRUPT if the folder holds no such network, or not all of it.
    """
    from transformers import VideoMAEForVideoClassification

    try:
        loaded: Any = VideoMAEForVideoClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        model, report = loaded
        if report["missing_keys"] or report["mismatched_keys"]:
            raise ValueError(f"missing: {sorted(report['missing_keys'])}")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{folder} holds no complete VideoMAE for the classification of videos",
            "It needs config.json and model.safetensors of a finetuned one, such as "
            "MCG-NJU/videomae-base-finetuned-kinetics.",
            str(error),
        ) from error
    model.classifier = nn.Identity()
    return model.eval()


@torch.inference_mode()
def seen_by(network: Any, videos: Tensor) -> Tensor:  # [N, F, 3, H, W] sRGB 0..1 -> [N, D]
    """Features of videos, by a network from `video_network`.

    It knows one number of frames and one size. Frames are repeated or left out, evenly, until they are as
    many; so only videos that show a motion as fast as each other should be compared.
    """
    wanted, side = network.config.num_frames, network.config.image_size
    frames = videos.shape[1]
    chosen = [(2 * i + 1) * frames // (2 * wanted) for i in range(wanted)]
    mean, std = (videos.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    found = []
    for video in videos:  # one after the other: each is a thousand tokens and more
        large = F.interpolate(video[chosen], (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        found.append(network(pixel_values=((large - mean) / std)[None]).logits)
    return torch.cat(found)


def frechet_distance(generated: Tensor, real: Tensor) -> float:  # [N, D], [M, D]
    """Distance of the two normal distributions with these features' means and covariances; 0 if equal.

    Raises:
        ValueError: there are fewer than two videos on a side, which have no covariance.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017), equation 6; Unterthiner et
    al., Towards Accurate Generative Models of Video (2018), for videos.
    """
    if min(len(generated), len(real)) < 2:
        raise ValueError(f"{len(generated)} generated and {len(real)} real videos; each must be two or more")
    given = nn.Identity()
    given.num_features = generated.shape[1]  # type: ignore[assignment]
    metric = FrechetInceptionDistance(feature=given)
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return max(float(metric.compute()), 0.0)  # rounding can leave less than nothing


def caveat(generated: Tensor, real: Tensor) -> str:
    """A caveat about the distance between few videos; empty for many."""
    count, features = min(len(generated), len(real)), generated.shape[1]
    if count > features:
        return ""
    return f"{count} videos for {features} features: too high; compare equal numbers of videos only"


def videos_in(folder: Path, size_px: int) -> Iterator[Tensor]:  # of [V, F, 3, H, W]
    """The videos under a folder: of assets that move, or of what render_dataset.py made of what moves.

    All stand before the grey that models of views know.

    Args:
        size_px: side of the latter in memory.

    Raises:
        DioramaError: E_DATA if nothing there moves, E_ASSET for a damaged asset.
    """
    assets = [read_asset(path.parent) for path in sorted(folder.rglob("asset.json"))]
    moving = [asset for asset in assets if len(asset.views[0]) > 1]
    if moving:
        yield from (seen_in(asset).views for asset in moving)
        return
    try:
        found = objaverse.scan(folder, "clip", views=None)
    except DioramaError as error:
        raise DioramaError(
            "E_DATA",
            f"{folder} holds no videos to compare with",
            "Name a folder with assets that move, or with what render_dataset.py --mode vividzoo has made.",
            error.detail,
        ) from error
    yield from (objaverse.load(item, size_px).over(GREY) for item in found.objects)
