"""How each published model was sampled: what goes into the `model.json` of its folder.

The names are those of the pipelines' configurations. Views, steps and guidance can be asked for otherwise;
the rest belongs to the weights.
"""

from __future__ import annotations

from typing import Any

from . import schedules

_ORTHOGONAL = (0, 6, 12, 18)  # four of 24 views, a quarter turn apart

_VIDEOMV: dict[str, Any] = {
    "num_views": 24,
    "size_px": 256,
    "steps": 50,
    "fov_deg": 39.6,
    "negative_prompt": (
        "Distorted, discontinuous, Ugly, blurry, low resolution, disfigured, disconnected limbs, "
        "Ugly faces, incomplete arms"
    ),
    "three_d_aware_steps": (20, 30, 40),  # of 50
    "input_views": _ORTHOGONAL,
}

# What LGM was trained with, by its authors; VideoMV trained it on with other cameras.
_LGM: dict[str, Any] = {
    "size_px": 256,
    "num_views": 4,
    "background": 1.0,  # as LGM takes its pictures
    "radius": 1.5,
    "fov_deg": 49.1,
    "input_views": (0, 1, 2, 3),
    "prompt_suffix": ", 3d asset",
    "negative_prompt": (
        "ugly, blurry, pixelated obscure, unnatural colors, poor lighting, dull, unclear, cropped, lowres, "
        "low quality, artifacts, duplicate"
    ),
    "steps": 50,
    "guidance": 7.5,
    "elevation_deg": 0.0,
    "three_d_aware_steps": (),
    "rendering": {"fov_deg": 49.1, "size_px": 512, "background": 1.0, "blending": "display"},
}

SETTINGS: dict[str, dict[str, Any]] = {
    "videomv-t2v": _VIDEOMV
    | {
        "scheduler": schedules.VIDEOMV_TEXT,
        "guidance": 9.0,
        "prompt_suffix": ", 3d asset",
        "elevation_deg": 15.0,
        "radius": 2.0,
        "background": 128 / 255,  # of the pictures that it was trained on
        "rendering": {"fov_deg": 39.6, "size_px": 512, "background": 0.5, "blending": "display"},
    },
    "videomv-i2v": _VIDEOMV
    | {
        "scheduler": schedules.VIDEOMV_IMAGE,
        "guidance": 6.0,
        "prompt_suffix": "",  # no prompt at all: the image says everything
        "elevation_deg": 5.0,
        "radius": 1.7,
        "background": 1.0,
        "rendering": {"fov_deg": 39.6, "size_px": 512, "background": 0.7, "blending": "display"},
    },
    "mvdream-lgm": _LGM | {"scheduler": schedules.MVDREAM},
    "vivid-zoo": _LGM | {"scheduler": schedules.VIVID_ZOO, "num_frames": 16},
}
"""By the catalogue's names. Source: VideoMV's and LGM's released configurations; Vivid-ZOO, table III."""
