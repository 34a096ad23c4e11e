"""How each published model was sampled: what goes into the `model.json` of its folder.

The names are those of the pipelines' settings. Views, steps and guidance can be asked for otherwise; the rest
belongs to the weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ..pipelines import schedules
from ..pipelines.settings import PRESETS

# Half the arithmetic or less, 3D-aware steps and all (`python -m tests.bench.denoising`). Chosen with the
# starter, whose views are 45 dB or closer to the exact ones at 50 steps; published weights were not at hand.
_FAST = {"whole_until": 0.12, "whole_every": 3, "layers": 1}

# "full" is the number of steps below, with DDIM.
_PRESETS = {name: dataclasses.asdict(preset) for name, preset in PRESETS.items()}

_VIDEOMV: dict[str, Any] = {
    "num_views": 24,
    "size_px": 256,
    "fov_deg": 39.6,
    "steps": 50,
    "three_d_aware": (0.4, 0.6, 0.8),  # steps 20, 30 and 40 of 50
    "input_views": 4,  # a quarter turn apart
    "negative_prompt": (
        "Distorted, discontinuous, Ugly, blurry, low resolution, disfigured, disconnected limbs, "
        "Ugly faces, incomplete arms"
    ),
    "words": (),
    "fast": _FAST,
    "presets": _PRESETS,
}

# LGM as its authors trained it, with MVDream's views; VideoMV trained it on with other cameras.
_LGM: dict[str, Any] = {
    "num_views": 4,
    "size_px": 256,
    "elevation_deg": 0.0,
    "radius": 1.5,
    "fov_deg": 49.1,
    "steps": 50,
    "guidance": 7.5,
    "three_d_aware": (),
    "input_views": 4,
    "rendering": {"fov_deg": 49.1, "size_px": 512, "background": 1.0, "blending": "display"},
    "prompt_suffix": ", 3d asset",
    "negative_prompt": (
        "ugly, blurry, pixelated obscure, unnatural colors, poor lighting, dull, unclear, cropped, lowres, "
        "low quality, artifacts, duplicate"
    ),
    "words": (),
    "fast": _FAST,
    "presets": _PRESETS,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "videomv-t2v": _VIDEOMV
    | {
        "schedule": schedules.VIDEOMV_TEXT,
        "elevation_deg": 15.0,
        "radius": 2.0,
        "guidance": 9.0,
        "rendering": {"fov_deg": 39.6, "size_px": 512, "background": 0.5, "blending": "display"},
        "prompt_suffix": ", 3d asset",
    },
    "videomv-i2v": _VIDEOMV
    | {
        "schedule": schedules.VIDEOMV_IMAGE,
        "elevation_deg": 5.0,
        "radius": 1.7,
        "guidance": 6.0,
        "rendering": {"fov_deg": 39.6, "size_px": 512, "background": 0.7, "blending": "display"},
        "prompt_suffix": "",  # no prompt at all: the image says everything
    },
    "mvdream-lgm": _LGM | {"schedule": schedules.MVDREAM},
    "vivid-zoo": _LGM | {"schedule": schedules.VIVID_ZOO, "num_frames": 16},
    # Told by MVDream's views, made as above but from where Animate3D looks. Without a suffix and a negative
    # prompt, as it was trained.
    "animate3d": _LGM
    | {
        "schedule": schedules.ANIMATE3D,
        "elevation_deg": 15.0,
        "steps": 25,
        "prompt_suffix": "",
        "negative_prompt": "",
        "num_frames": 16,
        "rounds": 3,
        "first_frame": {
            "schedule": schedules.MVDREAM,
            **{name: _LGM[name] for name in ("steps", "guidance", "prompt_suffix", "negative_prompt")},
        },
    },
}
"""By the catalogue's names.

Source: VideoMV's, LGM's and Animate3D's released configurations; Vivid-ZOO, table III.
"""
