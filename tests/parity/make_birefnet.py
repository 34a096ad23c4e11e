"""Makes the fixture `birefnet` with TripoSplat's own class: python -m tests.parity.make_birefnet CODE FILE

CODE is `model.py` of github.com/VAST-AI-Research/TripoSplat, whose BiRefNet is the published one, rewritten
for inference. Its sizes stand in its text and are made small there. torchvision is not needed: its one
function is written out here.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .fixture import _digest, fill

SMALL = {
    "embed_dim = 192": "embed_dim = 8",
    "depths = [2, 2, 18, 2]": "depths = [1, 1, 2, 1]",
    "num_heads = [6, 12, 24, 48]": "num_heads = [1, 1, 2, 2]",
    "window_size = 12": "window_size = 3",
    "_CHANNELS = (3072, 1536, 768, 384)": "_CHANNELS = (128, 64, 32, 16)",
    "inter = 256": "inter = 8",
    "in_channels, out_channels, inter_channels=64):\n        super().__init__()\n        self.conv_in": (
        "in_channels, out_channels, inter_channels=8):\n        super().__init__()\n        self.conv_in"
    ),
}
CONFIG = {
    "embed_dim": 8,
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 1, 2, 2),
    "window_size": 3,
    "inner": 8,
    "branch": 8,
}
SALT = "a"


def deform_conv2d(
    input: Tensor, offset: Tensor, weight: Tensor, bias: None, padding: int, mask: Tensor, stride: Any
) -> Tensor:
    """As torchvision documents it, for one image and no bias."""
    assert bias is None and len(input) == 1 and tuple(stride) == (1, 1)
    height, width = input.shape[-2:]
    size = weight.shape[-1]
    assert padding == size // 2
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    out = torch.zeros(1, len(weight), height, width)
    for tap in range(size**2):
        y = rows + tap // size - padding + offset[0, 2 * tap]
        x = columns + tap % size - padding + offset[0, 2 * tap + 1]
        top, left = y.floor(), x.floor()
        seen = torch.zeros(input.shape[1], height, width)
        for row, share in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, part in ((left, 1 - (x - left)), (left + 1, x - left)):
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                at = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
                seen += input[0][:, at[0], at[1]] * (share * part * inside)
        out[0] += torch.einsum("oc,chw->ohw", weight[:, :, tap // size, tap % size], seen * mask[0, tap])
    return out


def network(code: Path) -> torch.nn.Module:
    """Their network, small."""
    text = code.read_text("utf-8")
    for theirs, small in SMALL.items():
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, small)
    ops = types.ModuleType("torchvision.ops")
    ops.deform_conv2d = deform_conv2d  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": types.ModuleType("torchvision"), "torchvision.ops": ops}
    names: dict[str, Any] = {"__name__": "model"}
    exec(compile(text, str(code), "exec"), names)
    net: torch.nn.Module = names["BiRefNet"]()
    return net.eval()


@torch.no_grad()
def main() -> None:
    """Writes the fixture."""
    code, path = map(Path, sys.argv[1:])
    net = network(code)
    ours = ("relative_position_index", "num_batches_tracked")
    shapes = {name: t.shape for name, t in net.state_dict().items() if not name.endswith(ours)}
    variances = [(name, 1.0, 1.0) for name in shapes if name.endswith("running_var")]
    weights = fill(shapes, SALT, variances)
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith(ours) for name in missing)
    images = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(0)) * 4 - 2
    out = net(images)
    meta = {
        "fixture": "birefnet",
        "description": "in.images [1,3,H,W], normalised as ImageNet's; out [1,1,H,W], how much is object",
        "config": CONFIG,
        "keys": {"": {name: list(shape) for name, shape in shapes.items()}},
        "salt": SALT,
        "adjust": {"": variances},
        "tolerance": {"out": {"max_abs": 1e-5}},
        "weights_sha256": {"": _digest(weights)},
    }
    tensors = {"in.images": images, "out": out.contiguous()}
    save_file(tensors, path, {name: json.dumps(value) for name, value in meta.items()})
    print(f"{path}: {out.min():.3f} to {out.max():.3f}, standard deviation {out.std():.3f}")


if __name__ == "__main__":
    main()
