"""Previews: now and then, an image of the unfinished result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from ..shared.asset import contact_sheet, write_png
from ..shared.output_folder import partial_folder
from ..shared.progress import Progress

PREVIEWS = 4  # of the unfinished result, over all steps

# Called with the steps done, their total, and what makes images [V, F, 3, H, W] of the unfinished result.
Show = Callable[[int, int, Callable[[], Tensor]], None]
# The same, with the estimate of the clean latents [1, V, F, C, h, w].
ShowLatents = Callable[[int, int, Tensor], None]


@contextmanager
def previews(directory: Path, progress: Progress) -> Iterator[Show]:
    """Gives what writes previews beside the asset and reports them; afterwards none is left."""

    def show(i: int, steps: int, images: Callable[[], Tensor]) -> None:
        if i % max(steps // (PREVIEWS + 1), 1) == 0 and i < steps:
            write_png(aside / "preview.png", contact_sheet(channels_last(images())))
            progress.preview(aside / "preview.png")

    directory.mkdir(parents=True, exist_ok=True)
    with partial_folder(directory) as aside:
        yield show


def channels_last(images: Tensor) -> np.ndarray:  # [V, F, C, H, W] -> [V, F, H, W, C]
    """Images as numpy and the asset's files have them."""
    return images.movedim(-3, -1).cpu().numpy()
