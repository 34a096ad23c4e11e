"""Makes, checks and repairs the Python environment in which the backend runs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from ..backend.shared.protocol import DioramaError

PYTHONS = ("python3.12", "python3.11", "python3.13", "python3", "python")
# Installed, with pip's downloads beside it; on Linux and Windows torch may bring libraries for NVIDIA GPUs.
NEEDED_GB = 4.0 if sys.platform == "darwin" else 10.0
STAMP = "diorama.sha256"  # written last: the environment is whole, and made from these requirements


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of an installation, and what it is called while it runs."""

    title: str
    argv: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an installation will do, for the user to read before it is done."""

    folder: Path
    python: str
    steps: tuple[Step, ...]
    stamp: str


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


def state(requirements: Path, folder: Path) -> str:
    """`missing`, `broken` (begun and not finished, or its Python is gone), `outdated`, or `ready`."""
    if not folder.exists():
        return "missing"
    stamp = folder / STAMP
    if not stamp.is_file() or not python_in(folder).is_file():
        return "broken"
    return "ready" if stamp.read_text("ascii").strip() == _hash(requirements) else "outdated"


def plan(requirements: Path, folder: Path) -> Plan:
    """Works out an installation, or a repair of what is there, without doing anything.

    Raises:
        DioramaError: E_ENVIRONMENT if no usable Python is found, E_DISK_FULL if the disk is too small.
    """
    python = _find_python()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    if free_gb < NEEDED_GB:
        raise DioramaError(
            "E_DISK_FULL", f"the backend needs {NEEDED_GB:.0f} GB and {existing} has {free_gb:.1f} GB free"
        )
    install = (str(python_in(folder)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input")
    torch = [line for line in requirements.read_text("utf-8").split() if line.startswith("torch==")]
    steps = [
        # --clear: a repair begins from nothing, whatever state an interrupted one left
        Step("Making the environment", (python, "-m", "venv", "--clear", str(folder))),
        # alone and first: it is most of the download, and what comes after takes the one that is there
        *(Step("Installing torch, the largest package", (*install, package)) for package in torch),
        Step("Installing the other packages", (*install, "-r", str(requirements))),
        Step("Checking it", (str(python_in(folder)), "-c", "import torch, diffusers, transformers, numba")),
    ]
    return Plan(folder, python, tuple(steps), _hash(requirements))


class Installation:
    """An installation that runs in a thread; the panel reads `step`, `line` and `error`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = 0
        self.line = ""
        self.error: DioramaError | None = None
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="diorama-install", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    @property
    def title(self) -> str:
        """What it is doing."""
        return self.plan.steps[min(self.step, len(self.plan.steps) - 1)].title

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            DioramaError: it failed.
        """
        self._thread.join()
        if self.error:
            raise self.error

    def cancel(self) -> None:
        """Stops it; what is there then counts as broken, and the next installation begins anew."""
        self._cancelled = True
        if self._process:
            with contextlib.suppress(OSError):
                self._process.kill()

    def _run(self) -> None:
        lines: list[str] = []
        try:
            self.plan.folder.parent.mkdir(parents=True, exist_ok=True)
            for i, step in enumerate(self.plan.steps):
                self.step = i
                if self._cancelled:
                    break
                self._process = _popen(step.argv)
                if self._cancelled:  # in the moment before there was a process to kill
                    self._process.kill()
                assert self._process.stdout is not None
                for line in self._process.stdout:
                    self.line = line.strip()
                    lines = [*lines[-39:], self.line]
                if self._process.wait() and not self._cancelled:
                    raise DioramaError(
                        "E_ENVIRONMENT",
                        f"{step.title.lower()} failed: {self.line}",
                        hint="Check the network, proxy and disk space, then press Install Backend again.",
                        detail="\n".join(lines),
                    )
            if self._cancelled:
                raise DioramaError("E_CANCELLED", "the installation was cancelled")
            (self.plan.folder / STAMP).write_text(self.plan.stamp, "ascii")
        except DioramaError as error:
            self.error = error
        except OSError as error:
            self.error = DioramaError("E_ENVIRONMENT", f"cannot install: {error.strerror or error}")


def _popen(argv: tuple[str, ...]) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _find_python() -> str:
    """A Python of the system, else Blender's own, whose environments break when Blender is updated."""
    check = "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
    for name in (*PYTHONS, sys.executable):
        path = shutil.which(name)
        if path:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                process = _popen((path, "-c", check))
                if process.wait(20) == 0:
                    return path
    raise DioramaError(
        "E_ENVIRONMENT",
        "found no Python 3.11 to 3.13 that can make environments",
        hint="Install Python 3.12 (on Debian and Ubuntu also python3-venv), then try again.",
    )


def _hash(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()
