"""Begins a backend on another computer: `ssh.py` sends this file there as text, so it needs only a Python.

Its arguments: the checksum of the archive of the backend's code, and `online` or `offline`. What it says
begins with MARK; it asks for the archive if this computer has not got it, and becomes the backend.
"""

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

MARK = "diorama:"
UNUSED_S = 30 * 24 * 3600.0  # after which the code of another version is thrown away


def main(identity: str, access: str) -> None:
    """Does it."""
    if sys.version_info < (3, 11):  # noqa: UP036  it may be any
        say(f"python {sys.version.split()[0]}")
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diorama" / "backends"
    code = cache / identity
    if not code.is_dir():
        say("send")
        receive(code, identity)
    os.utime(code)
    for other in cache.iterdir():
        if time.time() - other.stat().st_mtime > UNUSED_S:
            shutil.rmtree(other, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(code), "PYTHONUTF8": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if access == "offline":
        environment["HF_HUB_OFFLINE"] = "1"
    os.chdir(code)
    folder = tempfile.mkdtemp(prefix="diorama-")
    say("begin")
    os.execve(
        sys.executable, [sys.executable, "-u", "-m", "backend", "serve", "--files", folder], environment
    )


def receive(code: Path, identity: str) -> None:
    """Unpacks the archive that comes next on stdin, whole or not at all."""
    data = take(int.from_bytes(take(8), "big"))
    if hashlib.sha256(data).hexdigest() != identity:
        sys.exit("what has arrived is not what was sent")
    code.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=code.parent, prefix=".partial-") as partial:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(Path(partial) / "code")
        with contextlib.suppress(OSError):  # another was quicker
            os.rename(Path(partial) / "code", code)


def take(count: int) -> bytes:
    """So many bytes of stdin, and none of those after them, which are for the backend."""
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            sys.exit("the connection has ended")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def say(words: str) -> None:
    """One line to the other side."""
    os.write(1, f"{MARK} {words}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
