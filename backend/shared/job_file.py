"""Reads a job file: one request a line, the same for Blender, the command line and every engine."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .asset import MANIFEST, image_sha256, read_asset
from .protocol import DioramaError
from .reconstruction import Request
from .request import GenerationRequest

RECORDS = ".jobs"  # the folder within the output folder of what became of the jobs, and of claims on them
# With what is put beside it, a folder's name must stay below the 255 bytes of most disks.
NAME_CHARACTERS, NAME_BYTES = 100, 200
REPORTS = ("report.json", "report.html")  # of the batch, beside the folders of its jobs
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """One line of a job file.

    Attributes:
        name: of its folder within the output folder, unique in the file.
        line: in the file, from 1.
    """

    name: str
    request: GenerationRequest
    line: int

    @property
    def prompt(self) -> str:
        """What a person calls it: its prompt, or the name of its image."""
        return self.request.prompt or Path(self.request.image or "").name


@dataclasses.dataclass(frozen=True)
class BrokenLine:
    """A line that is no request, which stops none of the others."""

    line: int
    error: DioramaError


def read_job_file(
    path: Path, defaults: Mapping[str, Any] | None = None, first: int = 1, last: int | None = None
) -> tuple[list[BatchJob], list[BrokenLine]]:
    """The jobs of a file, in its order, and its broken lines. A line that repeats another is left out.

    Each line is a JSON object of `GenerationRequest`'s fields, and `name` if its folder is to have one of
    the user's. Images are beside the file unless their path is absolute.

    Args:
        defaults: fields that a line need not repeat, for example from the command line.
        first, last: of the lines that are wanted, from 1; the whole file is read all the same, since names
            are unique in it.

    Raises:
        DioramaError: E_REQUEST if the file cannot be read, or holds no line at all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DioramaError(
            "E_REQUEST", f"cannot read {path}: {reason}", "A job file is UTF-8 text, one JSON object a line."
        ) from error
    jobs: dict[str, BatchJob] = {}  # by the name that a disk without cases would see
    broken = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):  # not splitlines: for U+2028 in strings
        if not line.strip():
            continue
        try:
            job = _read_line(line, number, path.resolve().parent, defaults or {})
            other = jobs.setdefault(unicodedata.normalize("NFC", job.name).casefold(), job)
            if other.request != job.request:
                raise DioramaError(
                    "E_REQUEST",
                    f"the name {job.name!r} is that of line {other.line} too, which is another request",
                    "Give each job a name of its own, or leave the names out.",
                )
        except DioramaError as error:
            where = f"{path}:{number}: {error.message}"
            broken.append(BrokenLine(number, DioramaError(error.code, where, error.hint, error.detail)))
    if not jobs and not broken:
        raise DioramaError(
            "E_REQUEST", f"{path} holds no job", 'Write one a line, for example {"prompt": "a red mushroom"}.'
        )
    wanted = range(first, (len(text) if last is None else last) + 1)
    return [job for job in jobs.values() if job.line in wanted], [
        line for line in broken if line.line in wanted
    ]


def folder_name(request: Request) -> str:
    """The folder name of a request: its words, its seed and its identity, `a-red-mushroom-7-1f3a…`.

    The words are of every script. The identity is that of all settings, and of what is in the images' files.
    """
    what = unicodedata.normalize("NFC", request.prompt or Path(request.image or "").stem).lower()
    # Marks too: they are the vowels of many scripts.
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in what)
    words = "-".join(kept.split()).encode()[:60].decode("utf-8", "ignore").strip("-") or "prompt"
    identity = hashlib.sha256(json.dumps(request.to_dict(), sort_keys=True).encode())
    for path in map(Path, request.images.values()):
        if path.is_file():  # else the job itself will say so
            with contextlib.suppress(OSError):
                identity.update(path.read_bytes())
    return f"{words}-{request.seed}-{identity.hexdigest()[:16]}"


def is_complete(directory: Path, request: GenerationRequest) -> bool:
    """Whether an asset folder holds the result of this very request, to the last file.

    Raises:
        DioramaError: E_REQUEST if it holds that of another request, or of an image that has changed since.
    """
    if not (directory / MANIFEST).is_file():
        return False
    try:
        found = read_asset(directory)
    except DioramaError:
        return False  # damaged: it is made again
    hint = "Give the job another name, or choose another output folder."
    if found.request != request.to_dict():
        raise DioramaError("E_REQUEST", f"{directory} holds the result of another request", hint)
    image = image_sha256(found.request)
    if image and found.image_sha256 and image != found.image_sha256:
        raise DioramaError(
            "E_REQUEST", f"{directory} holds the result of {request.image} as it was before", hint
        )
    return True


def _read_line(line: str, number: int, beside: Path, defaults: Mapping[str, Any]) -> BatchJob:
    try:
        data = json.loads(line, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise DioramaError("E_REQUEST", f"not JSON: {error}", "Each line is one JSON object.") from error
    name = data.pop("name", None) if isinstance(data, dict) else None
    request = GenerationRequest.from_dict({**defaults, **data} if isinstance(data, dict) else data)
    request = request.with_images({name: str(beside / path) for name, path in request.images.items()})
    return BatchJob(folder_name(request) if name is None else _checked(name), request, number)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(repeated)} is given more than once")
    return dict(pairs)


def _checked(name: Any) -> str:
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= NAME_CHARACTERS
        or re.search(r'[\x00-\x1f<>:"/\\|?*\ud800-\udfff]', name)
        or name[0] in ". "
        or name[-1] in ". "
        or name.partition(".")[0].lower() in RESERVED
        or name.casefold() in REPORTS
        or len(name.encode()) > NAME_BYTES
    ):
        raise DioramaError(
            "E_REQUEST",
            f"name is {name!r}; expected the name of a folder, at most {NAME_CHARACTERS} characters, or "
            f"{NAME_BYTES} bytes",
            'It may not begin or end with a dot or a space, or hold any of < > : " / \\ | ? *.',
        )
    return name
