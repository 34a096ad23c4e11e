"""Makes an image of an object into what TripoSplat is conditioned on: framed on black, then as tokens."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from transformers import DINOv3ViTModel
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..models.flux2_encoder import Flux2Encoder
from ..shared.protocol import DioramaError

MARGIN = 1.2  # side of the square around an object, in lengths of the object
_LONGEST = 8  # sides of the result: how long the longer side of a panorama may become on the way


def framed(image: Image.Image, size_px: int, erosion_px: int) -> Image.Image:  # RGBA -> RGBA, square
    """The object of an RGBA image in the middle of a square, its matte made smaller by `erosion_px`.

    Raises:
        DioramaError: E_IMAGE if there is no object, or none is left.

    Source: TripoSplat's released inference.
    """
    shorter, longer = sorted(image.size)
    scale = min(size_px / shorter, _LONGEST * size_px / longer)
    width, height = (max(round(side * scale), 1) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    if erosion_px:
        image.putalpha(image.getchannel("A").filter(ImageFilter.MinFilter(2 * erosion_px + 1)))
    rows, columns = np.nonzero(np.asarray(image.getchannel("A")))
    if not len(rows) or max(np.ptp(rows), np.ptp(columns)) < 2:
        raise DioramaError(
            "E_IMAGE",
            "nothing can be seen in the image but a few pixels",
            "Give it an image in which the object is larger.",
        )
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    half = max(np.ptp(columns), np.ptp(rows)) / 2 * MARGIN
    corners = [int(c - half) for c in middle] + [int(c + half) for c in middle]
    return image.crop(tuple(corners)).resize((size_px, size_px), Image.Resampling.LANCZOS)  # type: ignore[arg-type]


def on_black(image: Image.Image) -> Tensor:  # RGBA -> [1, 3, H, W] sRGB 0..1
    """The image before black, mixed in sRGB values."""
    black = Image.new("RGB", image.size)
    black.paste(image, mask=image.getchannel("A"))
    return torch.from_numpy(np.array(black, np.float32) / 255).movedim(-1, 0)[None].contiguous()


def appearance_tokens(encoder: DINOv3ViTModel, images: Tensor) -> Tensor:
    """All tokens that DINOv3 makes of images [B, 3, H, W] in 0..1, normed once more: [B, L, D] float32."""
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    tokens = encoder(((images - mean) / std).to(encoder.dtype)).last_hidden_state.float()
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-5)


def detail_tokens(encoder: Flux2Encoder, images: Tensor, noise: Tensor, count: int) -> Tensor:
    """FLUX.2's tokens of images [B, 3, H, W] in 0..1, behind as many zeros as make them `count`."""
    return behind_zeros(encoder(images, noise), count)


def behind_zeros(tokens: Tensor, count: int) -> Tensor:  # [B, L, D] -> [B, count, D]
    """Tokens of patches, where DINOv3 has its class and its registers in front of these."""
    return F.pad(tokens, (0, 0, count - tokens.shape[1], 0))
