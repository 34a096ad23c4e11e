"""Makes any image of an object into what an image-conditioned model expects: cut out, centred, square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from ..shared.model_store import where_to_press
from ..shared.protocol import DioramaError

LARGEST_PX = 4096  # a longer side is made smaller first: models see 256 to 1024 pixels
SMALLEST_PX = 16
STRAY_PART = 0.005  # of an image: fewer transparent pixels than this do not cut anything out
EDGE_SPREAD = 0.06  # a background of one colour may vary so much, as a standard deviation of sRGB
EDGE_DISTANCE = 0.12  # and what differs more than this from it is the object


Matte = Callable[[np.ndarray], np.ndarray]  # [H, W, 3] sRGB 0..1 -> [H, W], how much is object


@dataclass(frozen=True)
class SourceImages:
    """What something is made from.

    Attributes:
        objects: [H, W, 4] sRGB with straight alpha, by the side that they show; none for a prompt alone.
        kept: images for the asset, by name.
    """

    objects: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)


def read_object(path: Path, matte: Matte | None = None) -> np.ndarray:  # [H, W, 4] sRGB, straight alpha
    """Reads an image, with an alpha that leaves only the object.

    Raises:
        DioramaError: E_IMAGE, saying what is wrong with the image and what would help.
    """
    return cut_out(read_image(path), path.name, matte)


def cut_out(
    rgba: np.ndarray,  # [H, W, 4]
    name: str,
    matte: Matte | None = None,
) -> np.ndarray:  # [H, W, 4]
    """The image with an alpha that leaves only the object.

    That is what the image's alpha says; without alpha, what differs from a background of one colour.

    Args:
        matte: finds the object before any other background.

    Raises:
        DioramaError: E_IMAGE if nothing is left, or the background is not of one colour.
    """
    alpha = rgba[..., 3]
    if (alpha < 0.98).mean() < STRAY_PART:
        rgba = _without_strays(rgba)
        if has_plain_edge(rgba[..., :3]):
            alpha = _differs_from(_edge(rgba[..., :3])[1], rgba[..., :3])
        elif matte:
            alpha = matte(rgba[..., :3])
        else:
            hint = (
                "Cut the object out and save it with transparency (PNG), put it before a plain background, "
                f"or install background-removal: {where_to_press('background-removal')}."
            )
            raise _error(f"{name} has no transparency, and its background is not of one colour", hint)
    if (alpha > 0.5).sum() < SMALLEST_PX:
        raise _error(f"nothing can be seen in {name}: it is transparent or of one colour")
    return np.concatenate([rgba[..., :3], alpha[..., None]], axis=-1)


def _without_strays(rgba: np.ndarray) -> np.ndarray:  # [H, W, 4] -> [H, W, 4]
    """The image without a few transparent pixels and without a thin line around it: they get the colour of
    the background, if there is one."""
    _, color = _edge(rgba[..., :3])
    rgb = np.where(rgba[..., 3:] < 0.98, color, rgba[..., :3])
    for width in range(1, max(min(rgb.shape[:2]) // 100, 1) + 1):
        inner = rgb[width:-width, width:-width]
        _, inside = _edge(inner)
        if has_plain_edge(rgb) and has_plain_edge(inner) and np.abs(inside - color).max() > EDGE_DISTANCE:
            rgb = np.broadcast_to(inside, rgb.shape).copy()
            rgb[width:-width, width:-width] = inner
            break
    return np.concatenate([rgb, np.ones_like(rgb[..., :1])], axis=-1).astype(np.float32)


def has_plain_edge(rgb: np.ndarray) -> bool:  # [H, W, 3]
    """Whether a background of one colour surrounds whatever is in the image."""
    border, color = _edge(rgb)
    return bool(np.sqrt((np.abs(border - color).max(-1) ** 2).mean()) <= EDGE_SPREAD)


def with_background(rgb: np.ndarray, background: float) -> np.ndarray:  # [H, W, 3] -> [H, W, 3]
    """The image with a grey, sRGB 0..1, in place of the colour that surrounds the object."""
    _, color = _edge(rgb)
    change = (1 - _differs_from(color, rgb))[..., None] * (background - color)
    return np.clip(rgb + change, 0, 1).astype(np.float32)


def object_box(rgba: np.ndarray) -> tuple[slice, slice]:  # [H, W, 4]
    """The rows and the columns of an image in which its object is."""
    rows, columns = np.nonzero(rgba[..., 3] > 0.5)
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def object_shape(rgba: np.ndarray) -> tuple[int, int]:  # [H, W, 4]
    """The height and the width of an image's object, in pixels."""
    rows, columns = object_box(rgba)
    return rows.stop - rows.start, columns.stop - columns.start


def recentred(
    rgba: np.ndarray,  # [H, W, 4] sRGB, straight alpha
    size_px: int,
    object_px: int,
    longest_px: int | None = None,
) -> Tensor:  # [4, size, size]
    """The object made smaller or larger, in the middle of a transparent square.

    Args:
        size_px: side of the result.
        object_px: the longer side of the object in it (VideoMV: 200 of 256).
        longest_px: what is made as large as that; the object's own longer side if None.
    """
    part = rgba[object_box(rgba)]
    height, width = part.shape[:2]
    scale = object_px / (longest_px or max(height, width))
    shape = max(round(height * scale), 1), max(round(width * scale), 1)
    premultiplied = np.concatenate([part[..., :3] * part[..., 3:], part[..., 3:]], axis=-1)
    pixels = torch.from_numpy(premultiplied).movedim(-1, 0)[None]
    small = torch.nn.functional.interpolate(pixels, shape, mode="bicubic", antialias=True)[0].clamp(0, 1)
    square = torch.zeros(4, size_px, size_px)
    top, left = (size_px - shape[0]) // 2, (size_px - shape[1]) // 2
    square[:3, top : top + shape[0], left : left + shape[1]] = small[:3] / small[3:].clamp_min(1 / 255)
    square[3, top : top + shape[0], left : left + shape[1]] = small[3]
    return square.clamp(0, 1)


def read_image(path: Path) -> np.ndarray:  # [H, W, 4] sRGB 0..1
    """Reads an image of any kind, turned as its camera noted, and not larger than models can use.

    Raises:
        DioramaError: E_IMAGE if it cannot be read, or is too small.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for for ever
        raise _error(f"{path} is no file", "Choose an image file.")
    try:
        with Image.open(path) as image:
            width, height = image.size
            if min(width, height) < SMALLEST_PX:
                raise _error(f"{path.name} has {width} × {height} pixels; at least {SMALLEST_PX} are needed")
            image.draft("RGB", (LARGEST_PX, LARGEST_PX))  # JPEGs are decoded small at once
            image.thumbnail((LARGEST_PX, LARGEST_PX))
            upright = ImageOps.exif_transpose(image)  # a camera that was held upright only notes that
            if upright.mode[0] in "IF":  # deep greys, which Pillow would cut off at 255
                upright = _eight_bits(upright, path.name, image.format == "PPM")
            return np.asarray(upright.convert("RGBA"), np.float32) / 255
    except FileNotFoundError as error:
        raise _error(f"there is no image {path}", "Choose a file that exists.") from error
    except Image.DecompressionBombError as error:
        raise _error(f"{path.name} is larger than can be opened here") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _error(f"{path.name} is damaged or not an image: {error}") from error


def _eight_bits(grey: Image.Image, name: str, is_16_bit: bool) -> Image.Image:
    """Greys of 16 or 32 bits or of floating point numbers as light as they are, in 8 bits.

    Formats with modes I and F do not say how light white is: it is the least of 1 (of floating point
    numbers), 255, 65535 and 2^31 - 1 that no pixel is beyond, but for highlights up to 16 times as light as
    1.
    """
    values = np.asarray(grey, np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise _error(f"{name} holds greys that are negative or not finite")
    if grey.mode == "F" and values.max() <= 16:
        values = np.minimum(values, 1)
    whites = (1, 2**8 - 1, 2**16 - 1, 2**31 - 1)[0 if grey.mode == "F" else 1 :]
    if grey.mode.startswith("I;16") or is_16_bit:
        whites = (2**16 - 1,)
    white = next((white for white in whites if values.max() <= white), None)
    if white is None:
        raise _error(f"{name} holds greys up to {values.max():g}; at most {whites[-1]} is read")
    return Image.fromarray(np.rint(values / white * 255).astype(np.uint8))


def _edge(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [H, W, 3] -> [N, 3], [3]
    """The pixels along an image's edge, and their usual colour."""
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    return border, np.median(border, axis=0)


def _differs_from(color: np.ndarray, rgb: np.ndarray) -> np.ndarray:  # [3], [H, W, 3] -> [H, W]
    """Alpha of what is not background, for a background of one colour that surrounds the object."""
    distance = np.abs(rgb - color).max(-1)
    outside, _ = ndimage.label(distance < EDGE_DISTANCE)
    touching = np.unique(np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]]))
    background = np.isin(outside, touching[touching > 0])  # what has the same colour inside the object stays
    soft = np.clip(distance / EDGE_DISTANCE, 0, 1)
    return np.where(background, soft * ndimage.binary_dilation(~background, iterations=2), 1.0).astype(
        np.float32
    )


def _error(message: str, hint: str = "") -> DioramaError:
    return DioramaError("E_IMAGE", message, hint)
