"""Convert a file of splats into another format: `python -m backend convert IN OUT`."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from .shared import splat_formats
from .shared.protocol import DioramaError
from .shared.splat_transform import UPS, turned


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit code.

    Raises:
        DioramaError: E_PLY, E_REQUEST or E_OUTPUT_UNWRITABLE; an earlier file of that name stays then.
    """
    parser = argparse.ArgumentParser(prog="python -m backend convert", description=__doc__)
    parser.add_argument(
        "source", type=Path, metavar="IN", help="a file of splats, of any format that is read"
    )
    suffixes = " ".join(splat_formats.FORMATS[kind].suffix for kind in splat_formats.WRITTEN)
    parser.add_argument(
        "target", type=Path, metavar="OUT", help=f"its format is that of its name: {suffixes}"
    )
    ups = list(UPS)
    parser.add_argument("--from-up", choices=ups, help="what is up in IN, if not what its format has up")
    parser.add_argument("--up", choices=ups, help="what is to be up in OUT, if not what its format has up")
    args = parser.parse_args(argv)
    kind = splat_formats.kind_by_name(args.target)
    cloud = splat_formats.read_splats(args.source, decode)
    up = args.from_up or splat_formats.up_of(args.source)
    axes = UPS[args.up or splat_formats.FORMATS[kind].up]
    try:
        splat_formats.write_splats(args.target, turned(cloud, UPS[up]), encode, axes=axes, kind=kind)
    except OSError as error:
        raise DioramaError("E_OUTPUT_UNWRITABLE", f"{args.target}: {error.strerror}") from error
    print(f"{args.target}: {len(cloud):,} splats, harmonics of degree {cloud.sh_degree}")
    return 0


def decode(data: bytes) -> np.ndarray:
    """The pixels of an image file: [h, w, 4] uint8."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGBA"))


def encode(pixels: np.ndarray) -> bytes:
    """Pixels [h, w, 4] uint8 as a WebP file without loss."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()
