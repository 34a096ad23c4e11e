"""`python -m backend evaluate ASSET …`: measures asset folders; prints a table, writes JSON and a sheet."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..models.checkpoints import read_checkpoint
from ..shared.asset import Asset, read_asset
from ..shared.protocol import DioramaError
from . import fvd, image_quality
from .clip_score import clip_score
from .consistency import self_consistency
from .flow import flow_rmse
from .images import AssetImages, images_of, with_mask
from .sheet import write_sheet
from .silhouettes import silhouette_consistency

Better = Literal["higher", "lower"]
WEIGHTS_VARIABLE = "DIORAMA_MODELS"  # the folder of all models; those of measures are in `metrics` inside
_MOST_FRAMES = 4  # of an animation are looked at for whether views agree, evenly spread


@dataclass(frozen=True)
class Measure:
    """One line of the table."""

    name: str
    value: float | None  # None if it could not be measured
    unit: str
    better: Better
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The measure as JSON has it; infinity, which JSON lacks, becomes a word."""
        value = "inf" if self.value is not None and math.isinf(self.value) else self.value
        return {"value": value, "unit": self.unit, "better": self.better, "note": self.note}


def main(argv: list[str]) -> int:
    """Measures every folder; one that cannot be read is named, and the others are measured."""
    parser = argparse.ArgumentParser(prog="python -m backend evaluate", description=__doc__)
    parser.add_argument("assets", nargs="+", type=Path, help="folders with an asset.json")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet here: views above, splats below")
    parser.add_argument(
        "--metric-weights",
        type=Path,
        help=f"folder with lpips/, clip/ and {fvd.FOLDER}/; default: metrics in ${WEIGHTS_VARIABLE}",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        help="folder with assets that move, or made by render_dataset.py, to measure FVD against",
    )
    args = parser.parse_args(argv)
    weights = args.metric_weights or default_weights()
    results: dict[str, dict[str, Measure]] = {}
    sheet: list[tuple[str, AssetImages]] = []
    failure: DioramaError | None = None
    for folder in args.assets:
        try:
            asset = read_asset(folder)
            shown = images_of(asset)
            began = time.monotonic()
            results[str(folder)] = {line.name: line for line in measure(asset, shown, weights)}
        except DioramaError as error:
            failure = failure or error
            print(f"{error.code}: {error.message}\n{error.hint}", file=sys.stderr)
            continue
        sheet.append((f"{folder.name}  {asset.model}  {asset.prompt}", shown))
        print(f"\n{folder} · {asset.model} · {asset.prompt} · seed {asset.seed}")
        print(table(list(results[str(folder)].values())))
        print(f"  measured in {time.monotonic() - began:.1f} s")
    if len(results) > 1:
        print(f"\nmean of {len(results)} assets\n{table(means(list(results.values())))}")
    together: list[Measure] = []
    try:
        together = _fvd([shown for _, shown in sheet], args.reference, weights)
    except DioramaError as error:  # what was measured before is kept
        failure = failure or error
        print(f"{error.code}: {error.message}\n{error.hint}", file=sys.stderr)
    if together:
        print(f"\nall assets together\n{table(together)}")
    if args.json:
        listed = {name: {m.name: m.to_dict() for m in lines.values()} for name, lines in results.items()}
        found = {"assets": listed, "together": {m.name: m.to_dict() for m in together}}
        _write(args.json, json.dumps(found, indent=1, allow_nan=False) + "\n")
    if args.sheet and sheet:
        write_sheet(args.sheet, sheet)
    return failure.exit_code if failure else 0


def measure(asset: Asset, shown: AssetImages, weights: Path | None) -> list[Measure]:
    """Every measure that this asset and this computer allow, and why the others are missing."""
    views, renders = shown.views.flatten(0, 1), shown.renders.flatten(0, 1)
    lines = [
        Measure("PSNR, splats to views", image_quality.psnr(renders, views), "dB", "higher"),
        _attempt("SSIM, splats to views", "", "higher", lambda: image_quality.ssim(renders, views)),
        _lpips(renders, views, weights),
        *_clip(asset, shown, weights),
    ]
    for label, images in (("views", shown.views), ("splats", shown.renders)):
        for gap in (1, 6):
            name = f"flow RMSE at gap {gap}, {label}"
            value = flow_rmse(images[:, 0], shown.masks[:, 0], gap, closed=True)
            lines.append(Measure(name, value, "", "lower", "" if value is not None else "too few views"))
    lines += [_outlines(shown), *_consistency(shown)]
    if shown.views.shape[1] > 1:
        for label, images in (("views", shown.views), ("splats", shown.renders)):
            errors = [
                flow_rmse(clip, masks, 1, closed=False)
                for clip, masks in zip(images, shown.masks, strict=True)
            ]
            mean = sum(error for error in errors if error is not None) / len(errors)
            lines.append(Measure(f"flicker, {label}", mean, "", "lower"))
    return lines


def table(lines: list[Measure]) -> str:
    """Measures for a person to read."""
    rows = []
    for line in lines:
        value = "-" if line.value is None else f"{line.value:.4g} {line.unit}".rstrip()
        note = line.note or f"{line.better} is better"
        rows.append(f"  {line.name:<34}{value:>12}  {note}")
    return "\n".join(rows)


def means(results: list[dict[str, Measure]]) -> list[Measure]:
    """Each measure averaged over the assets that have it."""
    found: dict[str, list[Measure]] = {}
    for lines in results:
        for line in lines.values():
            if line.value is not None:
                found.setdefault(line.name, []).append(line)
    return [
        Measure(
            name,
            sum(line.value or 0.0 for line in lines) / len(lines),
            lines[0].unit,
            lines[0].better,
            "" if len(lines) == len(results) else f"of {len(lines)} assets",
        )
        for name, lines in found.items()
    ]


def _attempt(name: str, unit: str, better: Better, compute: Callable[[], float]) -> Measure:
    """A measure, or the sentence of why it cannot be taken."""
    try:
        return Measure(name, compute(), unit, better)
    except ValueError as error:
        return Measure(name, None, unit, better, str(error))


def _lpips(renders: torch.Tensor, views: torch.Tensor, weights: Path | None) -> Measure:
    name = "LPIPS, splats to views"
    found = image_quality.lpips_weights(weights / "lpips") if weights else None
    if found is None:
        note = _not_installed(weights, f"lpips/{image_quality.LPIPS_FILE}")
        return Measure(name, None, "", "lower", note)
    if image_quality.too_small_for_lpips(views):
        return Measure(name, None, "", "lower", "views of less than 32 pixels")
    network = image_quality.vgg16_features(read_checkpoint(found))
    value = image_quality.lpips(renders, views, network, image_quality.lpips_linear())
    return Measure(name, value, "", "lower")


def _clip(asset: Asset, shown: AssetImages, weights: Path | None) -> list[Measure]:
    folder = installed(weights, "clip")
    lines = []
    for label, images in (("views", shown.views), ("splats", shown.renders)):
        name = f"CLIP score, {label}"
        if folder is None:
            note = _not_installed(weights, "clip/config.json and what belongs to it")
            lines.append(Measure(name, None, "", "higher", note))
        elif not asset.prompt:
            lines.append(Measure(name, None, "", "higher", "made without a prompt"))
        else:
            score = clip_score(images.flatten(0, 1), asset.prompt, folder)
            lines.append(Measure(name, score, "", "higher"))
    return lines


def _fvd(shown: list[AssetImages], reference: Path | None, weights: Path | None) -> list[Measure]:
    """The distance of all moving assets' videos, every view one of them, from those of a folder."""
    if reference is None:
        return []
    names = {"FVD (VideoMAE), views": "views", "FVD (VideoMAE), splats": "renders"}
    folder = installed(weights, fvd.FOLDER)
    if folder is None:
        note = _not_installed(weights, f"{fvd.FOLDER}/config.json and what belongs to it")
        return [Measure(name, None, "", "lower", note) for name in names]
    moving = [images for images in shown if images.views.shape[1] > 1]
    if not moving:
        return [Measure(name, None, "", "lower", "none of the assets moves") for name in names]
    network = fvd.video_network(folder)
    side = network.config.image_size
    real = torch.cat([fvd.seen_by(network, videos) for videos in fvd.videos_in(reference, side)])
    lines = []
    for name, which in names.items():
        made = torch.cat([fvd.seen_by(network, getattr(images, which)) for images in moving])
        line = _attempt(name, "", "lower", functools.partial(fvd.frechet_distance, made, real))
        lines.append(dataclasses.replace(line, note=line.note or fvd.caveat(made, real)))
    return lines


def _outlines(shown: AssetImages) -> Measure:
    """Averaged over some of the frames; without the alpha, since our assets have theirs from the splats."""
    masks = with_mask(shown.views, shown.background)[:, :, 3]
    frames = _some_frames(shown)
    found = [silhouette_consistency(masks[:, frame], shown.cameras, shown.fov_deg) for frame in frames]
    whole = [value for value in found if value is not None]
    if not whole:
        return Measure("outlines agree, views", None, "", "higher", "a view is alone, or shows no outline")
    return Measure("outlines agree, views", sum(whole) / len(whole), "", "higher")


def _some_frames(shown: AssetImages) -> list[int]:
    frames = shown.views.shape[1]
    return sorted({round(i * (frames - 1) / max(1, _MOST_FRAMES - 1)) for i in range(_MOST_FRAMES)})


def _consistency(shown: AssetImages) -> list[Measure]:
    """MVGBench's measures, averaged over some of the frames."""
    names: list[tuple[str, str, Better]]
    names = [("PSNR", "dB", "higher"), ("SSIM", "", "higher"), ("Chamfer", "", "lower")]
    try:
        found = [
            self_consistency(shown.rgba[:, frame], shown.cameras, shown.fov_deg, shown.blending)
            for frame in _some_frames(shown)
        ]
    except ValueError as error:
        return [
            Measure(f"self-consistency, {name}", None, unit, way, str(error)) for name, unit, way in names
        ]
    values = [
        [one.psnr_db for one in found], [one.ssim for one in found], [one.chamfer for one in found]
    ]  # fmt: skip
    return [
        Measure(f"self-consistency, {name}", sum(column) / len(column), unit, way)
        for (name, unit, way), column in zip(names, values, strict=True)
    ]


def default_weights() -> Path | None:
    root = os.environ.get(WEIGHTS_VARIABLE)
    return Path(root) / "metrics" if root else None


def installed(weights: Path | None, name: str) -> Path | None:
    """The folder of a network among the weights of measures, if it is there."""
    folder = weights / name if weights else None
    return folder if folder and (folder / "config.json").is_file() else None


def _not_installed(weights: Path | None, name: str) -> str:
    where = weights or Path(f"${WEIGHTS_VARIABLE}") / "metrics"
    return f"weights not installed: they go to {where / name}"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise DioramaError("E_OUTPUT_UNWRITABLE", f"{path} cannot be written: {error}") from error
