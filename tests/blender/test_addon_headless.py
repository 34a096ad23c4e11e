"""The batch without a window, as a program: what it makes, what it skips, and its exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import bpy
import numpy as np
import pytest


@pytest.fixture
def batch(diorama: ModuleType, backend_python: Path):
    """Runs batch.py of the installed extension in a Python of its own."""

    def run(
        *arguments: str, folder: Path | None = None, python: Path = backend_python
    ) -> subprocess.CompletedProcess:
        script = (folder or Path(diorama.__file__).parent) / "batch.py"
        command = [sys.executable, str(script), "--backend-python", str(python), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    return run


def test_prompt_to_blend(batch, diorama: ModuleType, tmp_path: Path) -> None:
    result = batch("--prompt", "a red mushroom", "--seed", "7", "--out", str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "seconds" in result.stdout
    assert "MiB" in result.stdout
    made = diorama.headless.asset.read_asset(tmp_path / "asset")
    assert made.request["prompt"] == "a red mushroom"
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    collection = bpy.data.collections["a red mushroom"]
    assert len(diorama.scene.view_cameras(collection)) == len(made.views)
    assert bpy.context.scene.camera == diorama.scene.orbit_camera(collection)
    pixels = diorama.headless._pixels(tmp_path / "preview.png")
    height = pixels.shape[0]
    rendered = pixels[:, :height, :3]
    assert np.abs(rendered - diorama.headless.GREY).max(axis=-1).mean() > 0.02  # something stands there
    assert np.abs(rendered[:8] - diorama.headless.GREY).max() < 0.02  # and around it is background
    assert pixels.shape[1] > height  # the contact sheet is beside it


def test_many_jobs_and_again(batch, tmp_path: Path) -> None:
    lines = [
        {"prompt": "a red mushroom", "seed": 1, "steps": 2},
        {"prompt": "a blue snowman", "seed": 2, "steps": 2},
    ]
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    first = batch("--jobs", str(jobs), "--out", str(tmp_path / "out"))
    assert first.returncode == 0, first.stderr
    blends = sorted((tmp_path / "out").glob("*/scene.blend"))
    assert len(blends) == 2
    (blends[0].parent / "preview.png").unlink()  # as if it had been stopped before the end
    times = [blend.stat().st_mtime_ns for blend in blends]
    again = batch("--jobs", str(jobs), "--out", str(tmp_path / "out"))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already complete") == 1
    assert [blend.stat().st_mtime_ns == time for blend, time in zip(blends, times, strict=True)] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [('{"prompt": ""}', 2), ("not json", 2), ('{"prompt": "a", "colour": 1}', 2), ("[]", 2)],
)
def test_wrong_line_is_named_before_anything_is_done(batch, tmp_path: Path, line: str, code: int) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"prompt": "a red mushroom"}\n' + line)
    result = batch("--jobs", str(jobs), "--out", str(tmp_path / "out"))
    assert result.returncode == code
    assert "jobs.jsonl:2" in result.stderr
    assert not (tmp_path / "out").exists()


def test_one_failing_job_does_not_stop_the_others(batch, diorama: ModuleType, tmp_path: Path) -> None:
    requests = [diorama.host.GenerationRequest(prompt, steps=2) for prompt in ("a red mushroom", "a car")]
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("\n".join(json.dumps(request.to_dict()) for request in requests))
    first, second = (diorama.jobs.named_directory(tmp_path / "out", request) for request in requests)
    first.parent.mkdir()
    first.write_text("in the way")
    result = batch("--jobs", str(jobs), "--out", str(tmp_path / "out"))
    assert result.returncode == 4
    assert "E_OUTPUT_UNWRITABLE" in result.stderr
    assert (second / "scene.blend").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--prompt", ""], 2, "E_PROMPT_EMPTY"),
        (["--prompt", "x" * 10_000], 2, "E_PROMPT_TOO_LONG"),
        (["--prompt", "a red mushroom", "--model", "nothing"], 2, "E_MODEL_UNKNOWN"),
        (["--prompt", "a red mushroom", "--seed", "-1"], 2, "E_REQUEST"),
        (["--jobs", "/nowhere/jobs.jsonl"], 2, "E_REQUEST"),
        ([], 2, "usage"),
    ],
)
def test_exit_code_of_a_wrong_request(
    batch, tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    result = batch(*arguments, "--out", str(tmp_path / "out"))
    assert result.returncode == code
    assert word in result.stderr


def test_exit_code_of_an_unwritable_folder(batch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = batch("--prompt", "a red mushroom", "--out", str(tmp_path / "file" / "out"))
    assert result.returncode == 4
    assert "E_OUTPUT_UNWRITABLE" in result.stderr


def test_exit_code_of_a_missing_backend(batch, tmp_path: Path) -> None:
    result = batch(
        "--prompt", "a red mushroom", "--out", str(tmp_path), python=tmp_path / "nowhere" / "python"
    )
    assert result.returncode == 3
    assert "E_ENVIRONMENT" in result.stderr


def test_missing_and_truncated_weights_in_an_unpacked_zip(batch, zip_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "diorama"
    shutil.unpack_archive(zip_path, folder)
    weights = max(
        (folder / "backend" / "starter_weights").rglob("*.safetensors"), key=lambda path: path.stat().st_size
    )
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    truncated = batch("--prompt", "a red mushroom", "--out", str(tmp_path / "out"), folder=folder)
    assert (truncated.returncode, "E_WEIGHTS_CORRUPT" in truncated.stderr) == (3, True), truncated.stderr
    weights.unlink()
    missing = batch("--prompt", "a red mushroom", "--out", str(tmp_path / "out"), folder=folder)
    assert (missing.returncode, "E_WEIGHTS_MISSING" in missing.stderr) == (3, True), missing.stderr
    assert not list((tmp_path / "out").rglob("asset.json"))
