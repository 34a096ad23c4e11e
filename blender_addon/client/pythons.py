"""Finds the Pythons of this machine from which the backend's environment can be made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..backend.shared.protocol import DioramaError

OLDEST, NEWEST = (3, 11), (3, 13)  # that torch and the other packages are published for
NAMES = ("python3.12", "python3.11", "python3.13", "python3", "python")  # the first that will do is taken
_RAW_PROGRESS = (24, 1)  # the first pip that can tell its progress to a program
_ASK = (
    "import json, sys\n"
    "try: import ensurepip, venv; pip = ensurepip.version()\n"
    "except ImportError: pip = ''\n"
    "print(json.dumps([sys.version_info[:3], pip]))"
)


@dataclass(frozen=True)
class Python:
    """An interpreter, and whether it will do."""

    path: str
    version: tuple[int, ...]
    pip: str  # the version of pip that its environments begin with; empty if it can make none

    @property
    def obstacle(self) -> str:
        """Why it will not do, in words; empty if it will."""
        if self.version[:2] > NEWEST:
            return f"too new: packages are published up to {NEWEST[0]}.{NEWEST[1]}"
        if self.version[:2] < OLDEST:
            return f"too old: at least {OLDEST[0]}.{OLDEST[1]} is needed"
        return "" if self.pip else "cannot make environments: its venv or ensurepip is missing"

    @property
    def tells_progress(self) -> bool:
        """Whether its pip can say how many bytes it has downloaded."""
        return tuple(int(part) for part in self.pip.split(".")[:2] if part.isdigit()) >= _RAW_PROGRESS

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.path})"


def find() -> list[Python]:
    """All Pythons where they usually are, the preferred ones first, Blender's own last.

    Environments made from Blender's own break when Blender is updated.
    """
    found: dict[str, Python] = {}
    for path in _candidates():
        real = os.path.realpath(path)
        if real not in found and (python := ask(path)):
            found[real] = python
    return list(found.values())


def ask(path: str) -> Python | None:
    """What a program says of itself; None if it is no Python."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, TypeError):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        answer = subprocess.run(
            [path, "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=True,
            env=kept,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ).stdout
        version, pip = json.loads(answer)
        return Python(path, tuple(version), pip)
    return None


def choose(chosen: str = "") -> Python:
    """The Python to make an environment from: the one given, else the first that will do.

    Raises:
        DioramaError: E_ENVIRONMENT, naming those that were found and why they will not do.
    """
    if chosen:
        python = ask(chosen)
        if python is None or python.obstacle:
            reason = f"{python} is {python.obstacle}" if python else f"{chosen} is no Python"
            raise DioramaError("E_ENVIRONMENT", reason, hint="Choose another Python.")
        return python
    found = find()
    usable = [python for python in found if not python.obstacle]
    if usable:
        return usable[0]
    wanted = f"found no Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} that can make environments"
    seen = "; ".join(f"{python} is {python.obstacle}" for python in found)
    raise DioramaError(
        "E_ENVIRONMENT",
        f"{wanted}: {seen}" if seen else wanted,
        hint="Install Python 3.12 (on Debian and Ubuntu also python3-venv), then try again, or choose one.",
    )


def _candidates() -> Iterator[str]:
    for name in NAMES:
        if path := shutil.which(name):
            yield path
    folders = [(Path.home() / ".pyenv/versions", "*/bin/python3")]
    folders.append((Path.home() / ".local/share/uv/python", "*/bin/python3"))
    folders.append((Path("/opt/homebrew/bin"), "python3.1[1-3]"))
    if local := os.environ.get("LOCALAPPDATA"):
        folders.append((Path(local) / "Programs" / "Python", "Python31[1-3]/python.exe"))
    for folder, pattern in folders:
        with contextlib.suppress(OSError):
            yield from (str(path) for path in sorted(folder.glob(pattern)))
    yield sys.executable
