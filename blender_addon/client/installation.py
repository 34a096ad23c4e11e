"""Carries out the installation of the backend's environment in a thread, and says how far it is in MB."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

from ..backend.shared.protocol import DioramaError
from .environment import STAMP, Plan

_BYTES = re.compile(r"Progress (\d+) of (\d+)")  # pip, if it is asked to tell its progress to a program
_FILE = re.compile(r"Downloading \S+ \(([\d.]+) ([kMG]?B)\)")
_UNITS = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
STEADY_S = 10.0  # before that, nothing is said of the time left


class Installation:
    """An installation that runs in a thread; the panel reads `step`, `line`, `done_mb` and `error`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = 0
        self.line = ""  # the last that pip said, for the log
        self.done_mb = 0  # downloaded so far
        self.error: DioramaError | None = None
        self.began = time.monotonic()
        self._before_mb = 0.0  # of the files before the current one
        self._file_mb = 0.0  # the whole current file
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

    @property
    def fraction(self) -> float:
        """How far it is: most of the time goes into the download, and the rest into unpacking."""
        steps = self.step / len(self.plan.steps)
        return max(steps * 0.9, min(self.done_mb / self.plan.size.download_mb, 1.0) * 0.8)

    @property
    def left_s(self) -> float | None:
        """How long it will still take, going by what it took so far; None while that says nothing."""
        elapsed = time.monotonic() - self.began
        if elapsed < STEADY_S or self.fraction < 0.05:
            return None
        return elapsed / self.fraction * (1 - self.fraction)

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
                    if not self._take(line.strip()):
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

    def _take(self, line: str) -> bool:
        """Counts what pip says it downloads; returns whether that is all that the line says."""
        if bytes_done := _BYTES.fullmatch(line):
            self.done_mb = int(self._before_mb + int(bytes_done[1]) / 1e6)
            return True
        if file := _FILE.match(line):
            self._before_mb += self._file_mb
            self._file_mb = float(file[1]) * _UNITS[file[2]]
            self.done_mb = int(self._before_mb)
        elif line.startswith("Installing collected packages"):
            self._before_mb, self._file_mb = self._before_mb + self._file_mb, 0.0
            self.done_mb = int(self._before_mb)
        return False


class Removal:
    """Deletes the environment in a thread; what it is called is gone at once."""

    def __init__(self, folder: Path) -> None:
        """Begins it.

        Raises:
            DioramaError: E_OUTPUT_UNWRITABLE if it cannot, E_ENVIRONMENT if the folder is no environment.
        """
        if not (folder / "pyvenv.cfg").is_file():
            raise DioramaError("E_ENVIRONMENT", f"{folder} is no Python environment; nothing was removed")
        aside = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
        try:
            folder.rename(aside)
        except OSError as error:
            raise DioramaError("E_OUTPUT_UNWRITABLE", f"cannot remove {folder}: {error.strerror}") from error
        self._thread = threading.Thread(
            target=shutil.rmtree, args=(aside, True), name="diorama-remove", daemon=False
        )
        self._thread.start()

    def wait(self) -> None:
        """Waits until the last file is gone."""
        self._thread.join()


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
