"""Output folders and files: which of them are ours, so that nothing of the user's is ever replaced.

A folder of ours has a manifest, a JSON file whose `files` give the size and the sha256 of every file that was
made. While files are moved into their places, `<manifest>.partial` says the same of those that are to come:
whenever the process is killed, the next one knows what in the folder is ours.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .manifests import is_inside, sha256
from .protocol import DISK_FULL, DioramaError

_PREFIX = ".partial-"
# As tempfile names them; and a .blend file, of which Blender first makes one with an @ at the end.
_PARTIAL = re.compile(r"\.partial-[a-z0-9_]{8}(\.blend@?)?")
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # systems put them into every folder that is looked at


@dataclass(frozen=True)
class Layout:
    """What a kind of output folder holds."""

    manifest: str
    names: frozenset[str]  # of all files and folders in it that we may write, the manifest included
    folders: frozenset[str] = frozenset()  # of them, those that have manifests of their own


def claim(directory: Path, layout: Layout, expected: Collection[Path] = ()) -> None:
    """Make a folder ready for output, and throw away what killed processes of ours left half-written in it.

    Ready is a folder that is empty, or that has our manifest and, under the names that will be written,
    nothing but the files that the manifest lists, unchanged.

    Args:
        expected: files that were just put there for this very output.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE, naming what is not ours.
        OSError: it cannot be made or read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    clear_partial(directory)
    ours = _manifests(directory, layout)
    known = {name: entry for _, files in ours for name, entry in files.items()}
    pairs = {(name, entry) for _, files in ours for name, entry in files.items()}
    for path in _files(directory, layout.folders):
        name = path.relative_to(directory).as_posix()
        if path in expected or any(path == manifest for manifest, _ in ours):
            continue
        if ours and PurePosixPath(name).parts[0] not in layout.names:
            continue  # beside ours, and not in the way
        if name in known and not path.is_symlink() and (name, (path.stat().st_size, sha256(path))) in pairs:
            continue
        what = "has been changed since it was made" if name in known else "was not made by Diorama"
        raise DioramaError(
            "E_OUTPUT_UNWRITABLE",
            f"{directory} is not free for output: {name} {what}",
            "Choose an empty or a new folder, or move that file away: nothing of yours is replaced.",
        )


def finish(directory: Path, layout: Layout, manifest: dict[str, Any], staging: Path) -> None:
    """Move finished files from a folder aside into their places; those of the earlier manifest go.

    Args:
        manifest: with the `files` of the folder; of these, the ones that are not in `staging` stay.
    """
    pending = directory / f"{layout.manifest}.partial"
    names = list(manifest["files"])
    stay = {name for name in names if not (staging / name).exists()}
    for _, files in _manifests(directory, layout):
        for name in files.keys() - stay:
            (directory / name).unlink(missing_ok=True)
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    # What is no text, as in names of files that are not UTF-8, becomes JSON's own escape.
    (staging / "manifest").write_bytes(text.encode("utf-8", "backslashreplace"))
    os.replace(staging / "manifest", pending)
    (directory / layout.manifest).unlink(missing_ok=True)  # until all is there, the folder is not finished
    for name in names:
        if name not in stay:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, directory / name)
    os.replace(pending, directory / layout.manifest)


def is_finished(directory: Path, layout: Layout) -> bool:
    """Whether a folder of ours holds everything that its manifest lists."""
    made = [files for path, files in _manifests(directory, layout) if path.name == layout.manifest]
    return bool(made) and all((directory / name).is_file() for name in made[0])


def listed(folder: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Files as a manifest lists them."""
    return {
        name: {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in sorted(names)
    }


@contextlib.contextmanager
def partial_folder(directory: Path) -> Iterator[Path]:
    """A folder in another one, for what is half-written; it is gone afterwards."""
    staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def partial_blend(directory: Path) -> Path:
    """A name in a folder for a .blend file that is half-written: beside its place, since paths in it are
    relative."""
    return directory / f"{_PREFIX}{secrets.token_hex(4)}.blend"


def clear_partial(directory: Path) -> None:
    """Throw away what is half-written in a folder, of processes that are gone."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if not _PARTIAL.fullmatch(path.name) or path.is_symlink():
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix:
                path.unlink()


def clear(directory: Path) -> None:
    """Throw away what a job that did not end well left of its folder: all that is half-written, and the
    folder if no file is in it."""
    clear_partial(directory)
    for parent, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(parent)


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Where to write a file, beside its place: it comes there when it is whole, or not at all.

    Raises:
        OSError: it cannot be written, or something has that name that is no plain file, or one that is
            read-only; what was there stays.
    """
    target = Path(os.path.realpath(path))  # the file that a link leads to, not the link
    if os.path.lexists(target) and not target.is_file():
        raise OSError(errno.EINVAL, "there is something that is no plain file", str(target))
    if target.is_file() and not target.stat().st_mode & 0o222:
        raise OSError(errno.EACCES, "there is a file that is read-only", str(target))
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def unwritable(path: Path | str, error: OSError) -> DioramaError:
    """Why a folder or a file cannot be written, in words."""
    if error.errno in DISK_FULL:
        return DioramaError(
            "E_DISK_FULL", f"no space left for {path}", "Free some space or choose another folder."
        )
    return DioramaError(
        "E_OUTPUT_UNWRITABLE",
        f"{path} cannot be written: {error.strerror or error}",
        "Choose a place you may write to.",
    )


def not_saved(path: Path, reason: str) -> DioramaError:
    """Why Blender could not save a file: it does not always say that the disk is full."""
    if shutil.disk_usage(path.parent).free < 1 << 20 or os.strerror(errno.ENOSPC) in reason:
        return unwritable(path, OSError(errno.ENOSPC, reason))
    return unwritable(path, OSError(errno.EIO, reason.removeprefix("Error: ").strip()))


_Files = dict[str, tuple[int, str]]  # name -> size, sha256


def _manifests(directory: Path, layout: Layout) -> list[tuple[Path, _Files]]:
    """The manifests of ours in a folder, of what is there and of what is to come, with their files."""
    found = []
    for path in (directory / layout.manifest, directory / f"{layout.manifest}.partial"):
        try:
            files = json.loads(path.read_text("utf-8"))["files"]
            entries = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # not there, or not ours
        found.append(
            (
                path,
                {
                    name: entry
                    for name, entry in entries.items()
                    if is_inside(name) and isinstance(entry[0], int) and isinstance(entry[1], str)
                },
            )
        )
    return found


def _files(directory: Path, folders: Collection[str]) -> Iterator[Path]:
    """All files in a folder and the folders in it, links too, but what systems put there, and but folders of
    those names."""
    for parent, below, names in os.walk(directory):
        here = Path(parent)
        links = [name for name in below if (here / name).is_symlink()]
        below[:] = [name for name in below if name not in links]
        if here == directory:
            below[:] = [name for name in below if name not in folders]
        yield from (here / name for name in (*names, *links) if name not in _LITTER)
