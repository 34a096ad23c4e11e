"""How the batch ends when it is not let finish: by Ctrl-C, and on a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

from backend.shared.ply import write_ply
from tests.shared.clouds import make_cloud
from tests.small_disk import run_on_small_disk

# Where these tests run in the background of a shell, it has them and all that they start ignore Ctrl-C.
HEEDS_CTRL_C = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ctrl_c_ends_all_jobs_and_leaves_no_folder_of_theirs(
    diorama: ModuleType, backend_python: Path, tmp_path: Path
) -> None:
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    jobs.write_text("".join(json.dumps({"prompt": "a red mushroom", "seed": seed}) + "\n" for seed in (1, 2)))
    script = Path(diorama.__file__).parent / "batch.py"
    command = [sys.executable, "-c", HEEDS_CTRL_C, str(script), "--jobs", str(jobs), "--out", str(out)]
    with open(tmp_path / "log", "wb") as log:
        batch = subprocess.Popen(
            [*command, "--backend-python", str(backend_python)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            deadline = time.monotonic() + 60
            while not list(out.glob("*/asset")):  # the first job is being made
                assert time.monotonic() < deadline and batch.poll() is None
                time.sleep(0.05)
            os.killpg(batch.pid, signal.SIGINT)  # as a terminal does, to the backend too
            assert batch.wait(30) == 130
        finally:
            batch.kill()
    said = (tmp_path / "log").read_text()
    assert "seed 1" in said and "seed 2" not in said and "E_CANCELLED" in said
    assert [path.name for path in out.iterdir()] == [".jobs"]
    assert not list((out / ".jobs").iterdir())


SAVE_TWICE = """
import os, runpy, sys
from pathlib import Path
import bpy
addon = runpy.run_path(sys.argv[2])["addon"]()
folder, Failure = Path(sys.argv[1]), addon.headless.DioramaError
bpy.ops.wm.read_homefile(use_empty=True)
addon.headless._save(folder, folder / "scene.blend")
before = (folder / "scene.blend").read_bytes()
cloud = addon.backend.shared.ply.read_ply(sys.argv[3])
body = addon.scene.splats.splat_object("a", addon.scene.splats.splat_mesh("a", cloud), "linear")
bpy.context.scene.collection.objects.link(body)
bpy.context.view_layer.objects.active = body
try:
    addon.headless._save(folder, folder / "scene.blend")
except Failure as error:
    print(error.code, error.exit_code)
try:
    bpy.ops.diorama.export_splats(filepath=str(folder / "a.ply"))
except RuntimeError as error:
    print(error)
print(os.listdir(folder), (folder / "scene.blend").read_bytes() == before)
"""


def test_full_disk_is_said_and_leaves_nothing_half_saved(diorama: ModuleType, tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", make_cloud(20_000))
    (tmp_path / "disk").mkdir()
    script = Path(diorama.__file__).parent / "batch.py"
    said = run_on_small_disk(tmp_path / "disk", 1000, SAVE_TWICE, str(script), str(tmp_path / "a.ply"))
    assert "E_DISK_FULL 4\n" in said
    assert "a.ply cannot be written: No space left on device" in said
    assert said.endswith("['scene.blend'] True\n")
