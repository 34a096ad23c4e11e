"""The asset folders of finished jobs: how large they are, and their removal, which touches nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from ..backend.shared.asset import MANIFEST
from ..backend.shared.manifests import is_inside
from ..backend.shared.protocol import DioramaError


def size(directory: Path) -> tuple[int, int]:
    """How many files of an asset there are, and their bytes."""
    files = _files(directory)
    return len(files), sum(path.stat().st_size for path in files)


def remove(directory: Path) -> None:
    """Deletes an asset's files, and its folder if nothing else is in it.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE if they cannot be deleted.
    """
    files = _files(directory)
    try:
        for path in files:  # the manifest last: until then, it can be tried again
            path.unlink()
        folders = {parent for path in files for parent in path.parents if directory in parent.parents}
        for folder in (*sorted(folders, key=lambda path: -len(path.parts)), directory):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise DioramaError(
            "E_OUTPUT_UNWRITABLE", f"cannot delete {directory}: {error.strerror or error}"
        ) from error


def _files(directory: Path) -> list[Path]:
    """The files that the manifest lists and that are there, then the manifest; nothing if there is none."""
    try:
        names = json.loads((directory / MANIFEST).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    listed = (directory / name for name in names if is_inside(name))
    return [*(path for path in listed if path.is_file()), directory / MANIFEST]
