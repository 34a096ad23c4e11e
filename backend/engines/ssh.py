"""The backend on another computer: to the host one like any other; its work goes through the pipes of ssh.

`python -m backend serve --host HOST` stands where `serve` stands otherwise, speaks the same protocol, and
copies files: the code and a job's image there, previews and the finished asset back. Nothing listens on a
port, and who may come in is ssh's own matter. It needs the standard library and numpy alone, as Blender has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from .. import job, server
from ..shared import asset, output_folder, protocol
from ..shared.protocol import DioramaError, Message, explained
from ..shared.request import GenerationRequest
from .ssh_connection import Connection


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A job that runs there.

    Attributes:
        request: as it was made here; there, an image has another path.
        made: the directory was not there before.
    """

    directory: Path
    request: dict[str, Any]
    made: bool


def serve(host: str, python: str) -> int:
    """Runs until the host says `shutdown` or goes away, as `server.serve` does."""
    calls, answers = server.take_over_pipes()
    Bridge(host, python, calls, answers).run()
    return 0


class Bridge:
    """One conversation with a host here, and with a backend there that is connected to when it is needed.

    Two threads read; what they read is worked off in one order by the main thread, which alone writes.
    """

    def __init__(self, host: str, python: str, calls: BinaryIO, answers: BinaryIO) -> None:
        self._host, self._python = host, python
        self._calls, self._answers = calls, answers
        self._work: queue.Queue[Callable[[], None]] = queue.Queue()
        self._there: Connection | None = None
        self._open: set[int] = set()  # calls that are not answered yet
        self._jobs: dict[int, Submitted] = {}  # by their call
        self._previews = tempfile.TemporaryDirectory(prefix="diorama-")
        self._numbers = itertools.count()

    def run(self) -> None:
        """Says hello at once, since the computer may be far; then does what is read, for ever."""
        self._send(protocol.notification("hello", server.hello()))
        threading.Thread(target=self._read_here, name="reader", daemon=True).start()
        while True:
            self._work.get()()

    def _read_here(self) -> None:
        for message in protocol.messages(self._calls):
            self._work.put(partial(self._from_here, message))
        self._work.put(self._end)
        if self._there:
            self._there.process.terminate()  # the main thread may be waiting for it

    def _read_there(self, there: Connection) -> None:
        for message in protocol.messages(there.stdout):
            if isinstance(message, dict) and isinstance(message.get("id"), int) and message["id"] < 0:
                there.replies.put(message)
            else:
                self._work.put(partial(self._from_there, there, message))
        there.replies.put(None)
        self._work.put(partial(self._lost, there))

    def _from_here(self, message: Message | DioramaError) -> None:
        if isinstance(message, DioramaError):
            self._send(protocol.failure(None, message))
            return
        number, params = message.get("id"), message.get("params", {})
        if number is None:  # a cancel, of a job that runs there or of none
            if self._there:
                self._there.send(message)
            return
        if message.get("method") == "shutdown":
            self._send(protocol.answer(number, {}))
            self._end()
        try:
            there = self._connected(params.get("job"))
            if message.get("method") == "job.submit":
                params = self._submit(there, number, params)
            self._open.add(number)
            there.send(protocol.call(number, str(message.get("method")), params))
        except Exception as error:  # the border: every call is answered
            self._answer(protocol.failure(number, explained(error)))

    def _from_there(self, there: Connection, message: Message | DioramaError) -> None:
        if isinstance(message, DioramaError):
            return  # a line that is no message; the log has what else there is to say
        number = message.get("id")
        if message.get("method") == "hello":
            return
        if message.get("method") == "job.preview":
            with contextlib.suppress(DioramaError, OSError):  # there may be a newer one already
                self._send({**message, "params": self._preview(there, message["params"])})
        elif number in self._jobs and "result" in message:
            self._answer(self._received(there, message))
        elif number is not None:
            self._answer(message)
        else:
            self._send(message)

    def _connected(self, name: str | None) -> Connection:
        """The connection, which is made if there is none.

        Raises:
            DioramaError: E_ENVIRONMENT in words, whatever went wrong.
        """
        if self._there is None:
            if name:
                stage = {"job": name, "stage": f"Connecting to {self._host}"}
                self._send(protocol.notification("job.stage", stage))
            self._there = Connection(self._host, self._python, self._alive)
            threading.Thread(target=self._read_there, args=(self._there,), daemon=True).start()
        return self._there

    def _submit(self, there: Connection, number: int, params: dict[str, Any]) -> dict[str, Any]:
        """A job's parameters as they are for the backend there, which has its image by then.

        Raises:
            DioramaError: as `GenerationRequest`; E_IMAGE; E_OUTPUT_UNWRITABLE or E_DISK_FULL before any work.
        """
        request = GenerationRequest.from_dict(params.get("request"))
        directory = Path(str(params.get("directory")))
        self._jobs[number] = Submitted(directory, request.to_dict(), not directory.exists())
        asset.claim(directory, request.to_dict())
        job.check_output(directory)
        for name, path in request.images.items():
            try:
                data = Path(path).read_bytes()
            except OSError as error:
                raise DioramaError("E_IMAGE", f"cannot read {path}: {error.strerror}") from error
            there.write(name, data)
        remote = request.with_images({name: name for name in request.images})
        return {**params, "request": remote.to_dict(), "directory": "asset"}

    def _received(self, there: Connection, message: Message) -> Message:
        """The answer to a job whose asset has been copied, and found to be as it was made."""
        submitted, number = self._jobs[message["id"]], message["id"]
        try:
            asset.receive_asset(
                submitted.directory, submitted.request, lambda name: there.read(f"asset/{name}", self._alive)
            )
        except Exception as error:  # the border
            return protocol.failure(number, explained(error))
        return protocol.answer(number, {**message["result"], "asset": str(submitted.directory)})

    def _preview(self, there: Connection, params: dict[str, Any]) -> dict[str, Any]:
        path = Path(self._previews.name) / f"{next(self._numbers)}{Path(params['path']).suffix}"
        path.write_bytes(there.read(params["path"], self._alive))
        return {**params, "path": str(path)}

    def _lost(self, there: Connection) -> None:
        """The connection has ended: what waits for an answer fails, and the next call connects anew."""
        if self._there is there:
            self._there = None
        error = there.why_lost()
        for number in sorted(self._open):
            self._answer(protocol.failure(number, error))

    def _answer(self, message: Message) -> None:
        self._open.discard(message["id"])
        submitted = self._jobs.pop(message["id"], None)
        if submitted and "error" in message:
            output_folder.clear_partial(submitted.directory)
            if submitted.made:
                output_folder.clear(submitted.directory)
        self._send(message)

    def _alive(self) -> None:
        self._send(protocol.notification("alive", {}))

    def _send(self, message: Message) -> None:
        try:
            self._answers.write(protocol.encode(message))
        except OSError:
            self._end()

    def _end(self) -> None:
        if self._there:
            self._there.process.terminate()  # there, the backend finds its stdin closed, and ends
        self._previews.cleanup()
        os._exit(0)
