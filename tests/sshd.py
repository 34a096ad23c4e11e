"""Another computer for tests: a real sshd on this one, and a real ssh that knows its port and its key."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH')}:/usr/sbin:/usr/local/sbin")
HERE = bool(SSHD and shutil.which("ssh-keygen"))

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@contextmanager
def computer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`ssh computer` reaches this machine, with its own folders for code and models; `ssh closed` fails."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it insists
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
        # a new place for the code, and the old one for compiled kernels
        f"SetEnv XDG_CACHE_HOME={folder}/cache NUMBA_CACHE_DIR={_CACHE / 'diorama'} "
        f"DIORAMA_MODELS={folder}/models\n"
    )
    (folder / "config").write_text(
        f"Host computer\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder}/user\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        "Host closed\n  HostName 127.0.0.1\n  Port 1\n"
    )
    front = folder / "bin" / "ssh"
    front.parent.mkdir()
    front.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    front.chmod(0o755)
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")])
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{front.parent}:{before}"
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield server
    os.environ["PATH"] = before
    server.terminate()
    server.wait()
