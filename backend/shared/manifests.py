"""The manifests of assets and models: which files there are, their sizes and checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .progress import Progress
from .protocol import DioramaError

SCHEMA = 1
MANIFEST = "manifest.json"
_CHUNK_BYTES = 16 << 20


def is_inside(name: str) -> bool:
    """Whether a file of that name, in a folder, lies within the folder, on every system."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and not set("\\:\0") & set(name)


def sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """The checksum of a file, in hexadecimal; `on_bytes` is told how many more were read, and may raise."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if on_bytes:
                on_bytes(len(chunk))
    return digest.hexdigest()


def seal(
    folder: Path,
    name: str,
    sources: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes the manifest of all files in a model's folder; from then on it counts as installed.

    Args:
        sources: size and sha256 of the published files it was made from, by name.
    """
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder) != Path(MANIFEST)
    )
    sizes = {path: path.stat().st_size for path in paths}
    meter = Meter(sum(sizes.values()), progress)
    files = {
        path.relative_to(folder).as_posix(): {"size": sizes[path], "sha256": sha256(path, meter.add)}
        for path in paths
    }
    manifest = {"schema": SCHEMA, "model": name, "files": files, "sources": dict(sources or {})}
    unfinished = folder / f".{MANIFEST}"
    unfinished.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    unfinished.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model's folder.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if there is none, E_WEIGHTS_CORRUPT if it cannot be what `seal` wrote.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest["schema"] > SCHEMA:
            raise DioramaError(
                "E_WEIGHTS_CORRUPT", f"{folder} was made by a newer Diorama", hint="Update the extension."
            )
        for name, entry in manifest["files"].items():
            if not is_inside(name) or entry["size"] < 0 or len(entry["sha256"]) != 64:
                raise ValueError(name)
    except FileNotFoundError as error:
        raise DioramaError("E_WEIGHTS_MISSING", f"there is no finished model in {folder}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DioramaError("E_WEIGHTS_CORRUPT", f"{path} is damaged: {error!r}") from error
    assert isinstance(manifest, dict)
    return manifest


class Meter:
    """Counts bytes that were read, and reports them as steps of the progress's current stage."""

    def __init__(self, total: int, progress: Progress | None = None) -> None:
        self.total = total
        self._done = 0
        self._progress = progress

    def add(self, count: int) -> None:
        self._done += count
        if self._progress and self.total:
            mib = 1 << 20
            self._progress.step(self._done // mib, max(1, self.total // mib))


def size_problem(folder: Path, name: str, entry: Mapping[str, Any]) -> str:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    return "" if size == entry["size"] else f"{name} has {size} bytes instead of {entry['size']}"
