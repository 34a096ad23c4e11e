"""Models through the backend's process and its command line: listed, installed, checked, removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import server
from backend.install import published
from backend.pipelines import model_cache
from backend.pipelines.plan import Plan
from backend.shared import manifests
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from tests.install import published_models
from tests.process import terminal

# A backend whose networks are as small as the published files of these tests.
SMALL_BACKEND = (
    "-c",
    "from tests.install.published_models import use_small_networks; use_small_networks()\n"
    "from backend import server; server.serve()",
)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of models that processes of this file take."""
    place = tmp_path_factory.mktemp("place") / "models"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIORAMA_MODELS", str(place))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield place


@pytest.fixture
def root(place: Path) -> Iterator[Path]:
    """The same, and nothing in it after the test."""
    yield place
    shutil.rmtree(place, ignore_errors=True)


def make_small_model(root: Path) -> Path:
    """An installed model whose files are small."""
    folder = root / "mvdream-lgm"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text('{"small": true}')
    manifests.seal(folder, "mvdream-lgm")
    return folder


def error_of(message: dict) -> dict:
    return message["error"]["data"]


def test_list_says_what_is_installed_and_what_is_missing(talk, root: Path) -> None:
    make_small_model(root)
    backend = talk()
    assert {"models.list", "models.download", "models.verify", "models.remove"} <= {
        *backend.next()["params"]["capabilities"]
    }
    answer = backend.until(id=backend.call("models.list"))["result"]
    assert answer["folder"] == str(root)
    models = {model["name"]: model for model in answer["models"]}
    assert next(iter(models)) == "starter"
    assert models["mvdream-lgm"]["installed"]
    missing = models["videomv-t2v"]
    assert not missing["installed"] and not missing["commercial"]
    assert "CC BY-NC" in missing["licence"]
    assert any("t2v_00333000.pth" in line and str(root) in line for line in missing["to_fetch"])


def test_files_that_are_there_are_installed_checked_and_removed(talk, root: Path) -> None:
    published_models.publish("mvdream-lgm", root / "downloads")
    backend = talk(*SMALL_BACKEND)
    installed = backend.call("models.download", job="install", model="mvdream-lgm")
    waits = backend.call("models.remove", job="waits", model="mvdream-lgm")
    backend.notify("job.cancel", job="waits")
    stages = []
    while (message := backend.next(120)).get("id") != installed:
        if message["method"] == "job.stage":
            assert message["params"]["job"] == "install"
            stages.append(message["params"]["stage"])
    assert message["result"]["folder"] == str(root / "mvdream-lgm"), message
    assert "Converting unet" in stages
    assert error_of(backend.until(id=waits))["code"] == "E_CANCELLED"
    for job in ("verify", "remove"):
        number = backend.call(f"models.{job}", job=job, model="mvdream-lgm")
        assert backend.until(id=number)["result"]["files"] == message["result"]["files"]
    assert not (root / "mvdream-lgm").exists()
    assert (root / "downloads" / "model_fp16_fixrot.safetensors").is_file()  # put there, not downloaded


def test_download_without_a_network_says_what_to_fetch(backend, root: Path) -> None:
    error = error_of(backend.until(id=backend.call("models.download", job="j", model="mvdream-lgm")))
    assert error["code"] == "E_DOWNLOAD"
    assert str(root / "downloads" / "ashawkey--LGM") in error["hint"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"job": "j", "model": "nothing"}, "E_MODEL_UNKNOWN"),
        ({"job": "j", "model": ["starter"]}, "E_MODEL_UNKNOWN"),
        ({"job": "j"}, "E_MODEL_UNKNOWN"),
        ({"model": "mvdream-lgm"}, "E_PROTOCOL"),
        ({"job": "j", "model": "starter"}, "E_REQUEST"),
        ({"job": "j", "model": "videomv-t2v"}, "E_WEIGHTS_MISSING"),
    ],
)
def test_bad_change_is_refused_with_its_code(backend, root: Path, params: dict, code: str) -> None:
    assert error_of(backend.until(id=backend.call("models.remove", **params)))["code"] == code


def test_job_of_a_model_that_is_not_installed_says_how_to_get_it(backend, root: Path) -> None:
    number = backend.submit("j", root.parent / "asset", model="videomv-t2v")
    error = error_of(backend.until(id=number))
    assert error["code"] == "E_WEIGHTS_MISSING"
    assert "Models → videomv-t2v → Install" in error["hint"]
    assert "t2v_00333000.pth" in error["hint"]


def command(*arguments: str) -> tuple[int, str, str]:
    return terminal.command("models", *arguments)


def test_download_forgets_the_model_that_is_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(model_cache, "_kept", {(root, Plan()): "as it was before"})
    with pytest.raises(DioramaError):
        server._download("mvdream-lgm", root, Progress(lambda *_: None))
    assert not model_cache._kept


def test_commands_install_check_and_remove(root: Path, tmp_path: Path, monkeypatch) -> None:
    for name, network in published_models.NETWORKS.items():
        monkeypatch.setitem(published.NETWORKS, name, network)
    files = published_models.publish("mvdream-lgm", tmp_path / "files")
    code, out, err = command("convert", "mvdream-lgm", "--from", str(files), "--folder", str(tmp_path / "m"))
    assert code == 0, err
    assert "tensors from" in out
    assert not root.exists()  # --folder comes before the environment
    assert "installed in" in command("list", "--folder", str(tmp_path / "m"))[1]
    assert command("verify", "mvdream-lgm", "--folder", str(tmp_path / "m"))[0] == 0
    assert command("remove", "mvdream-lgm", "--folder", str(tmp_path / "m"))[0] == 0
    assert list((tmp_path / "m").iterdir()) == []


def test_listing_is_the_default_and_names_licences_and_files(root: Path) -> None:
    assert command() == command("list")
    code, out, _ = command()
    assert code == 0
    assert out.startswith("starter")
    for words in ("mvdream-lgm", "Commercial", "OpenRAIL", "pretrained_models.zip", "(estimated)"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["verify", "mvdream-lgm"], 3, "E_WEIGHTS_MISSING"),
        (["remove", "mvdream-lgm"], 3, "E_WEIGHTS_MISSING"),
        (["remove", "starter"], 2, "E_REQUEST"),
        (["download", "mvdream-lgm"], 3, "E_DOWNLOAD"),
        (["download", "nothing"], 2, "E_MODEL_UNKNOWN"),
        (["convert", "videomv-t2v", "--from", "."], 3, "E_WEIGHTS_MISSING"),
        (["convert", "videomv-t2v", "--from", "nowhere"], 2, "E_REQUEST"),
        (["convert", "videomv-t2v"], 2, "--from"),
        (["nonsense"], 2, "usage"),
    ],
)
def test_failures_have_their_exit_codes(
    root: Path, monkeypatch, arguments: list[str], code: int, word: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ended, _, err = command(*arguments)
    assert ended == code, err
    assert word in err


def test_models_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = command("download", "mvdream-lgm", "--folder", str(tmp_path / "file" / "models"))
    assert (code, "E_OUTPUT_UNWRITABLE" in err) == (4, True), err
