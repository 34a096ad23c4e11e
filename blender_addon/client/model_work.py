"""Installs, checks or removes one model in a backend process of its own, so that jobs can go on meanwhile."""

from __future__ import annotations

import time
from typing import Any

from ..backend.shared.client import Client, Launch
from ..backend.shared.protocol import DioramaError, Message
from .job_progress import JobProgress

GRACE_S = 5.0  # to stop in; a download that is killed goes on later where it was
JOB = "model"  # the only job of its process


class ModelWork:
    """One change of a model; the preferences show its progress and `error`. No bpy in here."""

    def __init__(self, method: str, model: str, launch: Launch) -> None:
        """Begins it.

        Args:
            method: `models.download`, `models.verify` or `models.remove`.

        Raises:
            DioramaError: E_ENVIRONMENT if the backend cannot be started.
        """
        self.method = method
        self.model = model
        self.progress = JobProgress()
        self.result: dict[str, Any] | None = None
        self.error: DioramaError | None = None
        self._cancelled_at: float | None = None
        self._client = Client()
        self._client.start(launch)
        self._call = self._client.call(method, {"job": JOB, "model": model})

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return self.result is None and self.error is None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and has not yet."""
        return self.running and self._cancelled_at is not None

    def pump(self, timeout_s: float = 0.0) -> None:
        """Takes what the backend has said, waiting for its first word at most this long."""
        try:
            message = self._client.receive(timeout_s)
            while message is not None:
                self._handle(message)
                message = self._client.receive() if self.running else None
        except DioramaError as error:
            self._end(error)
        if self.stopping and time.monotonic() - (self._cancelled_at or 0.0) > GRACE_S:
            self._end(DioramaError("E_CANCELLED", "it was cancelled"))

    def cancel(self) -> None:
        """Asks it to stop; what was downloaded is kept for the next time."""
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self._client.notify("job.cancel", {"job": JOB})

    def wait(self) -> None:
        """Works until its end, for scripts and background mode; Ctrl-C cancels.

        Raises:
            DioramaError: it failed.
        """
        while self.running:
            try:
                self.pump(0.1)
            except KeyboardInterrupt:
                self.cancel()
        if self.error:
            raise self.error

    def close(self) -> None:
        """Ends it at once."""
        if self.running:
            self._end(DioramaError("E_CANCELLED", "Blender was closed"))

    def _handle(self, message: Message) -> None:
        if message.get("id") == self._call:
            if "error" in message:
                self._end(DioramaError.from_dict(message["error"].get("data", {})))
            else:
                self.result = message["result"]
                self._client.close()
            return
        self.progress.take(message.get("method", "").removeprefix("job."), message.get("params", {}))

    def _end(self, error: DioramaError) -> None:
        self.error = error
        self._client.kill()
