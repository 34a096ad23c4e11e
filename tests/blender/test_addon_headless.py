"""The batch without a window, as a program: what it makes, what it skips, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import bpy
import numpy as np
import pytest

from backend.shared.asset import read_asset, write_asset
from tests.blender.scene_helpers import make_cloud, orbit


@pytest.fixture
def program(diorama: ModuleType, backend_python: Path):
    """Runs batch.py of the installed extension in a Python of its own."""

    def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess:
        script = (folder or Path(diorama.__file__).parent) / "batch.py"
        command = [sys.executable, str(script), "--backend-python", str(backend_python), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    return run


@dataclasses.dataclass(frozen=True)
class Ended:
    """As `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def batch(
    diorama: ModuleType,
    backend_python: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Ended]]:
    """Runs the same in this Blender, with small previews and a backend that the next test goes on with."""
    host = diorama.host.get()
    monkeypatch.setattr(host, "close", lambda: None)
    monkeypatch.setattr(diorama.headless, "PREVIEW_PX", 48)

    def run(*arguments: str, python: Path = backend_python) -> Ended:
        capsys.readouterr()
        try:
            code = diorama.headless.main(["--backend-python", str(python), *arguments])
        except SystemExit as ended:  # of argparse
            code = int(ended.code or 0)
        return Ended(code, *capsys.readouterr())

    yield run
    host.python = ""


def test_prompt_to_blend(program, diorama: ModuleType, tmp_path: Path) -> None:
    asked = ("--prompt", "a red mushroom", "--seed", "7", "--views", "3", "--steps", "2")
    result = program(*asked, "--out", str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "seconds" in result.stdout
    assert "MiB" in result.stdout
    made = read_asset(tmp_path / "asset")
    assert made.request["prompt"] == "a red mushroom"
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    collection = bpy.data.collections["a red mushroom"]
    assert len(diorama.scene.view_cameras(collection)) == len(made.views)
    assert bpy.context.scene.camera == diorama.scene.orbit_camera(collection)
    pixels = diorama.headless._pixels(tmp_path / "preview.png")
    height = pixels.shape[0]
    rendered = pixels[:, :height, :3]
    assert np.abs(rendered - diorama.headless.GREY).max(axis=-1).mean() > 0.02  # something stands there
    assert np.abs(rendered[:8, :8] - diorama.headless.GREY).max() < 0.02  # and in the corner is background
    assert pixels.shape[1] > height  # the contact sheet is beside it


def test_preview_shows_moments_of_what_moves(
    extension: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension.headless, "PREVIEW_PX", 48)
    cloud = make_cloud(60)
    write_asset(
        tmp_path / "asset",
        request={"prompt": "a walk", "seed": 1},
        model="starter",
        clouds=[dataclasses.replace(cloud, means=cloud.means * 0.2 + [0, 0, 0.2 * i]) for i in range(6)],
        views=np.ones((1, 6, 16, 16, 4), np.float32),
        cameras=orbit(1),
        fov_deg=40.0,
        blending="linear",
        timings={},
        tracked=True,
    )
    collection = extension.scene.import_asset(bpy.context, tmp_path / "asset", report=lambda change: None)
    settings = bpy.context.scene.render  # of an artist's own file
    bpy.ops.mesh.primitive_cube_add(size=4)  # and something of the artist's, which hides the splats
    cube = bpy.context.object
    bpy.ops.object.camera_add(location=(0, 60, 0))
    bpy.context.scene.timeline_markers.new("cut", frame=1).camera = bpy.context.object
    settings.use_border = settings.use_crop_to_border = True
    settings.border_max_x, settings.pixel_aspect_y = 0.5, 2.0
    if hasattr(settings.image_settings, "media_type"):
        settings.image_settings.media_type = "VIDEO"
    else:
        settings.image_settings.file_format = "FFMPEG"
    made = tmp_path / "{3F25}" / "preview.png"
    made.parent.mkdir()
    extension.headless._preview(collection, tmp_path / "asset" / "preview.png", made)
    pixels = extension.headless._pixels(made)
    assert pixels.shape[:2] == (48, 3 * 48 + 6 * 48)  # the sheet has a row of six frames
    shown = np.abs(pixels[:, : 3 * 48, :3] - extension.headless.GREY).max(axis=-1).reshape(48, 3, 48)
    heights = (shown.sum(2) * np.arange(48)[:, None]).sum(0) / shown.sum((0, 2))
    assert (np.diff(heights) > 2).all()  # it climbs, from one moment to the next
    assert not cube.hide_render


def test_many_jobs_and_again(batch, tmp_path: Path) -> None:
    lines = [
        {"prompt": "a red mushroom", "seed": 1, "steps": 1, "views": 2},
        {"prompt": "a blue snowman", "seed": 2, "steps": 1, "views": 2},
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


def test_wrong_line_and_a_failing_job_are_named_and_stop_no_other(
    batch, diorama: ModuleType, tmp_path: Path
) -> None:
    unwritable = diorama.host.GenerationRequest("a car", steps=1)
    lines = [
        '{"prompt": "a", "colour": 1}',
        json.dumps(unwritable.to_dict()),
        '{"prompt": "a red mushroom", "name": "first mushroom", "views": 2}',
    ]
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    jobs.write_text("\n".join(lines))
    out.mkdir()
    (out / diorama.client.jobs.folder_name(unwritable)).write_text("in the way")
    result = batch("--jobs", str(jobs), "--steps", "1", "--out", str(out))
    assert result.returncode == 2  # of the first that failed
    assert "jobs.jsonl:1" in result.stderr
    assert "E_OUTPUT_UNWRITABLE" in result.stderr
    assert (out / "first mushroom" / "scene.blend").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--prompt", ""], 2, "E_PROMPT_EMPTY"),
        (["--prompt", "x" * 10_000], 2, "E_PROMPT_TOO_LONG"),
        (["--prompt", "a red mushroom", "--model", "nothing"], 2, "E_MODEL_UNKNOWN"),
        (["--prompt", "a red mushroom", "--seed", "-1"], 2, "E_REQUEST"),
        (["--jobs", "/nowhere/jobs.jsonl"], 2, "E_REQUEST"),
        (["--prompt", "a red mushroom", "--elevation", "90"], 2, "elevation_deg is 90"),
        (["--prompt", "a red mushroom", "--radius", "0"], 2, "radius is 0"),
        (["--prompt", "a red mushroom", "--fast", "--method", "distill"], 2, "no fast way"),
        (["--prompt", "a red mushroom", "--jobs", "jobs.jsonl"], 2, "not allowed with"),
        (["--image"], 2, "expected one argument"),
        (["--image", "chair.png", "--model", "vivid-zoo"], 2, "conditioned on text"),
        (["--prompt", "a chair", "--model", "videomv-i2v"], 3, "is not installed"),
        (["--camera"], 2, "no .blend file is open"),
        (["--camera", "--blend", "nothing.blend"], 2, "nothing.blend cannot be opened"),
        ([], 2, "usage"),
    ],
)
def test_exit_code_of_a_wrong_request(
    batch, tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    result = batch(*arguments, "--out", str(tmp_path / "out"))
    assert result.returncode == code
    assert word in result.stderr


@pytest.fixture
def two_cameras(tmp_path: Path) -> Path:
    """A file with a cube, an active camera that sees it, and another that looks away."""
    bpy.ops.mesh.primitive_cube_add(size=1)
    bpy.ops.object.camera_add(location=(0, 6, 0), rotation=(np.pi / 2, 0, 0))
    bpy.context.object.name = "Away"
    bpy.ops.object.camera_add(location=(0, -6, 0), rotation=(np.pi / 2, 0, 0))
    bpy.context.object.name = "Front"
    scene = bpy.context.scene
    scene.camera = bpy.context.object
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


@pytest.mark.parametrize(("name", "seen"), [([], True), (["Away"], False)])
def test_camera_s_picture_is_rendered_and_given_to_the_model(
    batch, diorama: ModuleType, two_cameras: Path, tmp_path: Path, name, seen: bool
) -> None:
    saved = two_cameras.read_bytes()
    out = tmp_path / "out"
    asked = ("--camera", *name, "--out", str(out))
    opened = [] if name else ["--blend", bpy.data.filepath]
    if not name:
        bpy.ops.wm.read_homefile(use_empty=True)
    result = batch(*asked, *opened, "--model", "videomv-i2v")
    # as far as it goes without the published weights
    assert (result.returncode, "E_WEIGHTS_MISSING" in result.stderr) == (3, True), result.stderr
    pixels = diorama.headless._pixels(out / "source" / f"{(name or ['Front'])[0]}.png")
    assert (pixels[..., 3].max() == 1) == seen
    assert two_cameras.read_bytes() == saved


def test_camera_that_is_not_there_is_named_with_those_that_are(
    batch, two_cameras: Path, tmp_path: Path
) -> None:
    result = batch("--camera", "Cube", "--model", "videomv-i2v", "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert "has no camera 'Cube'" in result.stderr
    assert "Away, Front" in result.stderr
    assert not (tmp_path / "out").exists()


def test_picture_in_a_list_of_jobs_is_beside_the_list(diorama: ModuleType, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(json.dumps({"image": "chair.png", "model": "videomv-i2v"}))
    args = diorama.headless.argparse.Namespace(jobs=jobs)
    (job,) = diorama.headless._requests(args, tmp_path / "out")
    assert job.request.image == str(tmp_path / "chair.png")


def test_exit_code_of_an_unwritable_folder(program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = program("--prompt", "a red mushroom", "--out", str(tmp_path / "file" / "out"))
    assert result.returncode == 4
    assert "E_OUTPUT_UNWRITABLE" in result.stderr


def test_exit_code_of_a_missing_backend(batch, tmp_path: Path) -> None:
    result = batch(
        "--prompt", "a red mushroom", "--out", str(tmp_path), python=tmp_path / "nowhere" / "python"
    )
    assert result.returncode == 3
    assert "E_ENVIRONMENT" in result.stderr


def test_missing_and_truncated_weights_in_an_unpacked_zip(program, zip_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "diorama"
    shutil.unpack_archive(zip_path, folder)
    weights = max(
        (folder / "backend" / "starter" / "weights").rglob("*.safetensors"),
        key=lambda path: path.stat().st_size,
    )
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    truncated = program("--prompt", "a red mushroom", "--out", str(tmp_path / "out"), folder=folder)
    assert (truncated.returncode, "E_WEIGHTS_CORRUPT" in truncated.stderr) == (3, True), truncated.stderr
    weights.unlink()
    missing = program("--prompt", "a red mushroom", "--out", str(tmp_path / "out"), folder=folder)
    assert (missing.returncode, "E_WEIGHTS_MISSING" in missing.stderr) == (3, True), missing.stderr
    assert not list((tmp_path / "out").rglob("asset.json"))
