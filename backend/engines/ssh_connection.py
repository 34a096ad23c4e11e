"""One ssh process and the backend behind it: it is brought there, started, and gives and takes files."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import queue
import shlex
import subprocess
import sys
import tarfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from .. import server
from ..shared import protocol
from ..shared.protocol import DioramaError, Message
from .arrival import MARK

ROOT = Path(__file__).parents[2]  # of the folder `backend`
CONNECT_WITHIN_S = 15
BEGIN_WITHIN_S = 60.0  # from the connection to the first word of the Python there
LOG_LINES = 20
# No question that nobody could answer; a connection that is silent for 15 s is lost.
OPTIONS = ("BatchMode=yes", f"ConnectTimeout={CONNECT_WITHIN_S}", "ServerAliveInterval=5")


class Connection:
    """The ssh process, and the backend behind it."""

    def __init__(self, host: str, python: str, alive: Callable[[], None]) -> None:
        """Connects, brings the code there if it is not, and starts the backend.

        Args:
            alive: is called now and then while it takes time.

        Raises:
            DioramaError: E_ENVIRONMENT.
        """
        self._host, self._python = host, python
        self._said: deque[str] = deque(maxlen=LOG_LINES)
        self._number = 0
        self.replies: queue.Queue[Message | None] = queue.Queue()
        archive = packed()
        if not host or host.startswith("-"):
            raise DioramaError("E_ENVIRONMENT", f"{host!r} is not the name of a computer", _CHECK)
        try:
            self.process = subprocess.Popen(
                _command(host, python, hashlib.sha256(archive).hexdigest()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise DioramaError("E_ENVIRONMENT", f"cannot start ssh: {error}", "Install OpenSSH.") from error
        assert self.process.stdin and self.process.stdout
        self._stdin, self.stdout = self.process.stdin, cast(BinaryIO, self.process.stdout)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        word = self._first_word()
        if word == "send":
            self._upload(archive, alive)
            word = self._first_word()
        if word != "begin":
            self.process.kill()
            raise DioramaError(
                "E_ENVIRONMENT",
                f"{python} on {host} is {word or 'no Python'}; expected Python 3.11 or newer",
                "Name the Python of an environment with the backend's packages.",
            )

    def send(self, message: Message) -> None:
        """Writes a message; if the connection is gone, its reader says so."""
        with contextlib.suppress(OSError):
            self._stdin.write(protocol.encode(message))
            self._stdin.flush()

    def read(self, path: str, alive: Callable[[], None]) -> bytes:
        """A file of the backend's folder there.

        Raises:
            DioramaError: E_WORKER_DIED if the connection ends, or what is said there.
        """
        data, size = bytearray(), 1
        while len(data) < size:
            found = self._ask("file.read", {"path": path, "offset": len(data)})
            data += base64.b64decode(found["data"])
            size = found["size"] if found["data"] else len(data)
            alive()
        return bytes(data)

    def write(self, path: str, data: bytes) -> None:
        """Makes a file in the backend's folder there.

        Raises:
            DioramaError: as `read`.
        """
        for offset in range(0, max(len(data), 1), server.CHUNK_BYTES):
            chunk = base64.b64encode(data[offset : offset + server.CHUNK_BYTES]).decode("ascii")
            self._ask("file.write", {"path": path, "offset": offset, "data": chunk})

    def why_lost(self) -> DioramaError:
        """What to say of a connection that worked and has ended."""
        self._ended()
        return DioramaError(
            "E_WORKER_DIED",
            f"the connection to {self._host} was lost, or the backend there has ended",
            "Run it again; if that happens again, read the log lines that come with this error.",
            "\n".join(self._said),
        )

    def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number -= 1
        self.send(protocol.call(self._number, method, params))
        reply = self.replies.get()
        if reply is None:
            self.replies.put(None)
            raise self.why_lost()
        if "error" in reply:
            raise DioramaError.from_dict(reply["error"].get("data", {}))
        result: dict[str, Any] = reply["result"]
        return result

    def _first_word(self) -> str:
        """What the Python there says next, after whatever its shell may have to say.

        Raises:
            DioramaError: E_ENVIRONMENT if it ends, or says nothing.
        """
        late = threading.Timer(BEGIN_WITHIN_S, self.process.kill)
        late.start()
        try:
            for line in self.stdout:
                text = line.decode("utf-8", "replace").strip()
                if text.startswith(MARK):
                    return text.removeprefix(MARK).strip()
        finally:
            late.cancel()
        raise self._not_begun()

    def _upload(self, archive: bytes, alive: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):  # then the next word does not come, and that is said
            self._stdin.write(len(archive).to_bytes(8, "big"))
            for offset in range(0, len(archive), server.CHUNK_BYTES):
                self._stdin.write(archive[offset : offset + server.CHUNK_BYTES])
                self._stdin.flush()
                alive()

    def _not_begun(self) -> DioramaError:
        status = self._ended()
        said = self._said[-1] if self._said else ""
        if status == 255:  # ssh's own
            return DioramaError("E_ENVIRONMENT", f"cannot reach {self._host}: {said}", _CHECK)
        if status in (126, 127):  # the shell's
            return DioramaError(
                "E_ENVIRONMENT",
                f"{self._host} has no Python {self._python}",
                "Name the Python of an environment there that has the backend's packages.",
                "\n".join(self._said),
            )
        how = "said nothing" if status in (-15, -9) else f"ended: {said}"
        return DioramaError(
            "E_ENVIRONMENT", f"{self._python} on {self._host} {how}", _CHECK, "\n".join(self._said)
        )

    def _ended(self) -> int:
        try:
            status = self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._listener.join(1.0)
        return status

    def _listen(self) -> None:
        """Keeps the last lines of ssh and of the backend's log, and puts all of them into the log here."""
        assert self.process.stderr
        for line in self.process.stderr:
            text = line.decode("utf-8", "replace").rstrip()
            self._said.append(text)
            print(text, file=sys.stderr, flush=True)


_CHECK = "Make sure that `ssh` connects to it in a terminal without asking for anything."


def packed() -> bytes:
    """The code of the backend and its kernels as a tar archive: the same bytes for the same files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("backend", "kernels"):
            for path in sorted((ROOT / folder).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    entry = tarfile.TarInfo(path.relative_to(ROOT).as_posix())
                    entry.size = path.stat().st_size
                    with open(path, "rb") as file:
                        archive.addfile(entry, file)
    return data.getvalue()


def _command(host: str, python: str, identity: str) -> list[str]:
    access = "offline" if os.environ.get("HF_HUB_OFFLINE") else "online"
    code = Path(__file__).with_name("arrival.py").read_text("utf-8")
    home = "~/" if python.startswith("~/") else ""  # which the shell there must see to put its own in
    words = [home + shlex.quote(python.removeprefix(home)), "-u", "-c", shlex.quote(code), identity, access]
    options = [part for option in OPTIONS for part in ("-o", option)]
    return ["ssh", "-T", *options, "--", host, " ".join(words)]
