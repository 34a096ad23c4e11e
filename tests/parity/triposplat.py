"""Our outputs for TripoSplat's fixtures, which hold their weights and their configuration."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from backend.install import image_model_converters
from backend.models.birefnet import BiRefNet
from backend.models.checkpoints import load_strictly
from backend.models.flux2_encoder import patch_tokens
from backend.models.triposplat_decoder import TripoSplatDecoder, point_embedding
from backend.models.triposplat_flow import (
    Context,
    TripoSplatFlow,
    place_embedding,
    sobol_positions,
)
from backend.models.triposplat_layers import level_sinusoids, time_sinusoids
from backend.pipelines import triposplat, triposplat_image
from backend.pipelines.octree import deal, sample_points
from backend.shared.ply import SH_C0

from .fixture import Fixture, load_fixture

Outputs = dict[str, Tensor]

# Of names in the fixtures: what goes in, not comes out.
INPUTS = re.compile(
    r"(.*\.)?in[._].*|.*_in|.*noise_(latent|camera)|noise|moments|bn\..*|.*\.u0|.*\.counts|.*\.jitter|"
    r"(.*_)?rgba|probs|counts|u0_in_0_1|level_embedding_res|timestep_1000"
)
# Relative to the largest number of the reference, or absolute where this is below 1.
TOLERANCES = {
    "flow_forward": 1e-5,
    "sampler": 1e-4,
    "decoder": 1e-5,
    "resampling": 0.0,
    "constants": 1e-6,
    "dinov3": 1e-5,
    "vae_packing": 1e-6,
}


def tolerance(fixture: str, name: str, reference: Tensor) -> dict[str, float] | None:
    """What a difference may be, for the fixtures here; None for others."""
    if fixture.startswith("preprocess"):
        return {"max_abs": 1.0}  # of 255
    if name.endswith("children"):
        return {"max_abs": 0.0}
    if "angle" in name:  # up to hundreds of radians, so that rounding of what they are made from counts
        return {"max_abs": 1e-4}
    relative = next((value for kind, value in TOLERANCES.items() if fixture.startswith(kind)), None)
    if relative is None:
        return None
    camera = fixture.startswith("sampler") and "camera" in name  # small values
    return {"max_abs": (10 if camera else 1) * relative * max(reference.abs().max().item(), 1.0)}


def flow_network(weights: dict[str, Tensor], config: dict[str, Any]) -> TripoSplatFlow:
    net = TripoSplatFlow(
        latent_tokens=config["q_token_length"],
        latent_channels=config["in_channels"],
        appearance_channels=config["cond_channels"],
        detail_channels=config["cond2_channels"],
        width=config["model_channels"],
        num_heads=config["num_heads"],
        num_blocks=config["num_blocks"],
        num_refiner_blocks=config["num_refiner_blocks"],
        mlp_ratio=config["mlp_ratio"],
    )
    load_strictly(net, weights, "the fixture")
    return net.eval()


def flow_forward(fixture: Fixture) -> Outputs:
    net = flow_network(fixture.weights[""], json.loads(fixture.config["config"]))
    mid: Outputs = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: mid.setdefault(name, output)

    net.t_embedder.register_forward_hook(keep("mid.t_emb"))
    net.adaLN_modulation.register_forward_hook(keep("mid.t_mod"))
    net.noise_refiner[-1].register_forward_hook(keep("mid.after_noise_refiner"))
    net.cam_refiner.register_forward_hook(keep("mid.after_cam_refiner"))
    net.repo_layers[0].register_forward_hook(keep("angles"))
    net.blocks[0].register_forward_hook(keep("mid.after_block0"))
    context = net.encode_context(fixture["in.feature1"], fixture["in.feature2"])
    latent, camera = net(fixture["in.latent"], fixture["in.camera"], fixture["in.t1000"], context)
    angles = mid.pop("angles")
    positions = sobol_positions(latent.shape[1])[None]
    return mid | {
        "mid.pos_pe": positions,
        "mid.pos_embedding": place_embedding(positions, context.tokens.shape[-1]),
        "mid.after_context_refiner": context.tokens,
        "mid.rope0_angle_cos": angles.cos(),
        "mid.rope0_angle_sin": angles.sin(),
        "out.latent": latent,
        "out.camera": camera,
    }


def sampler(fixture: Fixture) -> Outputs:
    file = re.search(r"\S+\.safetensors", fixture.config["weights"])
    assert file is not None
    flow = load_fixture(fixture.path.with_name(file[0]))
    net = flow_network(flow.weights[""], json.loads(flow.config["config"]))
    features = flow["in.feature1"], flow["in.feature2"]
    conditional = net.encode_context(*features)
    zeros = (torch.zeros_like(feature)[:, :1] for feature in features)
    unconditional = Context(net.encode_context(*zeros).tokens, features[0].shape[1])
    outputs: Outputs = {}
    for name in fixture.tensors:
        if found := re.fullmatch(r"t_seq_(\d+)_shift([\d.]+)", name):
            outputs[name] = torch.tensor(triposplat.times(int(found[1]), float(found[2])))
    runs = (name.removesuffix(".noise_latent") for name in fixture.tensors if name.endswith(".noise_latent"))
    for run in runs:
        steps, guidance, shift = (
            float(re.search(rf"{word} ([\d.]+)", fixture.config[run])[1])  # type: ignore[index]
            for word in ("steps", "guidance", "shift")
        )
        noise = fixture[f"{run}.noise_latent"], fixture[f"{run}.noise_camera"]
        states = [noise]
        triposplat.denoise(
            net, *noise, conditional, unconditional, int(steps), guidance, shift,
            lambda _, *state, states=states: states.append(state),
        )  # fmt: skip
        latents, cameras = (torch.cat(x) for x in zip(*states, strict=True))
        outputs[f"{run}.x_latent"], outputs[f"{run}.x_camera"] = latents[:-1], cameras[:-1]
        outputs[f"{run}.out_latent"], outputs[f"{run}.out_camera"] = latents[-1:], cameras[-1:]
        outputs[f"{run}.t1000"] = 1000 * torch.tensor(triposplat.times(int(steps), shift)[:-1])
    return outputs


def decoder(fixture: Fixture) -> Outputs:
    octree, gs = (json.loads(fixture.config[part]) for part in ("octree", "gs"))
    made = gs["representation_config"]
    assert {rate for name, rate in made["lr"].items() if name != "_rotation"} == {1.0}, "not published so"
    net = TripoSplatDecoder(
        latent_channels=gs["cond_channels"],
        width=gs["model_channels"],
        num_heads=gs["num_heads"],
        octree_blocks=octree["num_blocks"],
        gaussian_blocks=gs["num_blocks"],
        mlp_ratio=gs["mlp_ratio"],
        gaussians_per_point=made["num_gaussians"],
        place_reach=made["perturbe_size"],
        place_length=made["offset_scale"],
        rotation_rate=made["lr"]["_rotation"],
        smallest_scale=made["filter_kernel_size_3d"],
        usual_scale=made["scaling_bias"],
        usual_opacity=made["opacity_bias"],
    ).eval()
    load_strictly(net, fixture.weights[""], "the fixture")
    latent = fixture["in.latent"]
    levels = sum(name.endswith(".u0") for name in fixture.tensors)
    numbers = iter([fixture[f"sample.level{i + 1}.u0"] for i in range(levels)] + [fixture["sample.jitter"]])
    outputs = {
        "octree.out_logits": net.child_logits(fixture["octree.in_points"], fixture["octree.in_res"], latent)
    }
    path_logs = torch.zeros(1)  # of the cells' probabilities, summed from the root

    def child_logits(centres: Tensor, resolution: int) -> Tensor:
        logits = net.child_logits(centres[None], torch.tensor([resolution]), latent)[0]
        level, shares = f"sample.level{resolution.bit_length() - 1}", logits.softmax(-1)
        outputs[f"{level}.parents"], outputs[f"{level}.probs"] = centres, shares
        children = deal(shares, fixture[f"{level}.counts"], fixture[f"{level}.u0"])
        outputs[f"{level}.children"] = children
        nonlocal path_logs
        path_logs = (path_logs[:, None] + shares.log())[children > 0]
        if resolution == 2**levels:
            path_logs = path_logs.repeat_interleave(children[children > 0])
        return logits

    count = int(fixture.config["num_points"])
    points = sample_points(child_logits, count, lambda *_: next(numbers), levels)[None]
    features = net.features(points, latent)
    cloud = net.gaussians(features, points)
    per_point, numbers_before = made["num_gaussians"], made["num_gaussians"] * 9
    quats = features[..., numbers_before : numbers_before + 4 * per_point].reshape(-1, 4)
    raw = made["lr"]["_rotation"] * quats + torch.tensor([1.0, 0, 0, 0])
    assert torch.allclose(torch.nn.functional.normalize(raw, dim=-1), cloud.quats[0])
    return outputs | {
        "sample.points": points,
        "sample.log_probs": path_logs[None],
        "gs.features": features,
        "gs.f_dc": ((cloud.rgb - 0.5) / SH_C0).view(-1, 1, 3),
        "gs.offset": (cloud.means + 0.5).unflatten(1, (-1, per_point)) - points[:, :, None],
        "gs.opacity": cloud.opacities.view(-1, 1),
        "gs.quat_wxyz_raw": raw,
        "gs.scale": cloud.scales[0],
        "gs.xyz_world": cloud.means[0],
    }


def resampling(fixture: Fixture) -> Outputs:
    return {"children": deal(fixture["probs"], fixture["counts"], fixture["u0_in_0_1"])}


def constants(fixture: Fixture) -> Outputs:
    width = fixture["flow_pe_1024"].shape[-1]
    net = TripoSplatDecoder(width=8, num_heads=1, octree_blocks=0, gaussian_blocks=0)
    sobol = sobol_positions(8192)
    return {
        "base_offset_scale": net.gs.base_offset_scale.detach()[None],
        "points_offset_perturbation": net.gs.points_offset_perturbation.detach(),
        "decoder_pe_1024": point_embedding(fixture["pe_in"], width),
        "flow_pe_1024": place_embedding(fixture["pe_in"], width),
        "level_embedding_256": level_sinusoids(fixture["level_embedding_res"]),
        "timestep_embedding_256": time_sinusoids(fixture["timestep_1000"]),
        "sobol_first_16": sobol[:16],
        "sobol_last": sobol[-1:],
    }


def dinov3(fixture: Fixture) -> Outputs:
    words = dict(
        re.findall(r"(hidden|heads|layers|intermediate|patch|registers) (\d+)", fixture.config["config"])
    )
    sizes = {name: int(value) for name, value in words.items()}
    net = DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=sizes["hidden"],
            num_attention_heads=sizes["heads"],
            num_hidden_layers=sizes["layers"],
            intermediate_size=sizes["intermediate"],
            patch_size=sizes["patch"],
            num_register_tokens=sizes["registers"],
            use_gated_mlp=True,
            hidden_act="silu",
            key_bias=False,
        )
    ).eval()
    weights = image_model_converters.dinov3(fixture.weights[""])
    load_strictly(net, {"embeddings.mask_token": net.embeddings.mask_token, **weights}, "the fixture")
    # The fixture's network had all its numbers rounded, those that are not weights too.
    net.rope_embeddings.inv_freq = net.rope_embeddings.inv_freq.half().float()
    tokens: Outputs = {}
    net.register_forward_hook(lambda _m, _i, out: tokens.update(last=out.last_hidden_state))
    feature = triposplat_image.appearance_tokens(net, fixture["in.image_0_1"])
    return {"out.feature1": feature, "out.last_hidden_state": tokens["last"]}


def vae_packing(fixture: Fixture) -> Outputs:
    pack = partial(
        patch_tokens, fixture["moments"], mean=fixture["bn.running_mean"], variance=fixture["bn.running_var"]
    )
    sampled = pack(fixture["noise"])
    return {
        "tokens_sampled": sampled,
        "tokens_mean": pack(torch.zeros_like(fixture["noise"])),
        "feature2": triposplat_image.behind_zeros(sampled, fixture["feature2"].shape[1]),
    }


def preprocess(fixture: Fixture) -> Outputs:
    def run(rgba: str, erosion_px: int) -> Tensor:
        image = Image.fromarray(fixture[rgba].numpy())
        framed = triposplat_image.framed(
            image, int(re.findall(r"\d+", fixture.config["canvas"])[0]), erosion_px
        )
        return (255 * triposplat_image.on_black(framed)[0]).round().movedim(0, -1)

    outputs = {}
    for name in fixture.tensors:
        if found := re.fullmatch(r"out_erode_(\d+)", name):
            outputs[name] = run("rgba", int(found[1]))
        elif name.endswith("_out"):
            outputs[name] = run(name.removesuffix("_out") + "_rgba", 1)
    return outputs


def birefnet(fixture: Fixture) -> Outputs:
    net = BiRefNet(**fixture.config)
    load_strictly(net, image_model_converters.birefnet(fixture.weights[""]), "the fixture")
    return {"out": net.eval()(fixture["in.images"]).sigmoid()}


CHECKS = {
    "birefnet": birefnet,
    "flow_forward": flow_forward,
    "sampler": sampler,
    "decoder": decoder,
    "resampling": resampling,
    "constants": constants,
    "dinov3": dinov3,
    "vae_packing": vae_packing,
    "preprocess": preprocess,
}
