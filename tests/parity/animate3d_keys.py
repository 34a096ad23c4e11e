"""What Animate3D's and IP-Adapter's published files must hold, by the code that writes and reads them.

Names and sizes are read off that code: `inference.py` and `attention_processor.py` of
github.com/yanqinJiang/Animate3D, diffusers' `_convert_ip_adapter_attn_to_diffusers`. The files themselves
have not been looked at. What the code says was checked with what it does, for the fixture `animate3d_unet`;
and the authors assert that their file leaves 726 tensors of the whole network to the other files.
"""

from __future__ import annotations

from collections.abc import Sequence

Shapes = dict[str, tuple[int, ...]]

WIDTHS = 320, 640, 1280, 1280


def animate3d(widths: Sequence[int] = WIDTHS) -> Shapes:
    """`animate3d_motion_modules.ckpt`: all motion modules, and what was put beside MVDream's attention."""
    shapes: Shapes = {}
    for site, width in _sites(widths, "motion_modules", with_the_coarsest=True):
        shapes |= _linear(f"{site}.norm", width) | _linear(f"{site}.proj_in", width, width)
        shapes |= _linear(f"{site}.proj_out", width, width)
        block = f"{site}.transformer_blocks.0"
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= _linear(f"{block}.{norm}", width)
        shapes |= _linear(f"{block}.ff.net.0.proj", 8 * width, width) | _linear(
            f"{block}.ff.net.2", width, 4 * width
        )
        for attn in (f"{block}.attn1", f"{block}.attn2"):
            for letter in "qkv":
                shapes[f"{attn}.to_{letter}.weight"] = (width, width)
                shapes[f"{attn}.processor.to_{letter}_sp.weight"] = (width, width)
            shapes |= _linear(f"{attn}.to_out.0", width, width)
            shapes |= _linear(f"{attn}.processor.to_out_sp", width, width)
            shapes[f"{attn}.processor.alpha_blender.mix_factor"] = (1,)
            shapes[f"{attn}.processor.time_pos_embed.pe"] = (1, 32, width)
    for site, width in _sites(widths, "attentions", with_the_coarsest=False):
        processor = f"{site}.transformer_blocks.0.attn1.processor"
        shapes[f"{processor}.to_q_i2v.weight"] = (width, width)
        shapes |= _linear(f"{processor}.to_out_i2v", width, width)
    return shapes


def ip_adapter(widths: Sequence[int] = WIDTHS, context: int = 768, image: int = 1024) -> Shapes:
    """`ip-adapter_sd15.safetensors`: four tokens of an image, and how each layer reads them."""
    shapes = _linear("image_proj.proj", 4 * context, image) | _linear("image_proj.norm", context)
    for i, (_, width) in enumerate(_sites(widths, "attentions", with_the_coarsest=False)):
        for layer in ("to_k_ip", "to_v_ip"):
            shapes[f"ip_adapter.{2 * i + 1}.{layer}.weight"] = (width, context)
    return shapes


def _sites(widths: Sequence[int], kind: str, with_the_coarsest: bool) -> list[tuple[str, int]]:
    """Down, up, middle: the order in which these networks name their attention layers."""
    last = len(widths) - 1
    down = [
        (f"down_blocks.{i}.{kind}.{j}", widths[i]) for i in range(last + with_the_coarsest) for j in range(2)
    ]
    ups = range(0 if with_the_coarsest else 1, last + 1)
    up = [(f"up_blocks.{i}.{kind}.{j}", widths[last - i]) for i in ups for j in range(3)]
    return [*down, *up, (f"mid_block.{kind}.0", widths[-1])]


def _linear(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
