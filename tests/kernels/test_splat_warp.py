"""The kernels for graphics cards, tested without one: run on the processor, compiled for every card."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
import warp as wp

from kernels import rasterization
from kernels.numba import engine as numba_engine
from kernels.stages import Camera
from kernels.warp import engine as warp_engine
from kernels.warp import raster
from tests.kernels.splat_scenes import as_leaves, cameras, shell

MODULES = ["kernels.warp.projection", "kernels.warp.tiling", *(raster.module_name(d) for d in (1, 3, 4))]


@pytest.fixture
def fibers():
    before, wp.config.enable_cpu_blocks = wp.config.enable_cpu_blocks, True
    yield
    wp.config.enable_cpu_blocks = before


def everything(engine, splats: int, channels: int, antialiased=False, perspective=True) -> list[torch.Tensor]:
    """Image, alphas, lists and all gradients of a scene before two cameras."""
    scene, lens = as_leaves(shell(splats)), as_leaves(cameras(2, 50, 40))
    camera = Camera(50, 40, perspective=perspective)
    if not perspective:
        lens["Ks"][:, :2, :2] /= 3.2
    g = torch.Generator().manual_seed(2)
    colors = torch.rand(1, splats, channels, generator=g).requires_grad_()
    batch = {name: tensor[None] for name, tensor in (scene | lens).items() if name != "colors"}
    stage = engine.project(**batch, camera=camera)
    opacities = scene["opacities"].expand(2, -1)
    if antialiased:
        opacities = opacities * stage.compensations
    image, alphas, offsets, ids = engine.rasterize(stage, colors, opacities, camera, 0.99)
    upstream = [torch.randn(t.shape, generator=g) for t in (image, alphas, stage.depths)]
    loss = sum((t * u).sum() for t, u in zip((image, alphas, stage.depths), upstream, strict=True))
    loss.backward()
    leaves = [scene[name] for name in ("means", "quats", "scales", "opacities")] + [lens["viewmats"], colors]
    return [image, alphas, offsets, ids, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(
    ("channels", "antialiased", "perspective"), [(3, False, True), (6, True, True), (3, False, False)]
)
def test_kernels_on_fibers_equal_the_cpu_backend(fibers, channels, antialiased, perspective):
    options = (300, channels, antialiased, perspective)
    warp, numba = (everything(engine, *options) for engine in (warp_engine, numba_engine))
    for a, b in zip(warp[:2], numba[:2], strict=True):
        assert (a - b).abs().max().item() < 5e-6
    assert torch.equal(warp[2], numba[2]) and torch.equal(warp[3], numba[3])
    for a, b in zip(warp[4:], numba[4:], strict=True):
        assert ((a - b).norm() / b.norm()).item() < 1e-4


def test_nothing_to_draw_is_drawn_on_fibers(fibers):
    image, alphas, *_ = everything(warp_engine, 0, 3)
    assert (image == 0).all() and (alphas == 0).all()


def registers_and_stack(cubin: bytes) -> dict[str, dict[int, int]]:
    """What each kernel in a cubin uses: its ELF section .nv.info has a record per kernel and attribute."""
    table, (entry, count, names_at) = (
        struct.unpack_from("<Q", cubin, 40)[0],
        struct.unpack_from("<HHH", cubin, 58),
    )
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + i * entry) for i in range(count)]

    def text(section: tuple, offset: int) -> str:
        start = section[4] + offset
        return cubin[start : cubin.index(b"\0", start)].decode()

    symbols = next(section for section in sections if section[1] == 2)
    names = [
        text(sections[symbols[6]], struct.unpack_from("<I", cubin, symbols[4] + i * 24)[0])
        for i in range(symbols[5] // 24)
    ]
    found: dict[str, dict[int, int]] = {}
    for section in sections:
        if text(sections[names_at], section[0]) != ".nv.info":
            continue
        at = section[4]
        while at < section[4] + section[5]:
            form, attribute, size = struct.unpack_from("<BBH", cubin, at)
            if form == 4 and attribute in (REGISTERS, STACK):
                symbol, value = struct.unpack_from("<II", cubin, at + 4)
                found.setdefault(names[symbol], {})[attribute] = value
            at += 4 + (size if form == 4 else 0)
    return found


REGISTERS, STACK = 0x2F, 0x11


@pytest.mark.parametrize("architecture", [75, 90, 120])
def test_old_and_new_cards_get_their_code_and_the_pixel_kernels_stay_in_registers(
    architecture, tmp_path: Path
):
    for channels in (1, 3, 4):
        raster.kernels(channels)
    for module in MODULES:
        wp.compile_aot_module(module, arch=architecture, module_dir=tmp_path, use_ptx=False)
    used: dict[str, dict[int, int]] = {}
    for path in tmp_path.glob("*.cubin"):
        used |= {f"{path.stem} {name}": use for name, use in registers_and_stack(path.read_bytes()).items()}
    pixel_kernels = {
        n: use for n, use in used.items() if "raster" in n and ("forward_" in n or "adjoint_" in n)
    }
    pixel_kernels = {n: use for n, use in pixel_kernels.items() if REGISTERS in use}
    assert len({n.split()[0] for n in pixel_kernels}) == 3
    for name, use in pixel_kernels.items():
        assert use[REGISTERS] <= 64 and use[STACK] == 0, (name, use)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_a_card_draws_and_learns_as_the_cpu_does(mode):
    results = []
    for device in ("cpu", "cuda"):
        leaves = as_leaves({n: t.to(device) for n, t in (shell(20_000) | cameras(2, 300, 200)).items()})
        image, alphas, meta = rasterization(
            **leaves, width=300, height=200, render_mode="RGB+D", rasterize_mode=mode,
            backend="numba" if device == "cpu" else "warp",
        )  # fmt: skip
        assert meta["backend"] == ("numba" if device == "cpu" else "warp")
        g = torch.Generator().manual_seed(1)
        upstream = [torch.randn(t.shape, generator=g).to(device) for t in (image, alphas)]
        ((image * upstream[0]).sum() + (alphas * upstream[1]).sum()).backward()
        results.append([image, alphas, *(t.grad for t in leaves.values() if t.requires_grad)])
    cpu, cuda = ([t.cpu() for t in result] for result in results)
    assert (cpu[0] - cuda[0]).abs().flatten().quantile(0.999).item() < 1e-5 * cpu[0].max().item()
    assert (cpu[1] - cuda[1]).abs().max().item() < 1.1 / 255
    for a, b in zip(cuda[2:], cpu[2:], strict=True):
        assert ((a - b).norm() / b.norm()).item() < 1e-3


def test_backends_refuse_what_they_cannot_take():
    inputs = shell(20) | cameras(1, 16, 16)
    for backend in ("warp", "gsplat"):
        with pytest.raises(ValueError, match=f"'{backend}' takes float32 on cuda, not"):
            rasterization(**inputs, width=16, height=16, backend=backend)
    doubles = {name: tensor.double() for name, tensor in inputs.items()}
    with pytest.raises(ValueError, match="'numba' takes float32 on cpu, not"):
        rasterization(**doubles, width=16, height=16, backend="numba")
    assert rasterization(**doubles, width=16, height=16)[2]["backend"] == "torch"
    assert rasterization(**inputs, width=16, height=16)[2]["backend"] == "numba"
