"""Another Blender that renders a copy of the open file, while this one stays free.

So nothing of the artist's scene is touched, not even for a moment, and nothing blocks the window.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import bpy

from .backend.shared.protocol import DioramaError
from .dataset.around import progress

SCRIPT = Path(__file__).parent / "render_objects.py"


class OtherBlender:
    """A process that renders objects of the open file, as it is now.

    `pump` is for a timer; `wait` for scripts.

    Args:
        title: says what is rendered.
        objects: what is rendered, with all that is parented to it.
        arguments: the other ones of `render_objects.py`.
        total: how many renders there will be.
        then: called with what went wrong, or None, unless it was cancelled.

    Raises:
        DioramaError: E_IMAGE if it cannot be begun.
    """

    def __init__(
        self,
        context: bpy.types.Context,
        title: str,
        objects: list[bpy.types.Object],
        arguments: list[str],
        total: int,
        then: Callable[[DioramaError | None], None],
    ) -> None:
        self.title, self.done, self.total = title, 0, total
        self.cancelled = False
        self._then = then
        self._lines: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="diorama-objects-", ignore_cleanup_errors=True)
        copy = Path(self._folder.name, "scene.blend")
        command = [
            *_blender(),
            str(copy),
            *("--scene", context.scene.name, "--layer", context.view_layer.name),
            *arguments,
            *("--objects", *(item.name for item in objects)),
        ]
        try:
            bpy.ops.wm.save_as_mainfile(filepath=str(copy), copy=True, check_existing=False)
            self._process = _popen(command)
        except (OSError, RuntimeError) as error:
            self._folder.cleanup()
            self._discard()
            raise _error(str(error).removeprefix("Error: ").strip()) from error
        self._reader = threading.Thread(target=self._read, name="diorama-objects", daemon=True)
        self._reader.start()

    @property
    def fraction(self) -> float:
        """How much of it is done."""
        return self.done / max(self.total, 1)

    def pump(self) -> bool:
        """Whether it is done, after telling so."""
        if self._reader.is_alive():
            return False
        failure = self._end()
        if not self.cancelled:
            self._then(failure)
        return True

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            DioramaError: it failed.
        """
        try:
            self._reader.join()
        except KeyboardInterrupt:
            self.close()
            raise
        if failure := self._end():
            raise failure

    def cancel(self) -> None:
        """Ends it; nothing of it stays."""
        self.cancelled = True
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """As `cancel`, at once."""
        self.cancel()
        self._reader.join(5.0)
        self._end()

    def _keep(self) -> bool:
        """Puts what was rendered in its place; false if it is not whole.

        Raises:
            OSError: it cannot be put there.
        """
        raise NotImplementedError

    def _discard(self) -> None:
        """Takes away what was rendered so far."""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := progress(line.strip()):
                self.done, self.total = found
            else:
                self._lines = [*self._lines[-39:], line.rstrip()]
        self._process.wait()

    def _end(self) -> DioramaError | None:
        """Keeps what was rendered if that is whole, and returns what went wrong else."""
        said = [line.removeprefix("Error: ") for line in self._lines if line.startswith("Error: ")]
        reason = said[-1] if said else f"Blender ended with {self._process.returncode}"
        try:
            if not self.cancelled and self._process.returncode == 0 and self._keep():
                return None
        except OSError as error:
            reason = f"{error.filename or 'the result'} cannot be written: {error.strerror or error}"
        finally:
            self._folder.cleanup()
        self._discard()
        return _error(reason, "\n".join(self._lines))


def _blender() -> list[str]:
    """The beginning of a command line that runs the script: in Blender, or in a Python that has bpy."""
    if bpy.app.binary_path:
        return [bpy.app.binary_path, "-b", "--python-exit-code", "1", "--python", str(SCRIPT), "--"]
    return [sys.executable, str(SCRIPT)]


def _popen(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _error(reason: str, detail: str = "") -> DioramaError:
    return DioramaError(
        "E_IMAGE",
        f"the objects could not be rendered: {reason}",
        hint="Render the scene with F12 to see what is wrong.",
        detail=detail,
    )
