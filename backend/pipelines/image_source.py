"""Makes any image of an object into what an image-conditioned model expects: cut out, centred, square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from ..shared.protocol import DioramaError

LARGEST_PX = 4096  # a longer side is made smaller first: models see 256 to 1024 pixels
SMALLEST_PX = 16
STRAY_PART = 0.005  # of a picture: fewer transparent pixels than this do not cut anything out
EDGE_SPREAD = 0.06  # a background of one colour may vary so much, as a standard deviation of sRGB
EDGE_DISTANCE = 0.12  # and what differs more than this from it is the object


def read_object(path: Path, size_px: int, object_px: int) -> Tensor:  # [4, H, W] sRGB, straight alpha, 0..1
    """Reads an image and puts its object into the middle of a square.

    The object is what the image's alpha says; without alpha, what differs from a background of one colour.

    Args:
        size_px: side of the result.
        object_px: the longer side of the object in it (VideoMV: 200 of 256).

    Raises:
        DioramaError: E_IMAGE, saying what is wrong with the image and what would help.
    """
    return recentred(cut_out(_read(path), path.name), size_px, object_px)


def read_cut_out(path: Path) -> Image.Image:  # RGBA
    """Reads a picture as it is, with an alpha that leaves only the object.

    Raises:
        DioramaError: E_IMAGE, saying what is wrong with the picture and what would help.
    """
    pixels = cut_out(_read(path), path.name)
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


def cut_out(rgba: np.ndarray, name: str) -> np.ndarray:  # [H, W, 4] -> [H, W, 4]
    """The image with an alpha that leaves only the object.

    Raises:
        DioramaError: E_IMAGE if nothing is left, or the background is not of one colour.
    """
    alpha = rgba[..., 3]
    if (alpha < 0.98).mean() < STRAY_PART:
        rgba = _without_strays(rgba)
        if not has_plain_edge(rgba[..., :3]):
            hint = (
                "Cut the object out and save it with transparency (PNG), or put it before a plain background."
            )
            raise _error(f"{name} has no transparency, and its background is not of one colour", hint)
        alpha = _differs_from(_edge(rgba[..., :3])[1], rgba[..., :3])
    if (alpha > 0.5).sum() < SMALLEST_PX:
        raise _error(f"nothing can be seen in {name}: it is transparent or of one colour")
    return np.concatenate([rgba[..., :3], alpha[..., None]], axis=-1)


def _without_strays(rgba: np.ndarray) -> np.ndarray:  # [H, W, 4] -> [H, W, 4]
    """The picture without a few transparent pixels and without a thin line around it: they get the colour of
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


def recentred(rgba: np.ndarray, size_px: int, object_px: int) -> Tensor:  # [H, W, 4] -> [4, size, size]
    """The object scaled to `object_px` and moved to the middle of a transparent square."""
    rows, columns = np.nonzero(rgba[..., 3] > 0.5)
    part = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = part.shape[:2]
    scale = object_px / max(height, width)
    shape = max(round(height * scale), 1), max(round(width * scale), 1)
    premultiplied = np.concatenate([part[..., :3] * part[..., 3:], part[..., 3:]], axis=-1)
    pixels = torch.from_numpy(premultiplied).movedim(-1, 0)[None]
    small = torch.nn.functional.interpolate(pixels, shape, mode="bicubic", antialias=True)[0].clamp(0, 1)
    square = torch.zeros(4, size_px, size_px)
    top, left = (size_px - shape[0]) // 2, (size_px - shape[1]) // 2
    square[:3, top : top + shape[0], left : left + shape[1]] = small[:3] / small[3:].clamp_min(1 / 255)
    square[3, top : top + shape[0], left : left + shape[1]] = small[3]
    return square.clamp(0, 1)


def _read(path: Path) -> np.ndarray:  # [H, W, 4] sRGB 0..1
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
