"""How a running job tells what it is doing, measures its stages, and learns that it was cancelled."""

from __future__ import annotations

import io
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from .protocol import DioramaError

Emit = Callable[[str, dict[str, Any]], None]
LOG_EVERY_S = 10.0  # a farm takes a silent task for a dead one


class Progress:
    """Passed to every pipeline: what it reports goes to `emit(event, fields)`, if somebody listens.

    Events: `stage {stage}`, `progress {stage, step, total, eta_s}`, `preview {path}`, `log {level, message}`.
    A pipeline calls `stage` once per stage and `step` at least once per network evaluation, so that a
    cancel is obeyed within one of them.
    """

    def __init__(self, emit: Emit | None = None) -> None:
        self._emit = emit or (lambda event, fields: None)
        self._cancelled = threading.Event()
        self._stage = ""
        self._started = time.monotonic()
        self.stages: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def stage(self, name: str) -> None:
        """A new stage begins, named in words for the user; the one before it is measured."""
        self.raise_if_cancelled()
        self.finish()
        self._stage, self._started = name, time.monotonic()
        self._emit("stage", {"stage": name})

    def step(self, i: int, total: int) -> None:
        """`i` of `total` steps of this stage are done; the remaining time is worked out from them."""
        self.raise_if_cancelled()
        elapsed = time.monotonic() - self._started
        eta_s = round(elapsed / i * (total - i), 1) if i else None
        self._emit("progress", {"stage": self._stage, "step": i, "total": total, "eta_s": eta_s})

    def preview(self, path: Path | str, views: int) -> None:
        """A contact sheet of some views of the unfinished result has been written."""
        self._emit("preview", {"path": str(path), "views": views})

    def log(self, level: str, message: str) -> None:
        """A sentence for the user; `level` is "info" or "warning". Warnings are kept with the result."""
        if level == "warning":
            self.warnings.append(message)
        self._emit("log", {"level": level, "message": message})

    def finish(self) -> None:
        """Ends the last stage: its seconds and the process's peak memory so far go into `stages`."""
        if self._stage:
            seconds = round(time.monotonic() - self._started, 3)
            self.stages.append({"stage": self._stage, "seconds": seconds, "peak_mib": peak_memory_mib()})
            self._stage = ""

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of each finished stage."""
        return {stage["stage"]: stage["seconds"] for stage in self.stages}

    def cancel(self) -> None:
        """Asks the job to stop at its next step; safe to call from any thread."""
        self._cancelled.set()

    def raise_if_cancelled(self) -> None:
        """Raises E_CANCELLED if somebody asked the job to stop."""
        if self._cancelled.is_set():
            raise DioramaError("E_CANCELLED", "the job was cancelled")


def peak_memory_mib() -> int | None:
    """The most memory that this process has had resident, in MiB; None where the system does not say."""
    try:
        # Not ru_maxrss first: on Linux a started process inherits that from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
    except (OSError, IndexError):
        pass
    if sys.platform != "darwin":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def forgive_encodings() -> None:
    """Let the terminal, or a file in its place, show as an escape what its encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class TerminalBar:
    """Shows a job's events on a terminal: one line that is rewritten, and a line for each finished stage.

    In a log file, where nothing can be rewritten, a long stage gives a line now and then. Pass it as `emit`.
    It needs no package, so that Blender's Python can show the same bar as the backend.
    """

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._rewrites = stream.isatty()
        self._stage = ""
        self._started = self._shown = time.monotonic()

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        if event == "stage":
            self.finish()
            self._stage, self._started = fields["stage"], time.monotonic()
            self._show(f"{self._stage} …")
        elif event == "progress":
            step, total, eta_s = fields["step"], fields["total"], fields["eta_s"]
            filled = 24 * step // total
            eta = "" if eta_s is None else f"{eta_s:.0f} s left"
            self._show(f"{self._stage:<28.28} ▕{'█' * filled}{' ' * (24 - filled)}▏ {step}/{total} {eta}")
        elif event == "log":
            self._line(f"{fields['level']}: {fields['message']}")

    def finish(self) -> None:
        """Ends the current stage with its time."""
        if self._stage:
            self._line(f"{self._stage:<28.28} {time.monotonic() - self._started:7.1f} s")
            self._stage = ""

    def _show(self, text: str) -> None:
        if self._rewrites:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
            self._stream.flush()
        elif time.monotonic() - self._shown > LOG_EVERY_S:
            self._line(text)

    def _line(self, text: str) -> None:
        self._shown = time.monotonic()
        self._stream.write(f"\r\x1b[K{text}\n" if self._rewrites else f"{text}\n")
        self._stream.flush()
