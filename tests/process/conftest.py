"""A backend process to talk to, as Blender would."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.shared import protocol

ROOT = Path(__file__).parents[2]


class Talk:
    """A backend that was started, and everything it has said."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", *(command or ("-m", "backend", "serve"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.lines: queue.Queue[Any] = queue.Queue()
        self.errors: list[bytes] = []
        self.numbers = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()
        self._reading = threading.Thread(target=self._read_errors, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        for message in protocol.messages(self.process.stdout):  # type: ignore[arg-type]
            self.lines.put(message)
        self.lines.put(None)

    def _read_errors(self) -> None:
        self.errors += self.process.stderr or []

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def call(self, method: str, **params: Any) -> int:
        """Calls, and returns the number that the answer will have."""
        number = next(self.numbers)
        self.send(protocol.encode(protocol.call(number, method, params)))
        return number

    def notify(self, method: str, **params: Any) -> None:
        self.send(protocol.encode(protocol.notification(method, params)))

    def submit(self, job: str, directory: Path, prompt: str = "a red mushroom", **more: Any) -> int:
        return self.call("job.submit", job=job, directory=str(directory), request={"prompt": prompt, **more})

    def next(self, timeout_s: float = 60.0) -> protocol.Message:
        """The next message; a line that is none fails the test."""
        message = self.lines.get(timeout=timeout_s)
        assert isinstance(message, dict), (message, getattr(message, "detail", ""), b"".join(self.errors))
        return message

    def until(self, timeout_s: float = 120.0, **wanted: Any) -> protocol.Message:
        """The first message with these members, for example id=1 or method="alive"; skips the others."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self.next(deadline - time.monotonic())
            if all(message.get(name) == value for name, value in wanted.items()):
                return message

    def ended(self, timeout_s: float = 10.0) -> int:
        code = self.process.wait(timeout_s)
        self._reading.join(timeout_s)
        return code

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()


@pytest.fixture
def talk() -> Iterator[Any]:
    """Starts backends; those that still run at the end of the test are ended."""
    started: list[Talk] = []

    def start(*command: str) -> Talk:
        started.append(Talk(*command))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def running() -> Iterator[list[Talk]]:
    """The backend that the tests of a file share."""
    shared: list[Talk] = []
    yield shared
    for each in shared:
        each.end()


@pytest.fixture
def backend(running: list[Talk]) -> Talk:
    """The one of this file, which a test leaves idle; another where a test has ended it."""
    if not running or running[-1].process.poll() is not None:
        running.append(Talk())
    return running[-1]
