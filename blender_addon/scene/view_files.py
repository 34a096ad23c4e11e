"""Keeps the views of moving results beside the .blend file that shows them.

Stills are packed in the file; image sequences cannot be. So when a file is saved, theirs are copied to
`views/` beside it and found there by a relative path: whoever takes the folder takes the views along, and
results can be deleted from the History.
"""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..backend.shared.asset import MANIFEST

FOLDER = "views"
_ASSET = "asset"  # on an image: the name of the asset folder that its sequence came from
_former: dict[str, str] = {}  # name of an image → its path before the file was saved


def keep_beside(blend: Path) -> None:
    """Copy the views of moving results into the folder of a .blend file, and use the copies.

    What is in that folder stays where it is; so does what cannot be copied.
    """
    for image in bpy.data.images:
        first = Path(os.path.abspath(bpy.path.abspath(image.filepath)))
        if image.source != "SEQUENCE" or image.library or not _is_view(image, first):
            continue
        if not first.is_file() or not blend.parent.is_dir() or blend.parent in first.parents:
            continue
        with contextlib.suppress(OSError):
            path = str(_copied(first, blend.parent / FOLDER / image[_ASSET]))
            _former[image.name] = image.filepath
            image.filepath = path
            # Relative to where the file was: Blender rewrites that for where it will be.
            with contextlib.suppress(ValueError):  # on Windows, to another drive there is no relative path
                if bpy.data.is_saved:
                    image.filepath = bpy.path.relpath(path)


def _is_view(image: bpy.types.Image, first: Path) -> bool:
    """Whether its files are in an asset folder, or were copied from one."""
    asset = first.parent.parent
    if (asset / MANIFEST).is_file():
        image[_ASSET] = asset.name
    return _ASSET in image


def _copied(first: Path, wanted: Path) -> Path:
    """The first file of a sequence in another folder, in which no file is replaced."""
    files = sorted(first.parent.glob(f"{first.stem.rstrip('0123456789')}*{first.suffix}"))
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))
    for folder in itertools.chain([wanted], numbered):
        there = [file for file in files if (folder / file.name).exists()]
        if all(filecmp.cmp(file, folder / file.name) for file in there):
            break
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file not in there:
            shutil.copy2(file, folder)
    return folder / first.name


def _put_back() -> None:
    for name, path in _former.items():
        if name in bpy.data.images:
            bpy.data.images[name].filepath = path


@persistent
def _before_save(path: str, *_: Any) -> None:
    _former.clear()
    if path:  # not for the start-up file
        keep_beside(Path(path))


@persistent
def _after_save(path: str, *_: Any) -> None:
    if path != bpy.data.filepath:  # a copy was saved: the open file goes on as it was
        _put_back()


@persistent
def _after_failure(*_: Any) -> None:
    _put_back()


_HANDLERS = (("save_pre", _before_save), ("save_post", _after_save), ("save_post_fail", _after_failure))


def register() -> None:
    """Looks after every file that is saved from now on."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).remove(handler)
