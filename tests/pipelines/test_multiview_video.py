"""Text to multi-view video on tiny random networks: repeatable, consistent where asked, and stoppable."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend import cameras
from backend.models.lgm import LGM
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.pipelines.multiview_video import Consistency, text_to_video
from backend.pipelines.three_d_aware import SplatRendering, render
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from tests.tiny import moving_unet

VIEWS, FRAMES, SIDE, STEPS = 4, 3, 8, 3
ORBIT = cameras.orbit(VIEWS, 20.0, 2.0)


@pytest.fixture(scope="module")
def unet() -> MultiViewMotionUNet:
    return moving_unet(busy=("proj_out", ".align_"), std=0.1, motion_max_frames=8)


@pytest.fixture(scope="module")
def consistency() -> Consistency:
    """Latents that are pictures, so that what a step gives can be compared with renders."""
    torch.manual_seed(1)
    net = LGM(
        input_size=SIDE,
        down_channels=(32, 64),
        down_attention=(False, True),
        up_channels=(64,),
        up_attention=(False,),
        attention_heads=4,
    ).eval()
    return Consistency(
        after=(0.67,),  # the last of three steps
        reconstructor=net,
        input_views=range(VIEWS),
        rendering=SplatRendering(fov_deg=40.0, size_px=2 * SIDE, background=0.5, blending="display"),
        decode=lambda latents: (latents[:, :3] + 1) / 2,
        encode=lambda images: torch.cat([2 * images - 1, images[:, :1]], 1),
        frames_at_once=1,
    )


def video(unet: MultiViewMotionUNet, seed: int = 0, guidance: float = 3.0, **options: object) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, VIEWS, FRAMES, 4, SIDE, SIDE, generator=generator)
    words = torch.randn(2, 1, 5, 16, generator=torch.Generator().manual_seed(9))
    return text_to_video(unet, words[0], words[1], noise, ORBIT, STEPS, guidance, **options)


def test_the_noise_decides_the_video(unet):
    one, again, other = video(unet), video(unet), video(unet, seed=1)
    assert one.shape == (1, VIEWS, FRAMES, 4, SIDE, SIDE) and one.isfinite().all()
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 0.1


def test_guidance_one_branch_at_a_time_gives_the_same_video(unet):
    together, apart = video(unet), video(unet, one_branch_at_a_time=True)
    assert (together - apart).abs().max() < 1e-4
    assert (together - video(unet, guidance=1.0)).abs().max() > 0.01


def test_each_frame_becomes_the_views_of_one_object(unet, consistency, monkeypatch):
    reconstructed = []
    gaussians = consistency.reconstructor.gaussians
    monkeypatch.setattr(
        consistency.reconstructor,
        "gaussians",
        lambda features: reconstructed.append(gaussians(features)) or reconstructed[-1],
    )
    estimates: list[Tensor] = []
    aware = video(
        unet, guidance=1.0, consistency=consistency, on_estimate=lambda step, x0: estimates.append(x0)
    )
    assert len(estimates) == STEPS and len(reconstructed) == 2 * FRAMES  # both branches of the guidance
    places = cameras.reconstruction_cameras(ORBIT)
    for frame, cloud in enumerate(reconstructed[FRAMES:]):
        views, _ = render(cloud, places, consistency.rendering)
        shown = consistency.decode(estimates[-1][0, :, frame])
        assert (shown - views[0, :, :, ::2, ::2]).abs().max() < 1e-4
        assert views.std() > 0.01
    assert (aware - video(unet, guidance=1.0)).abs().max() > 0.1


def test_how_many_frames_are_refined_at_once_changes_nothing(unet, consistency):
    fields = vars(consistency) | {"frames_at_once": 4}
    one, four = (video(unet, consistency=some) for some in (consistency, Consistency(**fields)))
    assert (one - four).abs().max() < 1e-3


@pytest.mark.parametrize("apart", [False, True])
def test_cancel_is_obeyed_within_one_evaluation_of_the_network(unet, apart):
    events, evaluations = [], []
    progress = Progress(lambda event, fields: events.append((event, fields.get("step"))))

    def after(*_: object) -> None:
        evaluations.append(1)
        progress.cancel()

    handle = unet.register_forward_hook(after)
    try:
        with pytest.raises(DioramaError) as caught:
            video(unet, progress=progress, one_branch_at_a_time=apart)
    finally:
        handle.remove()
    assert caught.value.code == "E_CANCELLED"
    assert len(evaluations) == 1 and ("progress", 1) not in events


def test_every_step_is_reported(unet):
    steps = []
    video(unet, progress=Progress(lambda event, fields: steps.append(fields.get("step"))))
    assert steps == [None, 1, 2, 3]


def test_untrained_alignment_is_said(unet):
    progress = Progress()
    video(unet, progress=progress)
    assert not progress.warnings
    kept = {name: p.detach().clone() for name, p in unet.alignment().items()}
    with torch.no_grad():
        for parameter in unet.alignment().values():
            parameter.zero_()
    video(unet, progress=progress)
    unet.load_state_dict(kept, strict=False)
    assert len(progress.warnings) == 1 and "alignment" in progress.warnings[0]


def test_sizes_that_the_network_cannot_make_are_refused_in_words(unet):
    words, noise = torch.zeros(1, 5, 16), torch.zeros(1, VIEWS, 9, 4, SIDE, SIDE)
    with pytest.raises(DioramaError, match="9 frames; this model's motion has at most 8"):
        text_to_video(unet, words, words, noise, ORBIT)
    with pytest.raises(DioramaError, match="3 cameras for 4 views"):
        text_to_video(unet, words, words, noise[:, :, :2], ORBIT[:3])
