"""The files of finished jobs: which they are, how large, and their removal, which touches nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..backend.shared.asset import MANIFEST, own_picture
from ..backend.shared.manifests import is_inside
from ..backend.shared.protocol import DioramaError
from ..backend.shared.request import SIDES
from . import jobs
from .jobs import Job


def files_of(job: Job, others: Iterable[Job]) -> list[Path]:
    """What was made for a job: its asset's files; if it made none, the image or capture that it began with.

    Args:
        others: jobs that may begin with the same image or capture, which stays then.
    """
    directory = Path(job.directory)
    if job.state == jobs.DONE:
        return _listed(directory)
    begun_with = {other.request.get(name) for other in others for name in ("capture", *SIDES)}
    if begun_with & {job.request.get("capture"), job.request.get("image")} - {None, ""}:
        return []
    return list(own_picture(directory, job.request).values())


def size(files: Iterable[Path]) -> int:
    """Their bytes."""
    return sum(path.stat().st_size for path in files)


def remove(directory: Path, files: list[Path]) -> None:
    """Deletes files of a folder, and the folder if nothing else is in it.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE if they cannot be deleted.
    """
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


def _listed(directory: Path) -> list[Path]:
    """The files that the manifest lists and that are there, then the manifest; nothing if there is none."""
    try:
        names = json.loads((directory / MANIFEST).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    listed = (directory / name for name in names if is_inside(name))
    return [*(path for path in listed if path.is_file()), directory / MANIFEST]
