"""Measures how much memory the networks need besides their weights: python -m tests.bench.activation_memory

Nothing is computed: on torch's fake tensors only sizes exist, so the published networks take seconds and no
memory. What a GPU's kernels need on top, as workspace, is not in these numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from backend.install.published import NETWORKS
from backend.models.birefnet import BiRefNet
from backend.models.lgm import LGM
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.models.videomv_unet import VideoMVImageUNet
from backend.pipelines import distill, latents
from backend.pipelines.plan import Plan

HALF = 2  # bytes of a number in half precision
LATENT_PX = 32
SIZE_PX = 256


class Peak(TorchDispatchMode):
    """The most bytes of tensors that live at once, without those that lived before."""

    def __init__(self, before: nn.Module) -> None:
        super().__init__()
        self._seen = {_key(tensor) for tensor in before.state_dict().values()}
        self.now = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _key(tensor) not in self._seen:
                storage = tensor.untyped_storage()
                self._seen.add(_key(tensor))
                self.now += storage.nbytes()
                self.bytes = max(self.bytes, self.now)
                weakref.finalize(storage, self._freed, _key(tensor), storage.nbytes())
        return result

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def only_sizes() -> Iterator[None]:
    """Tensors have sizes and nothing else, in half precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with FakeTensorMode(), torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(before)


def peak(network: nn.Module, call: Callable[[], object]) -> int:  # bytes
    """The most that one call needs besides the weights; what it returns is still held then."""
    with Peak(network) as measured:
        result = call()
    del result
    return measured.bytes


def denoising(net: Any, branches: int, views: int, frames: int = 1) -> int:  # bytes
    """Of one evaluation of a denoiser."""
    context = torch.ones(branches, 77, net.config.cross_attention_dim)
    cameras = torch.ones(branches, views, 4, 4)
    if isinstance(net, MultiViewMotionUNet):
        noisy = torch.ones(branches, views, frames, net.config.in_channels, LATENT_PX, LATENT_PX)
        seen = {}
        if net.config.mv_attention == "animate3d":
            seen = {"image_embeddings": torch.ones(branches, views, net.config.image_embedding_dim)}
        return peak(net, lambda: net(noisy, 981, context, cameras, motion=frames > 1, **seen))
    told = {}
    if isinstance(net, VideoMVImageUNet):
        told = {
            "image_latents": torch.ones(branches, 4, LATENT_PX, LATENT_PX),
            "image_embeddings": torch.ones(branches, 1, 1024),
        }
    noisy = torch.ones(branches, net.config.in_channels, views, LATENT_PX, LATENT_PX)
    return peak(net, lambda: net(noisy, 981, context, cameras, **told))


def decoding(net: AutoencoderKL, images: int) -> int:  # bytes
    """Of latents to images."""
    coded = torch.ones(images, 4, LATENT_PX, LATENT_PX)
    return peak(net, lambda: net.decode(coded).sample)


def encoding(net: AutoencoderKL, images: int) -> int:  # bytes
    """Of images to latents."""
    given = torch.ones(images, 3, SIZE_PX, SIZE_PX)
    return peak(net, lambda: net.encode(given).latent_dist.mean)


def encoding_for_gradients(net: AutoencoderKL, images: int, at_once: int) -> int:  # bytes
    """Of images to latents and of the gradient back, as a distillation has it: some images at once."""
    with torch.inference_mode(False), torch.enable_grad():
        net = type(net).from_config(net.config).eval().requires_grad_(False)  # one that can have gradients
        model = SimpleNamespace(
            plan=Plan(images_at_once=at_once), encode=lambda some: latents.encode(net, some)
        )
        given = torch.ones(images, 3, SIZE_PX, SIZE_PX, requires_grad=True)
        return peak(net, lambda: distill.encode(model, given).sum().backward())  # type: ignore[arg-type]


def reconstructing(net: LGM, samples: int, views: int) -> int:  # bytes
    """Of views to Gaussians."""
    images = torch.ones(samples, views, 9, SIZE_PX, SIZE_PX)
    return peak(net, lambda: net.gaussians(net(images)))


def matting(net: BiRefNet) -> int:  # bytes
    """Of an image to what is object in it."""
    images = torch.ones(1, 3, 1024, 1024)
    return peak(net, lambda: net(images))


def main() -> None:
    """Prints the table that `backend.pipelines.plan` holds."""
    print(f"{'network':<24}{'work':<28}{'MiB':>9}{'numbers per pixel and channel':>32}")

    def row(name: str, work: str, size: int, pixels: int, width: int) -> None:
        print(f"{name:<24}{work:<28}{size / 2**20:>9.0f}{size / (HALF * pixels * width):>32.2f}", flush=True)

    with only_sizes():
        for name, views, frames in (
            ("videomv-t2v-unet", 24, 1),
            ("videomv-i2v-unet", 24, 1),
            ("mvdream-v2-unet", 4, 1),
            ("vivid-zoo-unet", 4, 16),
            ("animate3d-unet", 4, 16),
        ):
            net = NETWORKS[name].make().eval()
            for branches in (1, 2):
                pixels = branches * views * frames * LATENT_PX**2
                work = f"{branches} x {views} views x {frames} frames"
                size = denoising(net, branches, views, frames)
                row(name, work, size, pixels, net.config.block_out_channels[0])
        net = NETWORKS["stable-diffusion-vae"].make().eval()
        for call in (decoding, encoding):
            for images in (1, 8, 48):
                width = net.config.block_out_channels[0]
                row(
                    "stable-diffusion-vae",
                    f"{call.__name__} {images}",
                    call(net, images),
                    images * SIZE_PX**2,
                    width,
                )
        for at_once in (1, 4, 8, 24):
            size = encoding_for_gradients(net, 24, at_once)
            work = f"24 for gradients, {at_once} at once"
            row("stable-diffusion-vae", work, size, at_once * SIZE_PX**2, net.config.block_out_channels[0])
        net = NETWORKS["lgm"].make().eval()
        for samples in (1, 2):
            size = reconstructing(net, samples, 4)
            row("lgm", f"{samples} x 4 views", size, samples * 4 * SIZE_PX**2, net.config.down_channels[0])
        net = NETWORKS["birefnet"].make().eval()
        row("birefnet", "an image of 1024 px", matting(net), 1024**2, 1)


if __name__ == "__main__":
    main()
