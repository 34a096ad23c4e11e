"""Our outputs for the fixtures of VideoMV and LGM."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from scipy.spatial.transform import Rotation
from torch import Tensor

from backend import cameras
from backend.install import converters
from backend.models.lgm import LGM, Gaussians
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from backend.pipelines import schedules
from backend.pipelines.three_d_aware import (
    SplatRendering,
    reconstruction_features,
    render,
    three_d_aware_step,
)

from .fixture import Fixture

Outputs = dict[str, Tensor]


def camera_tables(fixture: Fixture) -> Outputs:
    config = fixture.config
    outputs: Outputs = {}
    for name, orbit in config["orbits"].items():
        c2w = cameras.orbit(orbit["views"], orbit["elevation"], orbit["distance"], orbit["azimuth_start"])
        poses = cameras.reconstruction_cameras(c2w)
        views = cameras.opencv_from_world(poses[orbit["raster_views"]])
        outputs[f"videomv.{name}.c2w"] = c2w
        outputs[f"videomv.{name}.lgm_pose"] = poses
        outputs[f"videomv.{name}.world_view_t"] = views.mT
        outputs[f"videomv.{name}.full_proj_t"] = (_projection(fov_deg=39.6, near=0.5, far=2.5) @ views).mT
        # Not ours: what the released script makes of our cameras, to pin down the error that we avoid.
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        first = torch.linalg.inv(c2w[0])
        first_in_poses = poses[0] @ flip
        outputs[f"videomv.{name}.lgm_pose_released_script"] = first_in_poses @ first @ c2w @ flip
    for name, orbit in config["mvdream"].items():
        # MVDream counts azimuth from -Y.
        start = orbit["azimuth_start"] - 90
        outputs[name] = cameras.orbit(orbit["num_frames"], orbit["elevation"], 1.0, start).flatten(1)
    outputs["mvdream.normalize.out"] = cameras.at_unit_distance(fixture["mvdream.normalize.in"]).flatten(1)
    for name, rays in config["rays"].items():
        pose = fixture[f"{name}.pose"]
        outputs[f"{name}.plucker"] = cameras.plucker_rays(pose, rays["fovy"], rays["size"], rays["size"])
    lgm = config["lgm_default"]
    # LGM's own cameras: Y up, view 0 on +Z, a positive elevation is below.
    y_up_from_z_up = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    poses = y_up_from_z_up @ torch.cat(
        [cameras.orbit(1, -lgm["elevation_argument"], lgm["radius"], azimuth) for azimuth in lgm["azimuths"]]
    )
    outputs["lgm_default.poses"] = poses
    outputs["lgm_default.plucker_view1"] = cameras.plucker_rays(
        poses[1], lgm["fovy"], lgm["size"], lgm["size"]
    )
    return outputs


def text_unet(fixture: Fixture) -> Outputs:
    net = VideoMVUNet(**_unet_sizes(fixture.config)).eval()
    net.load_state_dict(converters.videomv_unet(fixture.weights["unet"]))
    camera = fixture["in.camera_data"].unflatten(-1, (4, 4))
    inputs = (fixture["in.x"], fixture["in.t"], fixture["in.y"])
    return {"out": net(*inputs, camera), "out_no_camera": net(*inputs)}


def image_unet(fixture: Fixture) -> Outputs:
    net = VideoMVImageUNet(**_unet_sizes(fixture.config), image_embedding_dim=fixture.config["y_dim"]).eval()
    net.load_state_dict(converters.videomv_unet(fixture.weights["unet"]))
    camera = fixture["in.camera_data"].unflatten(-1, (4, 4))
    inputs = (fixture["in.x"], fixture["in.t"], fixture["in.y"])
    image = _image_inputs(fixture, fixture["in.image"])
    return {"out": net(*inputs, camera, **image), "out_no_camera": net(*inputs, **image)}


def lgm(fixture: Fixture) -> Outputs:
    config = fixture.config
    net = _lgm(config, converters.lgm(fixture.weights["lgm"]))
    images = fixture["in.images"][None]
    features = reconstruction_features(net, images, fixture["in.poses"], config["fovy"])
    gaussians = net.gaussians(features)
    poses, rendering = fixture["in.render_poses"], _rendering(config, config["bg"])
    shipped, _ = render(gaussians, poses, rendering)
    published, alpha = render(_with_published_rotations(gaussians, features), poses, rendering)
    views = cameras.opencv_from_world(fixture["in.render_poses"])
    projection = _projection(config["fovy"], config["znear"], config["zfar"])
    return {
        "cam_view": views.mT,
        "cam_view_proj": (projection @ views).mT,
        "features": features[0],
        "positions": gaussians.means[0],
        "opacity": gaussians.opacities[0].unsqueeze(-1),
        "scales": gaussians.scales[0],
        "rgb": gaussians.rgb[0],
        "render_identity": shipped[0],
        "render": published[0],
        "render_alpha": alpha[0],
    }


def sampler(fixture: Fixture) -> Outputs:
    """50 steps of DDIM with a model that is a formula, without and with 3D-aware steps."""
    config = fixture.config
    scheduler = _scheduler(config["prediction"], config["steps"])
    outputs = {
        "timesteps": scheduler.timesteps,
        "aware_timesteps": scheduler.timesteps[config["aware_step_indices"]],
        "alphas_cumprod": scheduler.alphas_cumprod.double(),
    }
    for run, aware_steps in (("plain", ()), ("aware", config["aware_step_indices"])):
        x, trace = fixture["in.noise"], []
        for i, t in enumerate(scheduler.timesteps.tolist()):
            aware = i in aware_steps
            cond, uncond = (_formula(config["model"], x, t, branch, aware) for branch in ("cond", "uncond"))
            guided = uncond + config["guidance"] * (cond - uncond)
            prediction = schedules.prediction_from_x0(scheduler, guided, t, x) if aware else guided
            x = scheduler.step(prediction, t, x).prev_sample
            if i in config["trace_steps"]:
                trace.append(x)
        outputs |= {f"{run}_trace": torch.stack(trace), f"{run}_final": x}
    return outputs


def three_d_aware(fixture: Fixture) -> Outputs:
    """One step of the released sampling loop, plain and 3D-aware, from U-Net to the next latents."""
    config = fixture.config
    image_conditioned = "in.local_image" in fixture.tensors
    make_unet = VideoMVImageUNet if image_conditioned else VideoMVUNet
    sizes = _unet_sizes(config["unet"])
    if image_conditioned:
        sizes["image_embedding_dim"] = config["unet"]["y_dim"]
    unet = make_unet(**sizes).eval()
    unet.load_state_dict(converters.videomv_unet(fixture.weights["videomv"]))
    reconstructor = _lgm(config["lgm"], converters.lgm(fixture.weights["videomv"]), kind=_LGMAsPublished)
    vae = _vae(config["vae"])
    vae.load_state_dict(converters.ldm_vae(fixture.weights["vae"]))

    x, t, stored = fixture["in.x"], fixture["in.t"].item(), config["stored_views"]
    train_steps = schedules.VIDEOMV_TEXT["num_train_timesteps"]
    scheduler = _scheduler(
        "v" if image_conditioned else "epsilon", train_steps // (t - config["prev_timestep"])
    )
    camera = fixture["in.camera_data"].unflatten(-1, (4, 4))
    decoded: list[Tensor] = []

    def decode(latents: Tensor) -> Tensor:
        decoded.append(vae.decode(latents / config["vae"]["scale_factor"]).sample)
        return 0.5 * decoded[-1] + 0.5

    def encode(images: Tensor) -> Tensor:
        posteriors = [vae.encode(2 * image - 1).latent_dist.mode() for image in images.split(4)]
        return config["vae"]["scale_factor"] * torch.cat(posteriors)

    predictions, x0, refined, shipped = {}, {}, {}, {}
    for branch in ("cond", "uncond"):
        image = _image_inputs(fixture, fixture[f"in.image_{branch}"]) if image_conditioned else {}
        predictions[branch] = unet(x, t, fixture[f"in.y_{branch}"], camera, **image)
        x0[branch] = schedules.x0_from_prediction(scheduler, predictions[branch], t, x)
        refined[branch] = three_d_aware_step(
            x0[branch],
            camera,
            decode=decode,
            encode=encode,
            reconstructor=reconstructor,
            input_views=config["input_views"],
            rendering=_rendering(config["lgm"], config["bg"]),
        )
        shipped[branch] = reconstructor.shipped

    def guided(cond: Tensor, uncond: Tensor) -> Tensor:
        return uncond + config["guidance"] * (cond - uncond)

    x0_guided = guided(refined["cond"].latents, refined["uncond"].latents)
    aware = schedules.prediction_from_x0(scheduler, x0_guided, t, x)
    plain = guided(predictions["cond"], predictions["uncond"])
    seen = config["input_views"]
    gaussians = shipped["cond"]
    return {
        "x0_cond_input_views": x0["cond"][0, :, seen].transpose(0, 1),
        "x0_uncond_input_views": x0["uncond"][0, :, seen].transpose(0, 1),
        **{
            f"decoded_cond_stride{n}": decoded[0][..., ::n, ::n]
            for n in _numbers(fixture, "decoded_cond_stride")
        },
        "gaussians_cond": torch.cat(
            [gaussians.means[0], gaussians.opacities[0, :, None], gaussians.scales[0], gaussians.rgb[0]],
            dim=-1,
        )[::4],
        **{
            f"render_cond_view{n}": refined["cond"].renders[0, n, :, ::4, ::4]
            for n in _numbers(fixture, "render_cond_view")
        },
        "z_cond": refined["cond"].latents[0, :, stored].transpose(0, 1),
        "z_uncond": refined["uncond"].latents[0, :, stored].transpose(0, 1),
        "x0_guided": x0_guided,
        "x_next": scheduler.step(aware, t, x).prev_sample[:, :, stored],
        "x_next_plain": scheduler.step(plain, t, x).prev_sample[:, :, stored],
    }


def _numbers(fixture: Fixture, prefix: str) -> list[int]:
    return [int(name.removeprefix(prefix)) for name in fixture.tensors if name.startswith(prefix)]


def _unet_sizes(config: dict[str, Any]) -> dict[str, Any]:
    attends = [0.5**level in config["attn_scales"] for level in range(len(config["dim_mult"]))]
    return {
        "in_channels": config["in_dim"],
        "out_channels": config["out_dim"],
        "block_out_channels": [config["dim"] * factor for factor in config["dim_mult"]],
        "down_block_types": ["CrossAttnDownBlock3D" if a else "DownBlock3D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock3D" if a else "UpBlock3D" for a in reversed(attends)],
        "layers_per_block": config["num_res_blocks"],
        "cross_attention_dim": config["context_dim"],
        "attention_head_dim": config["head_dim"],
        "transformer_in_heads": config["num_heads"],
    }


def _image_inputs(fixture: Fixture, embedding: Tensor) -> dict[str, Tensor]:
    return {
        "image_latents": fixture["in.local_image"],
        "image_embeddings": embedding,
        "fps": fixture["in.fps"],
    }


class _LGMAsPublished(LGM):
    """Gives the fixtures' Gaussians to the renderer, and keeps ours."""

    shipped: Gaussians

    def gaussians(self, features: Tensor) -> Gaussians:
        self.shipped = super().gaussians(features)
        return _with_published_rotations(self.shipped, features)


def _with_published_rotations(gaussians: Gaussians, features: Tensor) -> Gaussians:
    """The Gaussians that the fixtures were rendered with.

    The published code normalised each component of the quaternions over all Gaussians of a sample, and its
    rasteriser took them as they were, so that hardly any rotation is left (the fewer Gaussians, the more).
    We ship none; here the same covariances are expressed as rotations of unit quaternions and scales.
    """
    quats = torch.nn.functional.normalize(
        features.permute(0, 1, 3, 4, 2).flatten(1, 3)[..., 7:11].double(), dim=1
    )
    w, x, y, z = quats.unbind(-1)
    nearly_rotation = torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))
    half = nearly_rotation * gaussians.scales.double().unsqueeze(-2)
    variances, axes = torch.linalg.eigh(half @ half.mT)
    axes[..., 0] *= torch.linalg.det(axes).unsqueeze(-1)  # a rotation, not a reflection
    turned = Rotation.from_matrix(axes.flatten(0, -3).numpy()).as_quat(scalar_first=True)
    return gaussians._replace(
        scales=variances.clamp_min(0).sqrt().float(),
        quats=torch.from_numpy(turned).float().reshape(gaussians.quats.shape),
    )


def _lgm(config: dict[str, Any], weights: dict[str, Tensor], kind: type[LGM] = LGM) -> LGM:
    sizes = (
        "input_size",
        "in_channels",
        "out_channels",
        "down_channels",
        "down_attention",
        "mid_attention",
        "up_channels",
        "up_attention",
        "attention_heads",
        "skip_scale",
    )
    net = kind(**{name: config[name] for name in sizes if name in config}).eval()
    net.load_state_dict(weights)
    return net


def _vae(config: dict[str, Any]) -> AutoencoderKL:
    levels = len(config["ch_mult"])
    return AutoencoderKL(
        in_channels=config["in_channels"],
        out_channels=config["out_ch"],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=[config["ch"] * factor for factor in config["ch_mult"]],
        layers_per_block=config["num_res_blocks"],
        latent_channels=config["z_channels"],
        mid_block_add_attention=config["mid_attention"],
    ).eval()


def _rendering(lgm_config: dict[str, Any], background: float) -> SplatRendering:
    return SplatRendering(lgm_config["fovy"], lgm_config["output_size"], background, blending="display")


def _scheduler(prediction: str, steps: int) -> DDIMScheduler:
    published = schedules.VIDEOMV_TEXT if prediction == "epsilon" else schedules.VIDEOMV_IMAGE
    scheduler = DDIMScheduler(**published)
    scheduler.set_timesteps(steps)
    return scheduler


def _formula(model: dict[str, Any], x: Tensor, t: int, branch: str, aware: bool) -> Tensor:
    """The samplers' stand-in for a network: a prediction, or in 3D-aware steps an x0."""
    c = model[branch]
    if aware:
        return model["s"] * torch.sin(x + c)
    f = getattr(torch, model["f"])
    return model["p"] * f(x) + model["q"] * c * math.cos(t / model["period"])


def _projection(fov_deg: float, near: float, far: float) -> Tensor:
    """The published rasteriser's projection. Ours needs none; this ties our cameras to its tables."""
    focal = 1 / math.tan(0.5 * math.radians(fov_deg))
    rows = [
        [focal, 0, 0, 0],
        [0, focal, 0, 0],
        [0, 0, (far + near) / (far - near), -far * near / (far - near)],
    ]
    return torch.tensor([*rows, [0, 0, 1, 0]])
