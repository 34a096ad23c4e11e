"""How much memory a generation needs: from headers alone, with activations as they are counted."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.install.published import NETWORKS
from backend.install.published_settings import SETTINGS
from backend.models.videomv_unet import VideoMVUNet
from backend.pipelines import memory
from backend.pipelines.memory import choose, plans
from backend.pipelines.model import ViewsModel
from backend.pipelines.plan import CPU, Plan
from backend.pipelines.settings import read_settings
from backend.shared.catalogue import MODELS
from backend.shared.model_store import STARTER
from backend.shared.protocol import DioramaError
from tests.bench import activation_memory as measure

GPU = torch.device("cuda", 0)  # only planned for; no test needs one


def published_folder(root: Path, name: str) -> Path:
    """The folder of a published model, of which there is all but the numbers."""
    folder = root / name
    for part in MODELS[name].components:
        if part.folder == "tokenizer":
            continue
        with torch.device("meta"):
            network = NETWORKS[part.network].make().half()
        (folder / part.folder).mkdir(parents=True)
        save = getattr(network, "save_config", None) or network.config.save_pretrained
        save(folder / part.folder)
        header: dict[str, Any] = {}
        end = 0
        for key, tensor in network.state_dict().items():
            header[key] = {
                "dtype": "F16",
                "shape": list(tensor.shape),
                "data_offsets": [end, end + tensor.nbytes],
            }
            end += tensor.nbytes
        text = json.dumps(header).encode()
        (folder / part.folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (folder / "model.json").write_text(json.dumps(SETTINGS[name]))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, memory.Work]:
    """What each published model has to do."""
    root = tmp_path_factory.mktemp("models")
    folders = {name: published_folder(root, name) for name in SETTINGS}
    folders["starter"] = STARTER
    return {name: memory.work_of(folder, read_settings(folder)) for name, folder in folders.items()}


def needed_gib(work: memory.Work, device: torch.device = GPU) -> list[float]:
    return [memory.needed_bytes(work, plan) / 2**30 for plan in plans(device)]


def test_weights_are_counted_from_headers_alone(work: dict[str, memory.Work]) -> None:
    networks = work["videomv-t2v"].networks
    assert networks["unet"].weights == 1_412_895_300
    assert networks["unet"].largest == 2560 * 1280 * 9  # the convolution after the coarsest skip
    assert networks["reconstructor"].weights == 415_042_848
    assert sorted(networks) == ["autoencoder", "reconstructor", "text_encoder", "unet"]
    assert "image_encoder" in work["videomv-i2v"].networks


def test_catalogue_and_documentation_say_what_the_estimate_says(
    work: dict[str, memory.Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})  # no bfloat16, whichever CPU tests
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    for name, each in work.items():
        fastest, apart, networks_wait, layers_wait = (round(size, 1) for size in needed_gib(each))
        assert MODELS[name].memory_gib == (fastest, networks_wait)
        whole, *_, least = (round(size, 1) for size in needed_gib(each, CPU))
        without_gpu = f"{whole}" if name == "starter" else f"{least} to {whole}"
        row = f"| `{name}` | {fastest} | {apart} | {networks_wait} | {layers_wait} | {without_gpu} |"
        assert row in page


def test_leaner_plans_need_less(work: dict[str, memory.Work]) -> None:
    for name in SETTINGS:
        needed = needed_gib(work[name])
        assert needed == sorted(needed, reverse=True)
        assert needed[-1] < 0.5 * needed[0]


@pytest.mark.parametrize(
    ("network", "call", "table", "pixels", "width"),
    [
        ("videomv-t2v-unet", lambda net: measure.denoising(net, 1, 24), "VideoMVUNet", 24 * 32**2, 320),
        *(
            (
                name,
                lambda net: measure.denoising(net, 1, 4, 16),
                "MultiViewMotionUNet",
                64 * 32**2,
                320,
            )
            for name in ("vivid-zoo-unet", "animate3d-unet")
        ),
        ("stable-diffusion-vae", lambda net: measure.decoding(net, 4), "decode", 4 * 256**2, 128),
        ("stable-diffusion-vae", lambda net: measure.encoding(net, 4), "encode", 4 * 256**2, 128),
        (
            "stable-diffusion-vae",
            lambda net: measure.encoding_for_gradients(net, 8, 4),
            "encode for gradients",
            4 * 256**2,
            128,
        ),
        ("lgm", lambda net: measure.reconstructing(net, 1, 4), "LGM", 4 * 256**2, 64),
    ],
)
def test_table_of_activations_is_what_is_measured(network, call, table, pixels, width) -> None:
    with measure.only_sizes():
        size = call(NETWORKS[network].make().eval())
    assert memory.ACTIVATIONS[table] * measure.HALF * pixels * width == pytest.approx(size, rel=0.02)


@torch.inference_mode()
def test_tensors_that_have_only_sizes_are_counted_as_real_ones(tiny_model: ViewsModel) -> None:
    real = measure.denoising(tiny_model.unet, 1, 2)
    with measure.only_sizes():
        half = measure.denoising(VideoMVUNet.from_config(tiny_model.unet.config).eval(), 1, 2)
    assert real == pytest.approx(2 * half, rel=0.02)


def test_less_free_memory_means_a_leaner_plan_and_a_reason(work: dict[str, memory.Work]) -> None:
    each = work["videomv-t2v"]
    for i, (plan, needed) in enumerate(zip(plans(GPU), needed_gib(each), strict=True)):
        choice = choose(each, GPU, round(needed * 2**30) + 1)
        assert (choice.plan, choice.fits) == (plan, True)
        assert choice.leaner == (plans(GPU)[i + 1] if i < 3 else None)
    choice = choose(each, GPU, 4_500_000_000)
    assert choice.reason == (
        "24 views need about 6.7 GB at float16, 4.5 GB of the GPU's memory are free: "
        "images are encoded and decoded 4 at a time, the two halves of guidance run one after the other, "
        "idle networks are kept in main memory (4.2 GB)."
    )


def test_an_estimate_never_refuses(work: dict[str, memory.Work]) -> None:
    assert "bfloat16" in choose(work["videomv-t2v"], CPU, 1).reason
    for device in (CPU, GPU):
        choice = choose(work["videomv-t2v"], device, 1)
        assert (choice.plan, choice.leaner, choice.fits) == (plans(device)[-1], None, False)
        assert "may still be too much" in choice.reason


def test_plan_that_saves_next_to_nothing_is_left_out(work: dict[str, memory.Work]) -> None:
    choice = choose(work["mvdream-lgm"], GPU, 80 << 30)  # of four views, the branches are small
    assert choice.plan == plans(GPU)[0]
    assert choice.leaner is not None
    assert choice.leaner.offload == "model"


@pytest.mark.parametrize("few", [{"views": 4}, {"frames": 1}])
def test_less_to_make_needs_less(few: dict[str, int]) -> None:
    less, more = (
        memory.work_of(STARTER, read_settings(STARTER), **asked)
        for asked in (few, {"views": 8, "frames": 16})
    )
    for device in (CPU, GPU):
        assert memory.needed_bytes(less, plans(device)[0]) < memory.needed_bytes(more, plans(device)[0])


@pytest.fixture(scope="module")
def distilled(work: dict[str, memory.Work]) -> memory.Work:
    """24 views of VideoMV to distil from."""
    return dataclasses.replace(work["videomv-t2v"], distilled=True, three_d_aware=False)


def test_distillation_is_bounded_by_how_many_images_are_encoded_at_once(distilled: memory.Work) -> None:
    with measure.only_sizes():
        net = NETWORKS["stable-diffusion-vae"].make().eval()
        four, all_at_once = (measure.encoding_for_gradients(net, 24, count) for count in (4, 24))
    assert all_at_once > 8.9 * 2**30 > 5 * four
    fastest, *_, leanest = needed_gib(distilled)
    assert memory.needed_bytes(distilled, Plan(GPU, torch.float16)) / 2**30 > fastest + 4  # all 24 at once
    assert leanest < 3
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    assert f"24 views of VideoMV need {fastest:.1f} GiB of a GPU, or {leanest:.1f} in the leanest" in page


def test_plan_knows_what_is_distilled(work: dict[str, memory.Work], distilled: memory.Work) -> None:
    for device in (CPU, GPU):
        needed = needed_gib(distilled, device)
        assert needed == sorted(needed, reverse=True)
        assert needed[0] > needed_gib(work["videomv-t2v"], device)[0]
    enough_for_views = round(needed_gib(work["videomv-t2v"])[0] * 2**30) + 1
    assert choose(work["videomv-t2v"], GPU, enough_for_views).plan == plans(GPU)[0]
    choice = choose(distilled, GPU, enough_for_views)
    assert choice.plan != plans(GPU)[0] and choice.fits
    assert choice.reason.startswith("24 views to distil from need about")
    assert memory.work_of(STARTER, read_settings(STARTER), distilled=True).distilled


def test_half_a_header_is_named(tmp_path: Path) -> None:
    folder = published_folder(tmp_path, "mvdream-lgm")
    file = folder / "unet" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DioramaError, match="unet cannot be read") as caught:
        memory.work_of(folder, read_settings(folder))
    assert caught.value.code == "E_WEIGHTS_CORRUPT"
