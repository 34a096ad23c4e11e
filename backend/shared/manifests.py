"""What the manifests of assets and models say of files: their names and checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

_CHUNK_BYTES = 16 << 20


def is_inside(name: str) -> bool:
    """Whether a file of that name, in a folder, lies within the folder, on every system."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """The checksum of a file, in hexadecimal; `on_bytes` is told how many more were read, and may raise."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if on_bytes:
                on_bytes(len(chunk))
    return digest.hexdigest()
