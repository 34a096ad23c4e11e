"""Starts the backend process, talks to it over its stdin and stdout, and notices when it dies."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

from . import model_store, protocol
from .protocol import DioramaError, Message

HELLO_WITHIN_S = 60.0  # a cold disk under a virus scanner has been seen to take tens of seconds
MOST_DEATHS, DEATHS_WITHIN_S = 3, 60.0
MOST_GARBAGE_LINES = 100
LOG_BYTES = 1 << 20
LOG_LINES_IN_REPORT = 40
REMOTE_PYTHON = "~/.local/share/diorama/env/bin/python"  # where Install Backend makes it on Linux


@dataclasses.dataclass(frozen=True)
class Launch:
    """How to start the backend.

    Attributes:
        root: the folder that holds `backend/`.
        online: whether it may use the network.
        models: the folder of all models, if it is not the default one.
        text_to_image: that of the pipeline that makes images of prompts, likewise.
        environment: further variables of its environment, as pairs of name and value.
        arguments: of the backend's command line; others than `serve` alone let another computer serve.
    """

    python: Path
    root: Path
    log: Path
    online: bool = False
    models: Path | None = None
    text_to_image: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ("serve",)


def over_ssh(host: str, python: str) -> tuple[str, ...]:
    """The arguments of a backend that lets another computer work, `user@host` as ssh knows it.

    Args:
        python: there, of an environment with the backend's packages.
    """
    return "serve", f"--host={host}", f"--python={python}"


class Client:
    """The backend process, started again when it is needed; all of it is called from one thread."""

    def __init__(self) -> None:
        self.launch: Launch | None = None
        self.heard = 0.0  # when the backend last said anything, on the monotonic clock
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox: queue.Queue[Message | DioramaError | None] = queue.Queue()
        self._greeted = False
        self._garbage = 0
        self._number = 0
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)

    @property
    def running(self) -> bool:
        """Whether there is a process, even one that does not answer."""
        return self._process is not None and self._process.poll() is None

    def start(self, launch: Launch) -> None:
        """Starts the backend; the answer to whether it works is the hello that `receive` waits for.

        Raises:
            DioramaError: E_ENVIRONMENT if there is no such Python, E_WORKER_DIED if it keeps dying.
        """
        self.kill()  # what is left of one that ended while nobody listened
        now = time.monotonic()
        if len(self._deaths) == MOST_DEATHS and now - self._deaths[0] < DEATHS_WITHIN_S:
            raise DioramaError(
                "E_WORKER_DIED",
                f"the backend ended {MOST_DEATHS} times within a minute, so it is not started again yet",
                hint="Read the log lines that come with the errors before, wait a minute, then try again.",
            )
        try:
            with _open_log(launch.log) as log:
                self._process = subprocess.Popen(
                    [str(launch.python), "-u", "-m", "backend", *launch.arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=launch.root,
                    env=_environment(launch),
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except OSError as error:
            raise DioramaError("E_ENVIRONMENT", f"cannot start the backend: {error}") from error
        self.launch, self.heard = launch, now
        self._greeted, self._garbage = False, 0
        self._inbox = queue.Queue()  # a late message of an earlier process must not reach this one's jobs
        threading.Thread(
            target=_read, args=(self._process.stdout, self._inbox), name="diorama-reader", daemon=True
        ).start()

    def call(self, method: str, params: dict[str, Any]) -> int:
        """Sends a call; its answer will carry the returned number."""
        self._number += 1
        self._send(protocol.call(self._number, method, params))
        return self._number

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Sends a message that is not answered."""
        self._send(protocol.notification(method, params))

    def receive(self, timeout_s: float = 0.0) -> Message | None:
        """The next message, or None if there is none within the time.

        Raises:
            DioramaError: the process is gone: E_WORKER_DIED, or E_ENVIRONMENT or E_PROTOCOL if it never
                became our backend.
        """
        try:
            message = self._inbox.get(timeout=timeout_s) if timeout_s else self._inbox.get_nowait()
        except queue.Empty:
            if not self._greeted and time.monotonic() - self.heard > HELLO_WITHIN_S:
                raise self._not_a_backend(f"said nothing for {HELLO_WITHIN_S:.0f} s") from None
            return None
        self.heard = time.monotonic()
        if message is None:
            raise self._died()
        if isinstance(message, DioramaError):
            self._garbage += 1
            if self._garbage > MOST_GARBAGE_LINES:
                raise self._not_a_backend("writes lines that are no messages")
            return self.receive()
        if not self._greeted:
            theirs = message.get("params", {}).get("protocol")
            if message.get("method") != "hello" or not theirs or theirs[0] != protocol.VERSION[0]:
                self.kill()
                raise DioramaError("E_PROTOCOL", f"the backend speaks protocol {theirs}, not ours")
            self._greeted = True
        return message

    def kill(self) -> None:
        """Ends the process at once; whatever it was doing is lost, and nothing is left of it."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def close(self) -> None:
        """Asks the process to end by closing its stdin, and insists after a second."""
        if self._process is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait(1.0)
        self.kill()

    def _log_tail(self) -> str:
        """The last lines of the log."""
        if self.launch is None:
            return ""
        with contextlib.suppress(OSError), open(self.launch.log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - (1 << 14)))
            lines = log.read().decode("utf-8", "replace").splitlines()
            return "\n".join(lines[-LOG_LINES_IN_REPORT:])
        return ""

    def _send(self, message: Message) -> None:
        if self._process and self._process.stdin:
            # If it died, `receive` will say so, after everything that it said before.
            with contextlib.suppress(OSError):
                self._process.stdin.write(protocol.encode(message))
                self._process.stdin.flush()

    def _died(self) -> DioramaError:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)  # stdout is closed a moment before the process is gone
        status = self._process.poll()
        if not self._greeted:
            return self._not_a_backend(f"ended {_how_it_ended(status)} without a word")
        self.kill()
        self._deaths.append(time.monotonic())
        hint = ""
        if status == -getattr(signal, "SIGKILL", 9):
            hint = (
                "The system ended it, most often because memory ran out: close other programs and try again."
            )
        return DioramaError(
            "E_WORKER_DIED", f"the backend ended {_how_it_ended(status)}", hint=hint, detail=self._log_tail()
        )

    def _not_a_backend(self, what: str) -> DioramaError:
        self.kill()
        python = self.launch.python if self.launch else "the backend's Python"
        return DioramaError("E_ENVIRONMENT", f"{python} {what}", detail=self._log_tail())


def _read(stream: BinaryIO, inbox: queue.Queue[Message | DioramaError | None]) -> None:
    """Moves messages from the pipe to the queue; runs in its own thread and touches nothing else.

    It ends with the pipe, which a child of the killed process may hold open: so nobody waits for this thread.
    """
    garbage = 0
    with stream, contextlib.suppress(OSError):
        for message in protocol.messages(stream):
            garbage += isinstance(message, DioramaError)
            inbox.put(message)
            if garbage > MOST_GARBAGE_LINES:
                return  # a program that prints for ever must not fill the memory
    inbox.put(None)


def _environment(launch: Launch) -> dict[str, str]:
    """The backend's environment: nothing of Blender's Python, no user packages, offline unless allowed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"
    }
    ours = {
        "PYTHONPATH": str(launch.root),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if not launch.online:
        ours["HF_HUB_OFFLINE"] = "1"
    if launch.models:
        ours[model_store.ROOT_VARIABLE] = str(launch.models)
    if launch.text_to_image:
        ours[model_store.TEXT_TO_IMAGE_VARIABLE] = str(launch.text_to_image)
    return {**kept, **ours, **dict(launch.environment)}


def _open_log(path: Path) -> BinaryIO:
    """The log to append to; beyond a size the old one is kept beside it and a new one is begun."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
    return open(path, "ab")


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "its output"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by signal {signal.Signals(-status).name}"
    if sys.platform == "win32" and status > 0xFF:
        return f"with Windows error 0x{status & 0xFFFFFFFF:08X}"
    return f"with exit code {status}"
