"""Only the alignment learns, it learns something, and its file fits only the networks it aligns."""

from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file

from backend.cameras import orbit
from backend.models.alignment import bases_named_in, bases_sha256, check_bases, save_alignment
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.pipelines.schedules import STARTER, VIVID_ZOO
from backend.shared.protocol import DioramaError
from backend.training.multiview_motion import ALIGNMENT, MultiViewMotionObjective
from backend.training.text import make_text_encoder, make_tokenizer, tokens_of
from tests.tiny import moving_unet

VIEWS, FRAMES = 2, 3


def network(seed: int = 0, **config: object) -> MultiViewMotionUNet:
    """Its motion modules do something."""
    return moving_unet(seed=seed, busy=("proj_out",), **config)


TOKENIZER = make_tokenizer(["a", "fish", "duck"])


def objective_of(
    net: MultiViewMotionUNet, schedule=VIVID_ZOO, checkpointing: bool = False
) -> MultiViewMotionObjective:
    torch.manual_seed(1)
    return MultiViewMotionObjective(
        net, make_text_encoder(TOKENIZER, 16), schedule, ALIGNMENT, checkpointing
    ).eval()


@pytest.fixture
def given() -> dict[str, torch.Tensor]:
    """A batch of two clips."""
    generator = torch.Generator().manual_seed(2)
    shape = (2, VIEWS, FRAMES, 4, 8, 8)
    return {
        "latents": torch.randn(shape, generator=generator),
        "tokens": tokens_of(TOKENIZER, ["a fish", "a duck"]),
        "cameras": orbit(VIEWS, 20.0, 2.4).expand(2, -1, -1, -1),
        "noise": torch.randn(shape, generator=generator),
        "timesteps": torch.tensor([300, 800]),
    }


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_alignment_and_nothing_else(given, checkpointing):
    objective = objective_of(network(), checkpointing=checkpointing)
    objective(**given).backward()
    reached = {name for name, p in objective.network.named_parameters() if p.grad is not None}
    assert reached == set(objective.network.alignment()) == {n for n in reached if ".align_" in n}
    assert len(reached) == 4 * 7  # 4 tensors at each of 2 + 1 + 4 sites
    moved = {name for name in reached if objective.network.get_parameter(name).grad.abs().max() > 0}
    assert moved == reached
    assert not any(p.grad is not None for p in objective.text_encoder.parameters())


def test_few_steps_on_one_batch_lower_the_loss_and_leave_the_bases(given):
    objective = objective_of(network())
    bases = bases_sha256(objective.network)
    optimizer = torch.optim.AdamW(
        [p for p in objective.parameters() if p.requires_grad], lr=3e-3, weight_decay=0
    )
    losses = []
    for _ in range(15):
        loss = objective(**given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert bases_sha256(objective.network) == bases


def test_the_loss_is_that_of_vivid_zoo_s_schedule_and_of_cameras_at_unit_distance(given):
    net = network()
    objective = objective_of(net)
    alpha = torch.cumprod(1 - torch.linspace(0.00085, 0.012, 1000), 0)[given["timesteps"]].view(
        -1, 1, 1, 1, 1, 1
    )
    noisy = alpha.sqrt() * given["latents"] + (1 - alpha).sqrt() * given["noise"]
    cameras = given["cameras"].clone()
    cameras[..., :3, 3] /= 2.4
    with torch.no_grad():
        context = objective.text_encoder(given["tokens"]).last_hidden_state
        expected = (net(noisy, given["timesteps"], context, cameras) - given["noise"]).square().mean()
        assert objective(**given) == pytest.approx(expected.item(), rel=1e-5)


def test_a_schedule_of_v_predictions_wants_v(given):
    scheduler = DDIMScheduler(**STARTER)
    alpha = scheduler.alphas_cumprod[given["timesteps"]].view(-1, 1, 1, 1, 1, 1)
    v = alpha.sqrt() * given["noise"] - (1 - alpha).sqrt() * given["latents"]
    net = network()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)  # predicts nothing
    loss = objective_of(net, STARTER)(**given)
    assert loss.item() == pytest.approx(v.square().mean().item(), rel=1e-5)


def test_alignment_file_holds_the_alignment_and_names_its_bases(tmp_path):
    trained, path = network(), tmp_path / "a.safetensors"
    for parameter in trained.alignment().values():
        torch.nn.init.normal_(parameter)
    save_alignment(trained, path)
    kept = load_file(path)
    assert kept.keys() == trained.alignment().keys()
    assert all(torch.equal(kept[name], parameter) for name, parameter in trained.alignment().items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    named = bases_named_in(path)
    check_bases(network().half(), named, path)  # the same bases in half precision, without alignment
    with pytest.raises(DioramaError, match=r"trained on other weights .* than those here") as caught:
        check_bases(network(seed=1), named, path)
    assert caught.value.code == "E_WEIGHTS_CORRUPT"
