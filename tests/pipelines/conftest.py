"""Models as small as can be, with random weights: the loops are real, the images are not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from backend.install import install, published
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from backend.pipelines import schedules
from backend.pipelines.model import ViewsModel
from backend.pipelines.settings import ModelSettings
from backend.pipelines.three_d_aware import SplatRendering
from backend.pipelines.triposplat_model import TripoSplatSettings
from backend.shared.progress import Progress
from backend.training.text import make_text_encoder, make_tokenizer
from tests import tiny
from tests.install import published_models

UNET = tiny.video_unet_sizes(32)


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes in float32 alone, so that plans and numbers are the same on every machine."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


@pytest.fixture(scope="session")
def tiny_model() -> ViewsModel:
    torch.manual_seed(0)
    words = ("a", "red", "mushroom", "blue", "car")
    tokenizer = make_tokenizer(words)
    unet = VideoMVUNet(**UNET)
    torch.nn.init.normal_(unet.camera_embedding[2].weight, std=0.05)
    autoencoder = tiny.autoencoder(2, scaling_factor=1.0)
    reconstructor = tiny.reconstructor(32, 16)
    settings = ModelSettings(
        schedule=schedules.STARTER,
        num_views=8,
        size_px=32,
        elevation_deg=15.0,
        radius=1.9,
        fov_deg=39.6,
        steps=4,
        guidance=2.0,
        three_d_aware=(0.5,),
        input_views=4,
        rendering=SplatRendering(39.6, 32, 0.5, "linear"),
        words=words,
    )
    networks = (make_text_encoder(tokenizer, 32), unet, autoencoder, reconstructor)
    for network in networks:
        network.eval().requires_grad_(False)
    return ViewsModel(settings, tokenizer, *networks)


@pytest.fixture(scope="session")
def tiny_image_model(tiny_model: ViewsModel) -> ViewsModel:
    """The same, conditioned on an image."""
    torch.manual_seed(1)
    networks = VideoMVImageUNet(**UNET, image_embedding_dim=24), tiny.image_encoder(32, 24, 32)
    for network in networks:
        network.eval().requires_grad_(False)
    return dataclasses.replace(tiny_model, unet=networks[0], image_encoder=networks[1])


@pytest.fixture(scope="session")
def tiny_moving_model(tiny_model: ViewsModel) -> ViewsModel:
    """The same for objects that move, in two frames from four sides."""
    unet = tiny.moving_unet(cross_attention_dim=32, motion_max_frames=4).requires_grad_(False)
    settings = dataclasses.replace(tiny_model.settings, num_views=4, num_frames=2)
    return dataclasses.replace(tiny_model, unet=unet, settings=settings)


@pytest.fixture(scope="session")
def tiny_animating_model(tiny_image_model: ViewsModel) -> ViewsModel:
    """The same, which makes the first frame and then animates it, in two rounds."""
    unet = tiny.moving_unet(
        busy=("proj_out", "to_out_i2v", "to_v_ip"),
        std=0.1,
        cross_attention_dim=32,
        motion_max_frames=4,
        motion_norm_frames="joint",
        align=False,
        mv_attention="animate3d",
        image_embedding_dim=24,
    )
    settings = dataclasses.replace(
        tiny_image_model.settings,
        schedule=schedules.ANIMATE3D,
        num_views=4,
        num_frames=3,
        steps=2,
        rounds=2,
        three_d_aware=(),
        rendering=SplatRendering(39.6, 32, 1.0, "linear"),
        first_frame={"schedule": schedules.MVDREAM, "steps": 3, "prompt_suffix": ", blue"},
    )
    return dataclasses.replace(tiny_image_model, unet=unet.requires_grad_(False), settings=settings)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: a small TripoSplat and a small BiRefNet, installed from published files."""
    root, files = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        for name, network in published_models.NETWORKS.items():
            patch.setitem(published.NETWORKS, name, network)
        for model in ("triposplat", "background-removal"):
            progress = Progress()
            install.convert(model, root, published_models.publish(model, files), progress)
            assert any("by their checksums" in warning for warning in progress.warnings)
    small = {"size_px": 64, "view_px": 24, "num_views": 3, "steps": 2, "gaussians": 640}
    TripoSplatSettings(**small).write(root / "triposplat")
    return root
