"""A contact sheet of assets: the generated views above, the images of their splats below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..shared.protocol import DioramaError
from .images import AssetImages, at_most

THUMBNAIL_PX, LABEL_PX = 128, 16
_MOST_COLUMNS = 12  # views of an orbit that are shown, evenly spread


def write_sheet(path: Path, assets: list[tuple[str, AssetImages]]) -> None:
    """Writes one PNG with a label, a row of views and a row of splats for each asset; first frames only.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE.
    """
    parts = [_rows(images) for _, images in assets]
    sheet = Image.new(
        "RGB", (max(part.width for part in parts), sum(LABEL_PX + part.height for part in parts))
    )
    draw = ImageDraw.Draw(sheet)
    top = 0
    for (label, _), part in zip(assets, parts, strict=True):
        # the built-in font knows Latin letters only
        draw.text((3, top + 2), label.encode("latin-1", "replace").decode("latin-1"), fill=(255, 255, 255))
        sheet.paste(part, (0, top + LABEL_PX))
        top += LABEL_PX + part.height
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise DioramaError("E_OUTPUT_UNWRITABLE", f"{path} cannot be written: {error}") from error


def _rows(shown: AssetImages) -> Image.Image:
    count = len(shown.views)
    columns = [column * count // min(count, _MOST_COLUMNS) for column in range(min(count, _MOST_COLUMNS))]
    return Image.fromarray(
        np.concatenate([_row(images[columns, 0]) for images in (shown.views, shown.renders)])
    )


def _row(images: Tensor) -> np.ndarray:  # [N, 3, H, W] -> [h, N * w, 3] uint8
    small = at_most(images, THUMBNAIL_PX)
    side_by_side = torch.cat(list(small), -1).movedim(0, -1)
    return (side_by_side.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
