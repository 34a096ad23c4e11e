"""Makes the fixture `animate3d_unet` with the authors' code: python -m tests.parity.make_animate3d CODE FILE

CODE is a checkout of github.com/yanqinJiang/Animate3D. It wants diffusers 0.28.0 and einops 0.8.1, put before
everything else by PYTHONPATH; xformers is not needed, its one function is torch's here. The network is set up
as `inference.py` does it, with that file's names for what it loads, at a small size.
"""

from __future__ import annotations

import ast
import importlib.machinery
import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
from safetensors.torch import save_file

from .fixture import _digest, fill

WIDTHS = (32, 64, 96, 96)
CONTEXT, IMAGE, VIEWS, FRAMES, SIDE = 24, 12, 4, 3, 8
SALT = "a"


def _stand_in_for_old_packages() -> None:
    huggingface_hub.cached_download = None  # of an old version; diffusers 0.28 only imports it
    xformers, ops = types.ModuleType("xformers"), types.ModuleType("xformers.ops")

    def attention(query: Any, key: Any, value: Any, attn_bias: Any, op: Any, scale: float) -> Any:
        del op  # which implementation to use
        scaled = torch.nn.functional.scaled_dot_product_attention
        return scaled(query, key, value, attn_mask=attn_bias, scale=scale)

    ops.memory_efficient_attention = attention  # type: ignore[attr-defined]
    xformers.ops = ops  # type: ignore[attr-defined]
    xformers.__spec__ = importlib.machinery.ModuleSpec("xformers", None)
    sys.modules |= {"xformers": xformers, "xformers.ops": ops}


def cameras(code: Path) -> torch.Tensor:  # [V, 16]
    """Of their pipeline, whose file imports more than is here."""
    tree = ast.parse((code / "animatediff" / "pipelines" / "pipeline.py").read_text("utf-8"))
    wanted = {"get_camera", "generate_c2w", "normalize_camera"}
    tree.body = [part for part in tree.body if getattr(part, "name", "") in wanted]
    names: dict[str, Any] = {"np": np, "torch": torch, "math": math, "F": torch.nn.functional}
    exec(compile(tree, "pipeline.py", "exec"), names)
    return names["get_camera"](VIEWS)  # elevation 15


def network() -> tuple[Any, dict[str, dict[str, torch.Tensor]]]:
    """Their network, and its weights as they would be in the three published files."""
    from animatediff.models import attention_processor as theirs
    from animatediff.models.unet_motion_mv_model import MVUNetMotionModel

    net = MVUNetMotionModel(
        block_out_channels=WIDTHS, cross_attention_dim=CONTEXT, num_attention_heads=8, camera_embedding_dim=16
    )
    base = {k: v.shape for k, v in net.state_dict().items() if "motion_modules." not in k}
    sites = [
        name for name in net.attn_processors if name.endswith("attn2.processor") and "motion" not in name
    ]
    inside = {
        f"{2 * i + 1}": net.get_submodule(name.removesuffix(".processor")) for i, name in enumerate(sites)
    }
    prompt = {
        "image_proj.proj.weight": (4 * CONTEXT, IMAGE),
        "image_proj.proj.bias": (4 * CONTEXT,),
        "image_proj.norm.weight": (CONTEXT,),
        "image_proj.norm.bias": (CONTEXT,),
    }
    for number, attn in inside.items():
        for layer in ("to_k_ip", "to_v_ip"):
            prompt[f"ip_adapter.{number}.{layer}.weight"] = (attn.to_q.out_features, CONTEXT)
    weights = {"mvdream": fill(base, SALT), "ip_adapter": fill(prompt, SALT)}
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in weights["ip_adapter"].items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    net._load_ip_adapter_weights(parts, low_cpu_mem_usage=False)

    on = {"enabled": True, "attn_cfg": types.SimpleNamespace(
        use_spatial_encoding=True, spatial_encoding_type="sinusoid",
        use_camera_encoding=False, camera_encoding_type="sinusoid",
    )}  # fmt: skip
    processors = {}
    for name, processor in net.attn_processors.items():
        attn = net.get_submodule(name.removesuffix(".processor"))
        width = attn.to_q.out_features
        if "motion_modules" in name:
            level, words = len(WIDTHS) - 1, name.split(".")
            if words[0] != "mid_block":
                level = int(words[1]) if words[0] == "down_blocks" else level - int(words[1])
            processors[name] = theirs.SpatioTemporalI2VXFormersAttnProcessor(
                hidden_size=width,
                feature_size=SIDE >> level,
                num_views=VIEWS,
                num_frames=FRAMES,
                spatial_attn=types.SimpleNamespace(**on),
                image_attn=types.SimpleNamespace(enabled=False),
                use_alpha_blender=True,
            )
        elif name.endswith("attn2.processor"):
            processors[name] = theirs.IPAdapterXFormersAttnProcessor(
                width, CONTEXT, processor.num_tokens, processor.scale
            )
            processors[name].load_state_dict(processor.state_dict())
        else:
            processors[name] = theirs.MVDreamI2VXFormersAttnProcessor(None, width, VIEWS, FRAMES)
    net.set_attn_processor(processors)
    for name, module in net.named_modules():
        if "motion_modules" in name and name.endswith("transformer_blocks.0"):
            module.pos_embed = None

    loaded = base.keys() | {name for name in net.state_dict() if "_ip." in name or "encoder_hid_proj" in name}
    animate3d = {k: v.shape for k, v in net.state_dict().items() if k not in loaded and not k.endswith(".pe")}
    weights["animate3d"] = fill(animate3d, SALT)
    missing, unexpected = net.load_state_dict(weights["mvdream"] | weights["animate3d"], strict=False)
    assert not unexpected and all(n in loaded or n.endswith(".pe") for n in missing)
    assert len(loaded) == 726  # as inference.py asserts of the published file
    return net.eval(), weights


@torch.no_grad()
def main() -> None:
    """Writes the fixture."""
    code, path = sys.argv[1:]
    sys.path.insert(0, code)
    _stand_in_for_old_packages()
    net, weights = network()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, VIEWS, 4, FRAMES, SIDE, SIDE, generator=generator) * 4 - 2
    context = torch.rand(2, 9, CONTEXT, generator=generator) * 2 - 1
    seen = torch.rand(2, VIEWS, IMAGE, generator=generator) * 2 - 1
    seen[0] = 0  # the branch of the guidance that is told nothing
    camera = cameras(Path(code))
    out = net(
        x.flatten(0, 1),
        481,
        context.repeat_interleave(VIEWS, dim=0),
        camera=camera.repeat(2, 1),
        added_cond_kwargs={"image_embeds": seen.flatten(0, 1)},
    ).sample.unflatten(0, (2, VIEWS))
    meta = {
        "fixture": "animate3d_unet",
        "description": "Animate3D's U-Net, set up as its inference does. in.x/out [B,V,4,F,H,W], "
        "in.context [B,L,D], in.camera [V,16], in.image_embeds [B,V,D]; weights as in its three files.",
        "config": {
            "block_out_channels": WIDTHS,
            "cross_attention_dim": CONTEXT,
            "image_embedding_dim": IMAGE,
            "timestep": 481,
        },
        "keys": {part: {k: list(v.shape) for k, v in some.items()} for part, some in weights.items()},
        "salt": SALT,
        "adjust": {},
        "tolerance": {"out": {"max_abs": 1e-4}},
        "weights_sha256": {part: _digest(some) for part, some in weights.items()},
    }
    tensors = {"in.x": x, "in.context": context, "in.camera": camera, "in.image_embeds": seen, "out": out}
    named = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, Path(path), {name: json.dumps(value) for name, value in meta.items()})
    print(f"{path}: outputs of standard deviation {out.std():.3f}")


if __name__ == "__main__":
    main()
