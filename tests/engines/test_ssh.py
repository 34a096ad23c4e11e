"""Another computer through ssh: a real sshd on this one, a real ssh, and a folder of its own for the code."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.engines.local import LocalWorker
from backend.engines.ssh_connection import packed
from backend.shared.asset import read_asset
from backend.shared.client import over_ssh
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.engines.remote_jobs import cancels, four_discs, shows_four_discs
from tests.sshd import HERE, computer

pytestmark = pytest.mark.skipif(not HERE, reason="there is no sshd here")
REQUEST = GenerationRequest("a red mushroom", seed=7, steps=2, views=2)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    with computer(tmp_path_factory.mktemp("ssh")) as server:
        yield server


def worker(tmp_path: Path, host: str = "computer", python: str = sys.executable) -> LocalWorker:
    return LocalWorker("there", tmp_path / "log", arguments=over_ssh(host, python))


def test_a_lost_connection_fails_the_job_which_can_be_run_again(
    sshd: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    there = worker(tmp_path)
    events: list[tuple[str, dict[str, Any]]] = []

    def lose_it(event: str, fields: dict[str, Any]) -> None:
        events.append((event, fields))
        if fields.get("stage") == "Loading libraries" and len(events) < 5:
            for child in psutil.Process(sshd.pid).children(recursive=True):
                child.kill()

    asset = tmp_path / "job" / "asset"
    with pytest.raises(DioramaError) as lost:
        there.run(REQUEST, asset, lose_it, threading.Event())
    assert lost.value.code == "E_WORKER_DIED" and "computer was lost" in lost.value.message
    assert not asset.exists() or not any(asset.iterdir())
    begun, previews = len(events), []

    def keep(event: str, fields: dict[str, Any]) -> None:
        events.append((event, fields))
        if event == "preview":
            previews.append(Path(fields["path"]).read_bytes()[:4])

    result = there.run(REQUEST, asset, keep, threading.Event())
    there.close()
    assert result["asset"] == str(asset) and read_asset(asset).request == REQUEST.to_dict()
    assert {"stage", "progress", "preview"} <= {event for event, _ in events[begun:]}
    assert previews == [b"\x89PNG"]


def test_images_go_there_and_a_cancelled_job_leaves_nothing(
    sshd: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    there, cancelled = worker(tmp_path), threading.Event()
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        there.run(
            dataclasses.replace(REQUEST, steps=150), tmp_path / "long/asset", cancels(cancelled), cancelled
        )
    assert not (tmp_path / "long/asset").exists()
    request = GenerationRequest(**four_discs(tmp_path))
    there.run(request, tmp_path / "discs/asset", lambda *_: None, threading.Event())
    there.close()
    made = read_asset(tmp_path / "discs/asset")
    assert made.request == request.to_dict() and shows_four_discs(made)


@pytest.mark.parametrize(
    ("host", "python", "words"),
    [
        ("closed", sys.executable, "cannot reach closed: .*refused"),
        ("computer", "/nowhere/python", "computer has no Python /nowhere/python"),
        ("computer", "OLD", "is python 3.9.1; expected Python 3.11"),
        ("computer", "/bin/true", "/bin/true on computer ended"),
        ("-oProxyCommand=x", sys.executable, "not the name of a computer"),
    ],
)
def test_what_is_wrong_there_is_said(
    sshd: subprocess.Popen[bytes], tmp_path: Path, host: str, python: str, words: str
) -> None:
    if python == "OLD":
        old = tmp_path / "old"
        old.write_text(
            f"#!{sys.executable}\nimport sys\nsys.version, sys.version_info = '3.9.1 (old)', (3, 9, 1)\n"
            "code, sys.argv = sys.argv[3], sys.argv[3:]\nexec(code, {'__name__': '__main__'})\n"
        )
        old.chmod(0o755)
        python = str(old)
    there = worker(tmp_path, host, python)
    with pytest.raises(DioramaError, match=words) as error:
        there.call("models.list", {})
    assert error.value.code == "E_ENVIRONMENT"
    there.close()


def test_the_code_is_sent_once_and_packs_to_the_same_bytes(
    sshd: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    there = worker(tmp_path)
    models = there.call("models.list", {})["models"]
    assert models[0]["installed"] and "/cache/diorama/backends/" in models[0]["folder"]
    there.close()
    assert packed() == packed()
