"""How alike two sets of images are: PSNR, SSIM and, where its weights are, LPIPS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torchmetrics.functional.image as metrics
from torch import Tensor, nn

from ..models.checkpoints import load_strictly, read_checkpoint

LPIPS_FILE = "vgg16-397923af.pth"  # torchvision's, or the same tensors as vgg16.safetensors
# VGG16 up to relu5_3: channels of its convolutions, "pool" between blocks, and where LPIPS looks.
_VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
_BLOCK_ENDS = (4, 9, 16, 23, 30)
_SMALLEST_PX = 32  # below this the last block of VGG16 has less than two pixels a side


def psnr(images: Tensor, targets: Tensor) -> float:  # [N, 3, H, W] each, 0..1
    """Peak signal-to-noise ratio in dB, averaged over images; infinite if they are identical."""
    value = metrics.peak_signal_noise_ratio(images, targets, data_range=1.0, dim=(1, 2, 3))
    return float(value)


def ssim(images: Tensor, targets: Tensor) -> float:  # [N, 3, H, W] each, 0..1
    """Structural similarity (Wang et al. 2004), 1 if they are identical. Images of 11 pixels or more."""
    value = metrics.structural_similarity_index_measure(images, targets, data_range=1.0)
    assert isinstance(value, Tensor)
    return float(value)


def lpips_weights(folder: Path) -> Path | None:
    """The VGG16 file in a folder, or None."""
    candidates = (folder / LPIPS_FILE, folder / "vgg16.safetensors")
    return next((path for path in candidates if path.is_file()), None)


def lpips(images: Tensor, targets: Tensor, vgg16: nn.Sequential, linear: list[Tensor]) -> float:
    """Learned perceptual distance with VGG16, averaged over images; 0 if they are identical.

    The arguments are those of `lpips_distance`.
    """
    with torch.no_grad():
        return float(lpips_distance(images, targets, vgg16, linear).mean())


def lpips_distance(
    images: Tensor,  # [N, 3, H, W] sRGB 0..1, at least 32 pixels a side
    targets: Tensor,  # [N, 3, H, W]
    vgg16: nn.Sequential,
    linear: Sequence[Tensor],
) -> Tensor:  # [N]
    """Learned perceptual distance of each image; differentiable.

    torchmetrics' own needs torchvision for the network, and that loads weights as pickles; so the network is
    here, and the learnt weights of the distance are the ones that come with torchmetrics.

    Args:
        vgg16: from `vgg16_features`.
        linear: from `lpips_linear`.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features (2018), version 0.1.
    """
    shift, scale = images.new_tensor([-0.030, -0.088, -0.188]), images.new_tensor([0.458, 0.448, 0.450])
    one, other = (((2 * x - 1) - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for x in (images, targets))
    distance = images.new_zeros(len(images))
    begin = 0
    for end, weight in zip(_BLOCK_ENDS, linear, strict=True):
        one, other = vgg16[begin:end](one), vgg16[begin:end](other)
        squared = (_unit(one) - _unit(other)).square()
        distance = distance + (squared * weight.view(-1, 1, 1)).sum(1).mean((1, 2))
        begin = end
    return distance


def vgg16_features(weights: dict[str, Tensor] | None = None) -> nn.Sequential:
    """VGG16's convolutions under torchvision's names, filled from its `features.*`; random without weights.

    Raises:
        DioramaError: E_WEIGHTS_CORRUPT if they are another network's.
    """
    layers: list[nn.Module] = []
    channels = 3
    for step in _VGG16:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
    network = nn.Sequential(*layers)
    if weights is not None:
        own = {
            name.removeprefix("features."): value
            for name, value in weights.items()
            if name.startswith("features.")
        }
        load_strictly(network, own, "the VGG16 file")
    return network.eval()


def lpips_linear() -> list[Tensor]:
    """The learnt weight of every channel, block by block, from the torchmetrics package."""
    from torchmetrics.functional.image import lpips as package

    weights = read_checkpoint(Path(package.__file__).parent / "lpips_models" / "vgg.pth")
    return [weights[f"lin{block}.model.1.weight"].flatten() for block in range(len(_BLOCK_ENDS))]


def too_small_for_lpips(images: Tensor) -> bool:
    """Whether VGG16 would see less than it needs."""
    return min(images.shape[-2:]) < _SMALLEST_PX


def _unit(features: Tensor) -> Tensor:  # [N, C, H, W], to length 1 over C
    return features / torch.sqrt(1e-8 + features.square().sum(1, keepdim=True))
