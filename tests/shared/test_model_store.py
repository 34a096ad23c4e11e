"""Model folders: what counts as installed, what a check finds, and what a removal deletes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backend.install import install
from backend.shared import manifests, model_store
from backend.shared.catalogue import MODELS
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError


def state(root: Path) -> model_store.State:
    return model_store.state(MODELS["mvdream-lgm"], root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A models folder with a finished model in it, whose files are small."""
    for name in ("unet/config.json", "unet/a.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        path = tmp_path / "models" / "mvdream-lgm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 99)
    (tmp_path / "models" / "mvdream-lgm" / "model.json").write_text('{"steps": 50}')
    manifests.seal(tmp_path / "models" / "mvdream-lgm", "mvdream-lgm")
    return tmp_path / "models"


def test_verify_finds_a_flipped_byte(root: Path) -> None:
    assert model_store.verify("mvdream-lgm", root, Progress())["files"] == 4
    path = root / "mvdream-lgm" / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert state(root).installed  # sizes are right
    changed = r"E_WEIGHTS_CORRUPT.*vae/diffusion_pytorch_model.safetensors was changed \(Install it again"
    with pytest.raises(DioramaError, match=changed):
        model_store.verify("mvdream-lgm", root, Progress())


def test_missing_and_short_files_make_a_model_damaged(root: Path) -> None:
    (root / "mvdream-lgm" / "model.json").write_text("{}")
    (root / "mvdream-lgm" / "unet" / "config.json").unlink()
    found = state(root)
    assert not found.installed
    assert len(found.problems) == 2
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_CORRUPT.*unet/config.json is missing"):
        model_store.require("mvdream-lgm", root)


def test_remove_leaves_foreign_files(root: Path) -> None:
    note = root / "mvdream-lgm" / "unet" / "note.txt"
    note.write_text("mine")
    by_hand = root / "downloads" / "ashawkey--LGM" / "model_fp16_fixrot.safetensors"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"mine")
    listed = manifests.read_manifest(root / "mvdream-lgm")["files"]
    assert model_store.remove("mvdream-lgm", root)["files"] == len(listed)
    left = sorted(path for path in root.rglob("*") if path.is_file())
    assert left == sorted([note, by_hand])
    assert not (root / "mvdream-lgm" / "vae").exists()
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*nothing of mvdream-lgm"):
        model_store.remove("mvdream-lgm", root)


@pytest.mark.parametrize("name", ["../escaped.txt", "/etc/hostname", "C:\\windows", "unet\\..\\x"])
def test_manifest_that_names_files_outside_is_refused(root: Path, name: str) -> None:
    outside = root / "escaped.txt"
    outside.write_text("mine")
    path = root / "mvdream-lgm" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: {"size": 4, "sha256": "0" * 64}}
    path.write_text(json.dumps(manifest))
    with pytest.raises(DioramaError, match="E_WEIGHTS_CORRUPT"):
        model_store.remove("mvdream-lgm", root)
    assert outside.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "files": {"a": 1}}', '{"schema": 99}'])
def test_damaged_manifest_is_an_error_in_words(root: Path, text: str) -> None:
    (root / "mvdream-lgm" / "manifest.json").write_text(text)
    assert not state(root).installed
    with pytest.raises(DioramaError, match="E_WEIGHTS_CORRUPT"):
        model_store.require("mvdream-lgm", root)


def test_model_is_put_in_the_place_of_one_with_a_damaged_manifest(root: Path) -> None:
    folder, unfinished = root / "mvdream-lgm", root / ".unfinished-mvdream-lgm"
    shutil.copytree(folder, unfinished)
    (unfinished / "unet" / "a.safetensors").write_bytes(b"new")
    manifests.seal(unfinished, "mvdream-lgm")
    (folder / "manifest.json").write_text("{")
    install._put_in_place(unfinished, folder)
    assert model_store.verify("mvdream-lgm", root, Progress())["files"] == 4
    assert (folder / "unet" / "a.safetensors").read_bytes() == b"new"


def test_starter_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(DioramaError, match="part of the extension"):
        model_store.remove("starter", tmp_path)


def test_starter_is_installed_once_its_settings_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_store, "STARTER", tmp_path / "starter_weights")
    (tmp_path / "starter_weights" / "unet").mkdir(parents=True)
    (tmp_path / "starter_weights" / "unet" / "config.json").write_text("{}")
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*Install the extension again"):
        model_store.require("starter", tmp_path)
    (tmp_path / "starter_weights" / "model.json").write_text("{}")
    assert model_store.require("starter") == tmp_path / "starter_weights"
    with pytest.raises(DioramaError, match=r"E_REQUEST.*without checksums"):
        model_store.verify("starter", tmp_path, Progress())
    manifests.seal(tmp_path / "starter_weights", "starter")
    assert model_store.verify("starter", tmp_path, Progress())["files"] == 2
    (tmp_path / "starter_weights" / "unet" / "config.json").unlink()
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_CORRUPT.*Install the extension again"):
        model_store.require("starter")


@pytest.mark.parametrize("name", ["nothing", "", None, 7])
def test_unknown_model_is_an_error_in_words(name: Any, tmp_path: Path) -> None:
    with pytest.raises(DioramaError, match=r"E_MODEL_UNKNOWN.*starter, videomv-t2v"):
        model_store.require(name, tmp_path)
