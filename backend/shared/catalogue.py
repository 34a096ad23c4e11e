"""The catalogue of models: the components of each, their published files, licence, and memory.

Facts alone, which Blender shows too; `model_store` finds a model's files, `backend.install` makes them.
"""

from __future__ import annotations

from .flux2_klein import FLUX2_KLEIN_FILES
from .published_files import Component, Model, Source, SourceFile

__all__ = ["COMPANIONS", "MODELS", "Component", "Model", "Source", "SourceFile"]


_VIDEOMV = Source(
    "videomv",
    "pretrained_models.zip of VideoMV (https://github.com/alibaba/VideoMV; "
    "https://virutalbuy-public.oss-cn-hangzhou.aliyuncs.com/share/aigc3d/pretrained_models.zip), unpacked",
)
_ALIGNMENT = Source(
    "vivid-zoo", "no alignment was ever published; train it: python -m backend train vivid-zoo"
)


def _hugging_face(repo: str) -> Source:
    return Source(repo.replace("/", "--"), f"https://huggingface.co/{repo}", repo)


_MVDREAM = _hugging_face("MVDream/MVDream")
_MVDREAM_DIFFUSERS = _hugging_face("ashawkey/mvdream-sd2.1-diffusers")
_LGM = _hugging_face("ashawkey/LGM")
_ANIMATEDIFF = _hugging_face("guoyww/animatediff-motion-adapter-v1-5-2")
_ANIMATE3D = _hugging_face("yanqinJiang/animate3d")
_IP_ADAPTER = _hugging_face("h94/IP-Adapter")

# CLIP's words, the same for every model here; only the token that fills up a prompt differs.
_WORDS = (
    SourceFile(_MVDREAM_DIFFUSERS, "tokenizer/vocab.json", 0.001, ("vocab.json",)),
    SourceFile(_MVDREAM_DIFFUSERS, "tokenizer/merges.txt", 0.001, ("merges.txt",)),
)
_TOKENIZER_SD1 = Component("tokenizer", "", _WORDS, pad_token="<|endoftext|>")
_TOKENIZER_SD2 = Component("tokenizer", "", _WORDS, pad_token="!")

# Weights from before LGM's rotation fix have the same names and shapes: only the file tells them apart.
_LGM_FIXROT = Component(
    "reconstructor", "lgm-fixrot", (SourceFile(_LGM, "model_fp16_fixrot.safetensors", 0.83),)
)

_VIDEOMV_T2V = SourceFile(_VIDEOMV, "t2v_00333000.pth", 7.31)
_VIDEOMV_I2V = SourceFile(_VIDEOMV, "i2v_00882000.pth", 7.35, also=("i2v_882000.pth",))
_VIDEOMV_VAE = SourceFile(_VIDEOMV, "modelscope_t2v/VQGAN_autoencoder.pth", also=("VQGAN_autoencoder.pth",))
_VIDEOMV_CLIP = SourceFile(
    _VIDEOMV,
    "modelscope_t2v/open_clip_pytorch_model.bin",
    also=("modelscope_i2v/I2VGen-XL/open_clip_pytorch_model.bin", "open_clip_pytorch_model.bin"),
)
_MVDREAM_V21 = "sd-v2.1-base-4view.pt"  # all of MVDream 2.1 in one file


def _mvdream_v15(folder: str, weights: str = "diffusion_pytorch_model") -> SourceFile:
    """All of MVDream 1.5 in one file, or the file of one network in any of its diffusers layouts."""
    also = (f"{folder}/{weights}.safetensors", f"{folder}/{weights}.bin", f"{folder}/pytorch_model.bin")
    return SourceFile(_MVDREAM, "sd-v1.5-4view.pt", 4.27, also)


_STARTER = Model(
    "starter",
    "A small model of a small world; runs on any CPU and knows few words.",
    "GPL-3.0-or-later: our own, trained by this repository",
    commercial=True,
    conditioned_on=("text", "image"),
    moves=True,
    memory_gib=(0.4, 0.3),
    four_sides=True,
)

_VIDEOMV_TEXT_MODEL = Model(
    "videomv-t2v",
    "VideoMV: a prompt to 24 views at 256 px, then splats.",
    "No licence is stated; the model derives from ModelScope's text-to-video (CC BY-NC 4.0)",
    commercial=False,
    memory_gib=(6.2, 3.9),  # 1413 M U-Net, 415 M LGM, 340 M text, 84 M VAE parameters
    components=(
        Component("unet", "videomv-t2v-unet", (_VIDEOMV_T2V,)),
        Component("reconstructor", "lgm", (_VIDEOMV_T2V,)),
        Component("autoencoder", "stable-diffusion-vae", (_VIDEOMV_VAE,)),
        Component("text_encoder", "clip-h-text", (_VIDEOMV_CLIP,)),
        _TOKENIZER_SD2,
    ),
)

_VIDEOMV_IMAGE_MODEL = Model(
    "videomv-i2v",
    "VideoMV: an image to 24 views at 256 px, then splats.",
    "No licence is stated; the model derives from I2VGen-XL, whose authors allow research only",
    commercial=False,
    conditioned_on=("image",),
    memory_gib=(7.6, 3.9),  # as above, and 632 M image encoder
    components=(
        Component("unet", "videomv-i2v-unet", (_VIDEOMV_I2V,)),
        Component("reconstructor", "lgm", (_VIDEOMV_I2V,)),
        Component("autoencoder", "stable-diffusion-vae", (_VIDEOMV_VAE,)),
        Component("text_encoder", "clip-h-text", (_VIDEOMV_CLIP,)),
        Component("image_encoder", "clip-h-image", (_VIDEOMV_CLIP,)),
        _TOKENIZER_SD2,
    ),
)

_MVDREAM_LGM_MODEL = Model(
    "mvdream-lgm",
    "MVDream and LGM: a prompt to 4 views at 256 px, then splats; the fast everyday generator.",
    "MVDream: OpenRAIL, whose restrictions of use go with the results; LGM: MIT",
    commercial=True,
    four_sides=True,
    memory_gib=(4.4, 2.2),  # 868 M U-Net, 415 M LGM, 340 M text, 84 M VAE parameters
    components=(
        Component(
            "unet",
            "mvdream-v2-unet",
            (
                SourceFile(
                    _MVDREAM_DIFFUSERS,
                    "unet/diffusion_pytorch_model.safetensors",
                    1.74,
                    also=("unet/diffusion_pytorch_model.bin", _MVDREAM_V21),
                ),
            ),
        ),
        _LGM_FIXROT,
        Component(
            "autoencoder",
            "stable-diffusion-vae",
            (
                SourceFile(
                    _MVDREAM_DIFFUSERS,
                    "vae/diffusion_pytorch_model.safetensors",
                    0.17,
                    also=("vae/diffusion_pytorch_model.bin", _MVDREAM_V21),
                ),
            ),
        ),
        Component(
            "text_encoder",
            "clip-h-text",
            (
                SourceFile(
                    _MVDREAM_DIFFUSERS,
                    "text_encoder/model.safetensors",
                    0.68,
                    also=("text_encoder/pytorch_model.bin", _MVDREAM_V21),
                ),
            ),
        ),
        _TOKENIZER_SD2,
    ),
)

_VIVID_ZOO_MODEL = Model(
    "vivid-zoo",
    "Vivid-ZOO: a prompt to 4 views of 16 frames at 256 px, then moving splats.",
    "MVDream: OpenRAIL, whose restrictions of use go with the results; AnimateDiff: Apache-2.0; LGM: MIT",
    commercial=True,
    moves=True,
    memory_gib=(6.9, 4.4),  # 1356 M U-Net, 415 M LGM, 123 M text, 84 M VAE parameters
    warning=(
        "Without trained alignment layers this is the naive composition of its two base models, "
        "which its paper finds poor."
    ),
    components=(
        Component(
            "unet",
            "vivid-zoo-unet",
            (
                _mvdream_v15("unet"),
                SourceFile(
                    _ANIMATEDIFF,
                    "diffusion_pytorch_model.safetensors",
                    1.82,
                    also=("mm_sd_v15_v2.ckpt",),
                ),
                SourceFile(_ALIGNMENT, "alignment.safetensors", 0.16, optional=True),
            ),
        ),
        _LGM_FIXROT,
        Component("autoencoder", "stable-diffusion-vae", (_mvdream_v15("vae"),)),
        Component("text_encoder", "clip-l-text", (_mvdream_v15("text_encoder", "model"),)),
        _TOKENIZER_SD1,
    ),
)

_ANIMATE3D_MODEL = Model(
    "animate3d",
    "MVDream and Animate3D: a prompt to 4 views, then 16 frames of them at 256 px, then moving splats.",
    "MVDream: OpenRAIL, whose restrictions of use go with the results; Animate3D and IP-Adapter: Apache-2.0; "
    "LGM: MIT",
    commercial=True,
    moves=True,
    memory_gib=(8.6, 4.7),  # 1526 M U-Net, 632 M image encoder, 415 M LGM, 123 M text, 84 M VAE parameters
    components=(
        Component(
            "unet",
            "animate3d-unet",
            (
                _mvdream_v15("unet"),
                SourceFile(_ANIMATE3D, "animate3d_motion_modules.ckpt"),
                SourceFile(_IP_ADAPTER, "models/ip-adapter_sd15.safetensors", 0.04),
            ),
        ),
        _LGM_FIXROT,
        Component("autoencoder", "stable-diffusion-vae", (_mvdream_v15("vae"),)),
        Component("text_encoder", "clip-l-text", (_mvdream_v15("text_encoder", "model"),)),
        Component(
            "image_encoder",
            "clip-h-image",
            (
                SourceFile(
                    _IP_ADAPTER,
                    "models/image_encoder/model.safetensors",
                    2.53,
                    also=("models/image_encoder/pytorch_model.bin",),
                ),
            ),
        ),
        _TOKENIZER_SD1,
    ),
)

_TRIPOSPLAT = Source(
    "VAST-AI--TripoSplat",
    "https://huggingface.co/VAST-AI/TripoSplat",
    "VAST-AI/TripoSplat",
    "56a96e603204ec410c4da60c13ea4fa09a2169a9",
)


def _triposplat(folder: str, network: str, name: str, size_gb: float, sha256: str) -> Component:
    return Component(folder, network, (SourceFile(_TRIPOSPLAT, name, size_gb, sha256=sha256),))


_TRIPOSPLAT_MODEL = Model(
    "triposplat",
    "TripoSplat: an image at 1024 px to up to 262,144 splats, and the image's own camera.",
    "TripoSplat: MIT; FLUX.2's autoencoder: Apache-2.0; DINOv3: DINOv3 License, which allows commercial use "
    "with restrictions that go with its weights (https://ai.meta.com/resources/models-and-libraries/dinov3-license)",
    commercial=True,
    conditioned_on=("image",),
    memory_gib=(5.0, 2.1),  # 841 M DINOv3, 371 M flow, 288 M decoder, 34 M image encoder parameters
    components=(
        _triposplat(
            "flow",
            "triposplat-flow",
            "diffusion_models/triposplat_fp16.safetensors",
            0.74,
            "c870b97ac1d6bc9177608a5ec625e19ef9f3c5019aa68f64b0fb7803abcd6d20",
        ),
        _triposplat(
            "decoder",
            "triposplat-decoder",
            "vae/triposplat_vae_decoder_fp16.safetensors",
            0.58,
            "ed0d0c3d43b599e326845d0ec70f3cf77be9a55e2d97627ac3b34d2830763cc8",
        ),
        _triposplat(
            "appearance_encoder",
            "dinov3-h",
            "clip_vision/dino_v3_vit_h.safetensors",
            1.68,
            "a29ef35101a16966972a0d50732a6f3a608ff7cfffb2afa9bbe9007cb842cc53",
        ),
        _triposplat(
            "detail_encoder",
            "flux2-encoder",
            "vae/flux2-vae.safetensors",
            0.34,
            "d64f3a68e1cc4f9f4e29b6e0da38a0204fe9a49f2d4053f0ec1fa1ca02f9c4b5",
        ),
    ),
    pipeline="triposplat",
    gaussians=(32_768, 65_536, 131_072, 262_144),
)

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        _STARTER,
        _VIDEOMV_TEXT_MODEL,
        _VIDEOMV_IMAGE_MODEL,
        _MVDREAM_LGM_MODEL,
        _VIVID_ZOO_MODEL,
        _ANIMATE3D_MODEL,
        _TRIPOSPLAT_MODEL,
    )
}
"""Every model by name; the first is the one that is taken where none is chosen."""

_BIREFNET_MODEL = Model(
    "background-removal",
    "BiRefNet: cuts the object out of photographs, for all models that are given images.",
    "MIT",
    commercial=True,
    memory_gib=(2.0, 2.0),  # 220 M parameters, at 1024 px
    components=(
        _triposplat(
            "matting",
            "birefnet",
            "background_removal/birefnet.safetensors",
            0.44,
            "9ab37426bf4de0567af6b5d21b16151357149139362e6e8992021b8ce356a154",
        ),
    ),
    pipeline="background-removal",
)

_TEXT_TO_IMAGE_MODEL = Model(
    "text-to-image",
    "FLUX.2-klein-4B: makes an image of the prompt, for models that need one.",
    "Apache-2.0",
    commercial=True,
    memory_gib=(19.1, 10.6),  # 4022 M text encoder, 3876 M transformer, 84 M autoencoder parameters
    components=(Component("", "", FLUX2_KLEIN_FILES),),
    pipeline="text-to-image",
)

COMPANIONS: dict[str, Model] = {
    _BIREFNET_MODEL.name: _BIREFNET_MODEL,
    _TEXT_TO_IMAGE_MODEL.name: _TEXT_TO_IMAGE_MODEL,
}
"""What helps the models, by name: installed as they are, but nothing can be generated with them alone."""
