"""Published files that wait to be converted: what they are called, where they go, which are there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .catalogue import MODELS, Model, Source, SourceFile

_FILES = [file for model in MODELS.values() for part in model.components for file in part.files]
# Folders that belong to another source, or to one network.
_NOT_ARCHIVES = {file.source.folder for file in _FILES} | {
    PurePosixPath(name).parts[0] for file in _FILES for name in file.names
}


def downloads_of(root: Path) -> Path:
    """The folder of all files that wait; each source has a folder in it."""
    return root / "downloads"


def find(file: SourceFile, folders: Iterable[Path]) -> Path | None:
    """A published file, or another with the same network in it, under the first folder that has one.

    Archives put everything into a folder of their own, so one level of folders is looked through.
    """
    for folder in folders:
        named = [folder / file.source.folder, folder / file.source.repo.rpartition("/")[2], folder]
        for name in file.names:
            for base in dict.fromkeys(named):
                if (base / name).is_file():
                    return base / name
        for base in dict.fromkeys(named):
            below = sorted(
                path for path in base.glob("*") if path.is_dir() and path.name not in _NOT_ARCHIVES
            )
            for name in file.names:
                for inner in below:
                    if (inner / name).is_file():
                        return inner / name
    return None


def instructions(files: Iterable[SourceFile], downloads: Path) -> list[str]:
    """A sentence for each source: which files of it, where it is published, where they go."""
    by_source: dict[Source, list[str]] = {}
    for file in files:
        size = f" ({file.size_gb:g} GB)" if file.size_gb else ""
        by_source.setdefault(file.source, []).append(file.name + size)
    return [
        f"{', '.join(names)} from {source.page} into {downloads / source.folder}"
        for source, names in by_source.items()
    ]


def partial_file(target: Path, version: str) -> Path:
    """Where a download is kept until it is complete; another version of the file has another name."""
    return target.with_name(f".{target.name}.{version[:16]}.part")


def checked_mark(target: Path) -> Path:
    """The file that says: this one was downloaded by us, completely."""
    return target.with_name(f".{target.name}.downloaded")


def downloaded_files(model: Model, root: Path) -> list[Path]:
    """What was downloaded for a model, completely or in part; not what somebody put there."""
    found: list[Path] = []
    for file in model.files:
        for name in file.names:
            target = downloads_of(root) / file.source.folder / name
            found += target.parent.glob(f".{target.name}.*.part")
            if checked_mark(target).is_file():
                found += [path for path in (target, checked_mark(target)) if path.is_file()]
    return found
