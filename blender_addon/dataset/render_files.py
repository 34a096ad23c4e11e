"""Files that Blender renders: to the very path that was meant, and whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import bpy

# The last bytes of every PNG, of which Blender does not say that the disk was too full for them.
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"


def render_to(scene: bpy.types.Scene, path: Path) -> None:
    """Let a scene render to this path, whatever characters are in it."""
    name = str(path)
    if bpy.app.version >= (4, 5):  # what is in braces is a variable, and two braces are one
        name = name.replace("{", "{{").replace("}", "}}")
    scene.render.filepath = name


def check_png(path: Path) -> None:
    """Look whether an image was written to its end.

    Raises:
        OSError: it was not, with the reason that there probably is.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - len(_END_OF_PNG), 0))
            if file.read() == _END_OF_PNG:
                return
    except FileNotFoundError:
        pass
    full = shutil.disk_usage(path.parent).free < 1 << 20
    code = errno.ENOSPC if full else errno.EIO
    raise OSError(code, os.strerror(code), str(path))
