"""Jobs for backends that are elsewhere: one with images, and one that is cancelled while it generates."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from backend.shared.asset import Asset
from backend.shared.request import SIDES

COLOURS = "red", "green", "blue", "yellow"


def four_discs(folder: Path) -> dict[str, str]:
    """Images of a ball's four sides, each of another colour, by the request's names."""
    paths = {}
    for (name, side), colour in zip(SIDES.items(), COLOURS, strict=True):
        image = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=colour)
        image.save(folder / f"{side}.png")
        paths[name] = str(folder / f"{side}.png")
    return paths


def shows_four_discs(made: Asset) -> bool:
    """Whether each view is of the side that was given: whether the images got there, in their order."""
    centre = made.height // 2, made.width // 2
    seen = [np.asarray(Image.open(view[0]))[centre][:3].astype(int) for view in made.views]
    expected = [ImageColor.getrgb(colour) for colour in COLOURS]
    return len(seen) == 4 and bool(np.abs(np.array(seen) - expected).max() < 8)


def cancels(cancelled: threading.Event) -> Callable[[str, dict[str, Any]], None]:
    """A listener that cancels the job at its first denoising step."""

    def listen(event: str, fields: dict[str, Any]) -> None:
        if event == "progress" and fields["stage"] == "Generating views":
            cancelled.set()

    return listen
