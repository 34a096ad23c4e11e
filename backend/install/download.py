"""Downloads published model files from Hugging Face: goes on where it stopped, and checks what arrived."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_url, is_offline_mode
from huggingface_hub.errors import EntryNotFoundError, HTTPError
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from ..shared.catalogue import SourceFile
from ..shared.manifests import sha256
from ..shared.model_store import checked_mark, instructions, partial_file
from ..shared.progress import Progress
from ..shared.protocol import DioramaError

# Room that a disk keeps after a download or a conversion: a system without any does not work.
SPARE_BYTES = 1 << 30


def fetch(files: list[SourceFile], downloads: Path, progress: Progress) -> list[Path]:
    """Downloads files into their sources' folders in `downloads`.

    What had arrived of a file before an interruption is kept and is not downloaded again.

    Returns:
        Where each file is now.

    Raises:
        DioramaError: E_DOWNLOAD if the hub cannot be reached, or has no such file, or sent it damaged: the
            hint says how to fetch by hand what is still missing. E_DISK_FULL before the disk is.
    """
    fetched = []
    for i, file in enumerate(files):
        progress.stage(f"Downloading {Path(file.name).name} ({i + 1} of {len(files)})")
        try:
            if is_offline_mode():
                raise DioramaError("E_DOWNLOAD", f"{file.name} must be downloaded, and downloads are off")
            fetched.append(_fetch_one(file, downloads / file.source.folder, progress))
        except DioramaError as error:
            if error.code == "E_DOWNLOAD":
                raise _with_instructions(error.message, files[i:], downloads) from error
            raise
        except (HTTPError, OSError) as error:
            if isinstance(error, OSError) and not _is_of_the_network(error):
                raise
            raise _with_instructions(
                f"{file.name} could not be downloaded: {str(error).splitlines()[0]}", files[i:], downloads
            ) from error
    return fetched


def _fetch_one(file: SourceFile, folder: Path, progress: Progress) -> Path:
    """Downloads a file under the first of its names that the repository has."""
    for name in file.names:
        url = hf_hub_url(file.source.repo, name, revision=file.source.revision or None)
        try:
            remote = get_hf_file_metadata(url, token=False)
        except EntryNotFoundError:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, remote, target, progress)
        if name == file.name and file.sha256 and sha256(target) != file.sha256:
            checked_mark(target).unlink(missing_ok=True)
            target.unlink()
            raise DioramaError("E_DOWNLOAD", f"{name} is not the published file: its checksum is another")
        return target
    raise DioramaError("E_DOWNLOAD", f"{file.source.page} has no {' and no '.join(file.names)}")


def _download(url: str, remote: HfFileMetadata, target: Path, progress: Progress) -> None:
    """Fills the partial file from where it ends, and gives it its name once its checksum is right."""
    etag = remote.etag or ""
    part = partial_file(target, etag)
    there = part.stat().st_size if part.exists() else 0
    if remote.size is not None:
        if there > remote.size:
            part.unlink()
            there = 0
        free = shutil.disk_usage(target.parent).free
        if free < remote.size - there + SPARE_BYTES:
            raise DioramaError(
                "E_DISK_FULL",
                f"{target.name} needs {(remote.size - there) / 1e9:.1f} GB more and {target.parent} has "
                f"{free / 1e9:.1f} GB free, of which {SPARE_BYTES / 1e9:.0f} are left alone",
                hint="Free some disk space, or choose a models folder on another disk.",
            )
    with open(part, "ab") as out:
        http_get(
            url,
            out,
            resume_size=there,
            headers=build_hf_headers(token=False),
            expected_size=remote.size,
            displayed_filename=target.name,
            tqdm_class=_bar(progress),
        )
    if etag and not _is_what_the_hub_has(part, etag):
        part.unlink()
        raise DioramaError("E_DOWNLOAD", f"{target.name} arrived damaged and was thrown away")
    part.replace(target)
    checked_mark(target).write_text(etag + "\n", "ascii")


def _is_what_the_hub_has(path: Path, etag: str) -> bool:
    """Large files are known there by their sha256, small ones by their hash in git; others not at all."""
    if len(etag) == 64:
        return sha256(path) == etag
    if len(etag) == 40:
        data = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == etag
    return True


def _bar(progress: Progress) -> type[Any]:
    """A tqdm bar for the hub's client that reports to our progress, in MiB."""

    class Bar(tqdm):  # type: ignore[type-arg, misc]
        def __init__(self, *_args: Any, total: int | None = None, initial: int = 0, **_more: Any) -> None:
            super().__init__(disable=True)
            self._size, self._done = total, initial

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            mib = 1 << 20
            progress.step(self._done // mib, max(1, (self._size or self._done) // mib))

    return Bar


def _is_of_the_network(error: OSError) -> bool:
    """Whether it tells of a connection, not of our own disk: those have a number of the system's."""
    return isinstance(error, ConnectionError | TimeoutError | HTTPError) or error.errno is None


def _with_instructions(message: str, files: list[SourceFile], downloads: Path) -> DioramaError:
    by_hand = "; ".join(instructions(files, downloads))
    return DioramaError(
        "E_DOWNLOAD",
        message,
        hint=(
            "Try again with a connection (in Blender: Preferences → System → Allow Online Access); what has "
            f"arrived is kept. Or fetch by hand, and try again without one: {by_hand}."
        ),
    )
