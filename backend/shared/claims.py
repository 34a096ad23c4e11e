"""Claims on jobs: several processes and machines on one folder share its work instead of doing it twice.

A claim is a file `NAME.claim` that exactly one process can create. Its owner touches it while it lives. A
claim whose process is gone, or that nobody has touched for a while, is stale, and is taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

TOUCH_EVERY_S = 5.0
STALE_S = 60.0  # network disks have been seen to show a change after tens of seconds


@contextlib.contextmanager
def claimed(folder: Path, name: str) -> Iterator[bool]:
    """Holds the claim on a job while the context lasts; False if another process holds it.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.claim"
    mark = secrets.token_hex(8)
    if not (_create(path, mark) or (_take_from_the_dead(path) and _create(path, mark))):
        yield False
        return
    ended = threading.Event()
    toucher = threading.Thread(target=_touch, args=(path, ended), name=f"claim {name}", daemon=True)
    toucher.start()
    try:
        yield True
    finally:
        ended.set()
        toucher.join()
        if _read(path).get("mark") == mark:  # else we were taken for dead, and it is another's
            path.unlink(missing_ok=True)


def _create(path: Path, mark: str) -> bool:
    """Makes the file with its whole text in one step, if there is none."""
    text = json.dumps({"mark": mark, "host": socket.gethostname(), "pid": os.getpid()})
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".claim-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            os.link(draft, path)  # fails if it exists, on network disks too
        except FileExistsError:
            return False
        except OSError:  # a disk without hard links
            try:
                with open(path, "x", encoding="utf-8") as file:
                    file.write(text)
            except FileExistsError:
                return False
        return True
    finally:
        os.unlink(draft)


def _take_from_the_dead(path: Path) -> bool:
    """Removes a stale claim; True if there is none now."""
    seen = _read(path)
    if not path.exists():
        return True
    if not _stale(path, seen):
        return False
    grave = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        os.rename(path, grave)
    except FileNotFoundError:
        return True
    try:
        if _read(grave).get("mark") != seen.get("mark"):  # another was quicker, and this is its new claim
            with contextlib.suppress(OSError):
                os.link(grave, path)
            return False
        return True
    finally:
        grave.unlink(missing_ok=True)


def _stale(path: Path, claim: dict[str, object]) -> bool:
    if claim.get("host") == socket.gethostname() and not _alive(claim.get("pid")):
        return True
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as clock:  # the disk's own clock
            return os.stat(clock.name).st_mtime - path.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or os.name == "nt":  # there is no harmless question to a process on Windows
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _read(path: Path) -> dict[str, object]:
    try:
        claim = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return claim if isinstance(claim, dict) else {}


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(TOUCH_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(path)
