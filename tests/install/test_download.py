"""Downloading model files: the hub's own client on a hub in memory, which is reached without a socket."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from huggingface_hub.utils._http import default_client_factory

from backend.install import install, published
from backend.install.download import fetch
from backend.shared import model_store
from backend.shared.catalogue import MODELS
from backend.shared.model_store import checked_mark, downloaded_files
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from tests.install import published_models

LGM = next(file for file in MODELS["mvdream-lgm"].files if file.name.startswith("model_fp16"))
VAE = next(file for file in MODELS["mvdream-lgm"].files if file.name.startswith("vae/"))
WORDS = next(file for file in MODELS["mvdream-lgm"].files if file.name.endswith("vocab.json"))
DATA = bytes(range(256)) * 40_000  # 10 MB: more than one of the client's chunks


class Hub:
    """What a hub answers: files by path, or an error of the network."""

    def __init__(self) -> None:
        self.files = {f"/{LGM.source.repo}/resolve/main/{LGM.name}": DATA}
        self.etag: dict[str, str] = {}
        self.broken_after: int | None = None  # bytes, after which the line goes dead
        self.gone = False
        self.ranges: list[str] = []  # what was asked for
        self.headers: list[httpx2.Headers] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.headers.append(request.headers)
        if self.gone:
            raise httpx2.ConnectError("no route to host", request=request)
        data = self.files.get(request.url.path)
        if data is None:
            return httpx2.Response(404, headers={"X-Error-Code": "EntryNotFound"})
        etag = self.etag.get(request.url.path, hashlib.sha256(data).hexdigest())
        headers = {"X-Repo-Commit": "c" * 40, "ETag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if request.method == "HEAD":
            return httpx2.Response(200, headers=headers | {"Content-Length": str(len(data))})
        wanted = request.headers.get("Range", "")
        self.ranges.append(wanted)
        rest = data[int(wanted.removeprefix("bytes=").rstrip("-") or 0) :]
        headers["Content-Length"] = str(len(rest))
        return httpx2.Response(206 if wanted else 200, headers=headers, content=self._sent(rest, request))

    def _sent(self, data: bytes, request: httpx2.Request) -> Iterator[bytes]:
        if self.broken_after is None:
            yield data
            return
        yield data[: self.broken_after]
        self.gone = True
        raise httpx2.ReadError("the line is dead", request=request)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 20)
    transport = httpx2.MockTransport(hub)
    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport, follow_redirects=True))
    yield hub
    close_session()
    huggingface_hub.set_client_factory(default_client_factory)


def test_file_arrives_checked_and_with_progress(hub: Hub, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    def listen(event: str, fields: dict[str, Any]) -> None:
        if event == "progress":
            steps.append((fields["step"], fields["total"]))

    (path,) = fetch([LGM], tmp_path, Progress(listen))
    assert path == tmp_path / "ashawkey--LGM" / LGM.name
    assert path.read_bytes() == DATA
    assert steps[-1] == (9, 9)
    assert len(steps) > 5
    assert hub.ranges == [""]
    assert not any("authorization" in headers for headers in hub.headers)


def test_interrupted_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.broken_after = 4 << 20
    with pytest.raises(DioramaError, match=r"E_DOWNLOAD.*what has arrived is kept"):
        fetch([LGM], tmp_path, Progress())
    (part,) = (tmp_path / "ashawkey--LGM").glob(".*.part")
    assert part.stat().st_size == 4 << 20
    assert not (tmp_path / "ashawkey--LGM" / LGM.name).exists()
    hub.broken_after, hub.gone = None, False
    (path,) = fetch([LGM], tmp_path, Progress())
    assert path.read_bytes() == DATA
    assert hub.ranges == ["", f"bytes={4 << 20}-"]
    assert not part.exists()


def test_cancelled_download_goes_on_later(hub: Hub, tmp_path: Path) -> None:
    def cancel(event: str, fields: dict[str, Any]) -> None:
        if event == "progress" and fields["step"] == 3:
            progress.cancel()

    progress = Progress(cancel)
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        fetch([LGM], tmp_path, progress)
    fetch([LGM], tmp_path, Progress())
    assert hub.ranges[1] == f"bytes={3 << 20}-"


def test_file_that_changed_at_the_source_begins_anew(hub: Hub, tmp_path: Path) -> None:
    old = tmp_path / "ashawkey--LGM" / f".{LGM.name}.{'0' * 16}.part"
    old.parent.mkdir()
    old.write_bytes(b"old" * 1000)
    (path,) = fetch([LGM], tmp_path, Progress())
    assert path.read_bytes() == DATA
    assert hub.ranges == [""]


@pytest.mark.parametrize("etag", ["0" * 64, "0" * 40])
def test_damaged_file_is_thrown_away(hub: Hub, tmp_path: Path, etag: str) -> None:
    hub.etag = dict.fromkeys(hub.files, etag)
    with pytest.raises(DioramaError, match=r"E_DOWNLOAD.*arrived damaged"):
        fetch([LGM], tmp_path, Progress())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_small_files_are_checked_by_their_hash_in_git(hub: Hub, tmp_path: Path) -> None:
    url = f"/{WORDS.source.repo}/resolve/main/{WORDS.name}"
    hub.files[url] = b"hello\n"
    hub.etag[url] = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    (path,) = fetch([WORDS], tmp_path, Progress())
    assert path.read_bytes() == b"hello\n"


def test_other_name_is_taken_where_the_first_is_not_published(hub: Hub, tmp_path: Path) -> None:
    hub.files[f"/{VAE.source.repo}/resolve/main/vae/diffusion_pytorch_model.bin"] = b"weights"
    (path,) = fetch([VAE], tmp_path, Progress())
    assert path.name == "diffusion_pytorch_model.bin"
    hub.files.clear()
    with pytest.raises(DioramaError, match=r"E_DOWNLOAD.*has no vae/diffusion_pytorch_model.safetensors and"):
        fetch([VAE], tmp_path / "other", Progress())


def test_without_a_network_it_says_what_to_fetch_by_hand(hub: Hub, tmp_path: Path) -> None:
    hub.gone = True
    with pytest.raises(DioramaError) as refusal:
        install.download("mvdream-lgm", tmp_path, Progress())
    assert refusal.value.code == "E_DOWNLOAD"
    wanted = (
        f"model_fp16_fixrot.safetensors (0.83 GB) from https://huggingface.co/ashawkey/LGM into {tmp_path}"
    )
    assert wanted in refusal.value.hint
    assert "tokenizer/vocab.json" in refusal.value.hint


def test_offline_mode_asks_nobody(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DioramaError, match=r"E_DOWNLOAD.*downloads are off.*fetch by hand"):
        install.download("mvdream-lgm", tmp_path, Progress())
    assert hub.headers == []


def test_files_to_fetch_by_hand_are_asked_for_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*t2v_00333000.pth"):
        install.download("videomv-t2v", tmp_path, Progress())
    assert hub.headers == []


def test_full_disk_is_refused_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1 << 20))
    with pytest.raises(DioramaError, match=r"E_DISK_FULL.*model_fp16_fixrot.safetensors needs 0\.0 GB"):
        fetch([LGM], tmp_path, Progress())
    assert hub.ranges == []


def test_downloaded_model_is_installed_and_its_downloads_are_gone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, network in published_models.NETWORKS.items():
        monkeypatch.setitem(published.NETWORKS, name, network)
    files = published_models.publish("mvdream-lgm", tmp_path / "at the hub")
    for file in MODELS["mvdream-lgm"].files:
        hub.files[f"/{file.source.repo}/resolve/main/{file.name}"] = (files / file.name).read_bytes()
    root = tmp_path / "models"
    install.download("mvdream-lgm", root, Progress())
    assert model_store.verify("mvdream-lgm", root, Progress())
    assert [path for path in (root / "downloads").rglob("*") if path.is_file()] == []
    asked = len(hub.headers)
    install.download("mvdream-lgm", root, Progress())  # installed already
    assert len(hub.headers) == asked


def test_remove_deletes_downloads_and_leaves_what_was_put_there(hub: Hub, tmp_path: Path) -> None:
    fetch([LGM], tmp_path / "downloads", Progress())
    mine = (
        tmp_path / "downloads" / "ashawkey--mvdream-sd2.1-diffusers" / "vae" / "diffusion_pytorch_model.bin"
    )
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    path = tmp_path / "downloads" / "ashawkey--LGM" / LGM.name
    assert downloaded_files(MODELS["mvdream-lgm"], tmp_path) == [path, checked_mark(path)]
    state = model_store.state(MODELS["mvdream-lgm"], tmp_path)
    assert state.leftover_bytes >= len(DATA)
    assert LGM not in state.missing
    assert VAE not in state.missing
    model_store.remove("mvdream-lgm", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
