"""The jobs of this and earlier sessions, each a small file on disk that survives a crash of Blender."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ..backend.shared import output_folder
from ..backend.shared.job_file import folder_name
from ..backend.shared.protocol import DioramaError
from ..backend.shared.reconstruction import Request, read_request
from ..backend.shared.request import SIDES

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
INTERRUPTED = "interrupted"  # by the end of Blender; it can be run again
MOST_RECORDS = 100
MOST_LETTERS = 60  # of a prompt, in a title
_DECIDES_TIME = (
    "model",
    "views",
    "frames",
    "preset",
    "steps",
    "mesh",
    "method",
    "fast",
    "gaussians",
    "splats",
    "iterations",
    "resolution",
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One request and what became of it."""

    id: str
    request: dict[str, Any]
    directory: str
    state: str = QUEUED
    error: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    peak_mib: int | None = None
    owner: str = ""  # the Blender that runs it: the name of a lock that the system frees when it ends
    made_folder: bool = False  # the directory was empty, or not there before

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in (QUEUED, RUNNING)

    @property
    def title(self) -> str:
        """How a person calls it: the prompt, cut where that is long, and the seed."""
        what = self.request["prompt"] or Path(self.request.get("image") or "").name
        if len(what) > MOST_LETTERS:
            what = f"{what[:MOST_LETTERS].rsplit(' ', 1)[0].rstrip(' ,.')} …"
        return f"{what} · seed {self.request['seed']}"

    @property
    def name(self) -> str:
        """What it makes: the prompt, or the name of the image."""
        return str(self.request["prompt"] or Path(self.request.get("image") or "").stem)

    @property
    def asked_at(self) -> float:
        """When it was asked for, in seconds since 1970."""
        return time.mktime(time.strptime(self.id[:15], "%Y%m%d-%H%M%S"))

    def is_like(self, other: Job) -> bool:
        """Whether it goes through the same stages in about the same time."""
        return all(self.request.get(key) == other.request.get(key) for key in _DECIDES_TIME) and all(
            bool(self.request.get(name)) == bool(other.request.get(name)) for name in SIDES
        )

    def raise_if_failed(self) -> None:
        """Raises the error of a job that did not end well."""
        if self.error is not None:
            raise DioramaError.from_dict(self.error)


class Store:
    """A folder with one JSON file per job; the generated assets themselves live elsewhere.

    Every Blender that has jobs holds a lock in it for as long as it lives, so that others can tell a job that
    is running from one that was left when a Blender was killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.owner = secrets.token_hex(8)
        self._held: BinaryIO | None = None
        self.elsewhere: set[Path] = set()  # records of unfinished jobs of other Blenders
        self._to_do: set[Path] = set()  # records of jobs that are queued, or can be gone on with

    def load(self) -> list[Job]:
        """All jobs, oldest first; damaged files are skipped.

        A job that its Blender left unfinished was interrupted; what is half-written in its folder is thrown
        away. One whose Blender still runs is that one's business, and left out: `load_ended` looks again.
        """
        return self._load(self._folder.glob("*.json"))

    def load_ended(self) -> list[Job]:
        """Those of the jobs left out that have ended since, or whose Blender has; as `load`.

        One that was killed may hold its lock for some seconds: the system first takes back its memory.
        """
        return self._load(self.elsewhere)

    def _load(self, paths: Iterable[Path]) -> list[Job]:
        found = []
        for path in sorted(paths):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                found.append(_from_json(path.read_text("utf-8")))
                self._mark(found[-1])  # all of them before one is saved, which forgets the oldest
        jobs = []
        self.elsewhere = set()
        living: dict[Path, bool] = {}
        for job in found:
            if not job.finished:
                lock = self._lock_path(job.owner)
                if lock not in living:
                    living[lock] = bool(job.owner) and _is_held(lock)
                if living[lock]:
                    self.elsewhere.add(self._path(job))
                    continue
                error = DioramaError(
                    "E_WORKER_DIED", "Blender ended before this job did", hint="Run it again."
                )
                interrupted = dataclasses.replace(job, state=INTERRUPTED, error=error.to_dict())
                clean_up(interrupted)
                with contextlib.suppress(DioramaError):
                    self.save(interrupted)
                jobs.append(interrupted)
            else:
                jobs.append(job)
        for lock, lives in living.items():
            if not lives:
                lock.unlink(missing_ok=True)
        return jobs

    def save(self, job: Job) -> None:
        """Writes one job whole or not at all, and forgets the oldest beyond what a person looks through.

        Raises:
            DioramaError: E_OUTPUT_UNWRITABLE.
        """
        path = self._path(job)
        partial = path.with_suffix(".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._held is None and job.owner == self.owner:
                self._held = _lock(self._lock_path(self.owner))
            partial.write_text(json.dumps(dataclasses.asdict(job), indent=1), "utf-8")
            os.replace(partial, path)
            self._mark(job)
            for old in sorted(self._folder.glob("*.json"))[:-MOST_RECORDS]:
                if old not in self._to_do:  # a queue may be longer than what is looked through
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise DioramaError(
                "E_OUTPUT_UNWRITABLE", f"cannot write {path}: {error.strerror or error}"
            ) from error

    def _mark(self, job: Job) -> None:
        wanted = not job.finished or job.state == INTERRUPTED
        (self._to_do.add if wanted else self._to_do.discard)(self._path(job))

    def remove(self, job: Job) -> None:
        """Forgets a job; its asset stays."""
        self._path(job).unlink(missing_ok=True)

    def close(self) -> None:
        """Says that this Blender has no jobs any more."""
        if self._held is not None:
            self._held.close()
            self._held = None
            self._lock_path(self.owner).unlink(missing_ok=True)

    def _path(self, job: Job) -> Path:
        return self._folder / f"{job.id}.json"

    def _lock_path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"


def new_job(request: Request, directory: Path) -> Job:
    """A job that waits; its id sorts by time and is unique among several Blenders."""
    seconds, fraction = divmod(time.time_ns(), 10**9)  # of one clock, so that names sort by time
    moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(seconds))
    identity = f"{moment}-{fraction:09d}-{secrets.token_hex(2)}"
    return Job(identity, request.to_dict(), str(directory))


def clean_up(job: Job) -> None:
    """Throws away what is half-written of a job that did not end well, and the folder made for it."""
    directory = Path(job.directory)
    if job.made_folder:
        output_folder.clear(directory)
    else:
        output_folder.clear_partial(directory)


def new_directory(parent: Path, request: Request) -> Path:
    """Makes the folder of this request, or one with a number behind its name if that exists: so a job that
    waits, here or in another Blender, shares its folder with none.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE or E_DISK_FULL.
    """
    directory = named = parent / folder_name(request)
    numbers = itertools.count(2)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                directory.mkdir()
            except FileExistsError:
                directory = named.with_name(f"{named.name}-{next(numbers)}")
            else:
                return directory
    except OSError as error:
        raise output_folder.unwritable(directory, error) from error


def directory_again(job: Job, parent: Path) -> Path:
    """Where a job is made once more: where it was to be if it was interrupted before it made that.

    Raises:
        DioramaError: as `new_directory`, or if the request is none any more.
    """
    if job.state == INTERRUPTED and not os.path.lexists(job.directory):
        return Path(job.directory)
    return new_directory(parent, read_request(job.request))


def _lock(path: Path) -> BinaryIO | None:
    """The file, locked until it is closed or this process ends; None if it is locked already."""
    file = open(path, "ab")  # noqa: SIM115  it stays open
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _is_held(path: Path) -> bool:
    """Whether a process that lives has locked the file."""
    if not path.exists():
        return False
    with contextlib.suppress(OSError):
        if file := _lock(path):
            file.close()
            return False
    return True


def _from_json(text: str) -> Job:
    data = json.loads(text)
    request = data["request"]
    if not isinstance(request["prompt"], str) or not isinstance(request["seed"], int):
        raise ValueError("a request that cannot be shown")
    return Job(**{**data, "warnings": tuple(data["warnings"]), "stages": tuple(data["stages"])})
