"""Makes, checks and repairs the Python environment in which the backend runs."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from ..backend.shared.protocol import DioramaError
from . import pythons, torch_builds
from .pythons import Python
from .torch_builds import Size

State = Literal["missing", "broken", "outdated", "ready"]
STAMP = "diorama.sha256"  # written last: the environment is whole, and made from these requirements


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of an installation, and what it is called while it runs."""

    title: str
    argv: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an installation will do, for the user to read before it is done.

    Attributes:
        torch: which build of it, and why that one.
    """

    folder: Path
    python: Python
    steps: tuple[Step, ...]
    stamp: str
    torch: str
    size: Size


def default_folder() -> Path:
    """A short path outside of Blender's folders: it outlives updates, and Windows limits path lengths."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "diorama" / "env"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "diorama" / "env"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "diorama" / "env"


def python_in(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def backend_python(chosen: str, folder: Path) -> Path:
    """The Python that starts the backend: the one the user chose, else our environment's.

    Raises:
        DioramaError: E_ENVIRONMENT if there is none.
    """
    if chosen:
        if not Path(chosen).is_file():
            raise DioramaError(
                "E_ENVIRONMENT",
                f"the backend Python in the preferences does not exist: {chosen}",
                hint="Correct the path in the add-on's preferences, or empty it and press Install Backend.",
            )
        return Path(chosen)
    if not (folder / STAMP).is_file():
        raise DioramaError("E_ENVIRONMENT", "the backend is not installed yet")
    return python_in(folder)


def state(requirements: Path, folder: Path) -> State:
    """What is there: `broken` is one that was begun and not finished, or whose Python is gone."""
    if not folder.exists():
        return "missing"
    stamp = folder / STAMP
    if not stamp.is_file() or not python_in(folder).is_file():
        return "broken"
    return "ready" if stamp.read_text("ascii").strip() == _hash(requirements) else "outdated"


def plan(requirements: Path, folder: Path, chosen: str = "", build: str = "") -> Plan:
    """Works out an installation, or a repair of what is there, without doing anything.

    Args:
        chosen: the Python to make it from; the best that is found if empty.
        build: the name of a build of torch; the one for this machine's GPU if empty.

    Raises:
        DioramaError: E_ENVIRONMENT if no usable Python is found or no torch is published for this machine,
            E_DISK_FULL if the disk is too small.
    """
    if not torch_builds.offered():
        raise DioramaError(
            "E_ENVIRONMENT",
            "torch is not published for Macs with Intel's processors",
            hint="Let another computer do the work: name it in the add-on's preferences.",
        )
    python = pythons.choose(chosen)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    torch, why = torch_builds.choose(build)
    expected = torch.size
    if free_gb < expected.needed_gb:
        raise DioramaError(
            "E_DISK_FULL",
            f"the backend needs {expected.needed_gb:.0f} GB and {existing} has {free_gb:.1f} GB free",
        )
    install: tuple[str, ...] = (
        str(python_in(folder)),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
    )
    if python.tells_progress:
        install += ("--progress-bar", "raw")
    packages = [line for line in requirements.read_text("utf-8").split() if line.startswith("torch==")]
    index = ("--index-url", torch.index) if torch.index else ()
    steps = [
        # --clear: a repair begins from nothing, whatever state an interrupted one left
        Step("Making the environment", (python.path, "-m", "venv", "--clear", str(folder))),
        # alone and first: it is most of the download, and what comes after takes the one that is there
        *(Step("Installing torch, the largest package", (*install, *index, package)) for package in packages),
        Step("Installing the other packages", (*install, "-r", str(requirements))),
        Step("Checking it", (str(python_in(folder)), "-c", "import torch, diffusers, transformers, numba")),
    ]
    return Plan(folder, python, tuple(steps), _hash(requirements), f"{torch.title}: {why}", expected)


def _hash(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()
