"""Previews: now and then, images of the unfinished result, as long as they take little time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from ..shared.asset import contact_sheet, write_png
from ..shared.output_folder import partial_folder
from ..shared.progress import Progress

PREVIEWS = 4  # of the unfinished result, over all steps

SHARE = 0.1  # of the time until then, that previews of all views may take

# Called with the steps done, their total, the number of views, and what makes images [N, F, 3, H, W] of the
# first N of them as they are by then.
Show = Callable[[int, int, int, Callable[[int], Tensor]], None]
# The same, with the estimate of the clean latents [1, V, F, C, h, w].
ShowLatents = Callable[[int, int, Tensor], None]


@contextmanager
def previews(directory: Path, progress: Progress) -> Iterator[Show]:
    """Gives what writes previews beside the asset and reports them; afterwards none is left.

    The first shows the front alone, later ones all views, unless that takes more than a share of the time:
    on a plain CPU, decoding the views of a large model takes as long as denoising them by a step.
    """
    begun, spent_s, view_s = time.monotonic(), 0.0, math.inf

    def show(i: int, steps: int, views: int, images: Callable[[int], Tensor]) -> None:
        nonlocal spent_s, view_s
        if i == steps or i not in {round(k * steps / (PREVIEWS + 1)) for k in range(1, PREVIEWS + 1)}:
            return
        asked = time.monotonic()
        shown = views if spent_s + views * view_s <= SHARE * (asked - begun) else 1
        write_png(aside / "preview.png", contact_sheet(channels_last(images(shown))))
        took_s = time.monotonic() - asked
        spent_s, view_s = spent_s + took_s, took_s / shown
        progress.preview(aside / "preview.png", shown)

    directory.mkdir(parents=True, exist_ok=True)
    with partial_folder(directory) as aside:
        yield show


def channels_last(images: Tensor) -> np.ndarray:  # [V, F, C, H, W] -> [V, F, H, W, C]
    """Images as numpy and the asset's files have them."""
    return images.movedim(-3, -1).cpu().numpy()
