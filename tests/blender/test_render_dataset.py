"""Training data rendered from a user's own files: what the camera files say is where things appear."""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender.shining_balls import PLAIN, SMALL, add_ball, nd, pixels, read, save, save_moving_ball

ROOT = Path(__file__).parents[2]
# An object far from the origin and not of unit size: centre (10, 0, 3), longest side 4.
BALLS = {(8.3, 0.0, 3.0): (1, 0, 0), (11.7, 0.0, 3.0): (0, 1, 0), (10.0, 0.7, 3.7): (0, 0, 1)}
BALL_RADIUS = 0.3


def test_camera_files_agree_with_the_pictures_and_the_users_file_stays_as_it_was(render_dataset, tmp_path):
    for at, color in BALLS.items():
        add_ball(at, color, BALL_RADIUS)
    source = save(tmp_path / "Three balls.blend")
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    assert render_dataset(source, "--out", tmp_path / "data", "--elevation", "30", *SMALL) == 0
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix.startswith(".blend")] == [source.name]

    folder = tmp_path / "data/three-balls/three-balls/campos_32_v4"
    assert sorted(path.name for path in folder.iterdir()) == ["00000", "00001", "00002", "00003", "done.json"]
    low = np.array([8.0, -BALL_RADIUS, 3 - BALL_RADIUS])
    high = np.array([12.0, 0.7 + BALL_RADIUS, 3.7 + BALL_RADIUS])
    center, scale = (low + high) / 2, 4.0
    visible = 0
    for view in range(4):
        place = folder / f"{view:05d}/{view:05d}.png"
        camera = read(place.with_suffix(".json"))
        picture, depth = pixels(place), nd(place.with_name(f"{view:05d}_nd.exr"))
        assert picture.shape == (32, 32, 4)
        opencv = np.stack([camera["x"], camera["y"], camera["z"]])  # world to camera, rows
        focal = 16 / math.tan(camera["x_fov"] / 2)
        angle = math.radians(30)
        expected = 2 * np.array([math.cos(angle), 0, math.sin(angle)])
        turn = np.array([[0, -1], [1, 0]])
        for _ in range(view):  # view 0 on +X, then counter-clockwise from above
            expected[:2] = turn @ expected[:2]
        assert camera["origin"] == pytest.approx(expected, abs=1e-6)
        seen = {}
        for at, color in BALLS.items():
            unit = (np.array(at) - center) / scale
            unit = np.array(
                [-unit[1], unit[0], unit[2]]
            )  # what faces -Y in Blender faces +X, where view 0 is
            x, y, z = opencv @ (unit - camera["origin"])
            seen[color] = (16 + focal * x / z, 16 + focal * y / z, z)
        for color, (x, y, z) in seen.items():
            if any(other[2] < z and math.dist(other[:2], (x, y)) < 5 for other in seen.values()):
                continue  # another ball is in front
            visible += 1
            row, column = int(y), int(x)
            assert picture[row, column, 3] == 1
            assert picture[row, column, :3] == pytest.approx(color, abs=0.02)
            front = z - BALL_RADIUS / scale
            assert front - 0.002 < depth[row, column, 3] < front + 0.02
            assert depth[row, column, :3] @ opencv[2] < -0.8  # the normal looks at the camera
        assert picture[0, 0, 3] == 0 and depth[0, 0, 3] == 0
    assert visible >= 9
    assert read(tmp_path / "data/text_captions_cap3d.json") == {"three-balls/three-balls": "Three balls"}


def test_captioned_objects_and_collections_are_rendered_one_by_one(render_dataset, tmp_path):
    add_ball((0, 0, 0), (1, 0, 0), 1)["caption"] = "a red ball"
    pair = bpy.data.collections.new("pair")
    bpy.context.scene.collection.children.link(pair)
    pair["caption"] = "two green balls"
    for x in (5, 7):
        ball = add_ball((x, 0, 0), (0, 1, 0), 0.5)
        for collection in ball.users_collection:
            collection.objects.unlink(ball)
        pair.objects.link(ball)
    add_ball((0, 0.9, 0), (0, 0, 1), 0.5)  # nobody asked for this one
    source = save(tmp_path / "many.blend")
    assert render_dataset(source, "--out", tmp_path / "data", *SMALL) == 0
    captions = read(tmp_path / "data/text_captions_cap3d.json")
    assert captions == {"many/pair": "two green balls", "many/sphere": "a red ball"}
    for name, channel in (("pair", 1), ("sphere", 0)):
        for path in (tmp_path / f"data/many/{name}").rglob("*.png"):
            picture = pixels(path)
            shown = picture[picture[..., 3] == 1][:, :3]
            assert len(shown) > 20 and (shown.argmax(1) == channel).all() and shown.max() == 1


def test_finished_objects_are_skipped_and_unfinished_ones_rendered_again(render_dataset, tmp_path):
    (tmp_path / "files").mkdir()
    for name in ("one", "two"):
        bpy.ops.wm.read_homefile(use_empty=True)
        add_ball((0, 0, 0), (1, 0, 0), 1)
        save(tmp_path / f"files/{name}.blend")
    command = (tmp_path / "files", "--out", tmp_path / "data", *SMALL)
    assert render_dataset(*command) == 0
    (tmp_path / "data/two/two/campos_32_v4/done.json").write_text('{"status": "begun"}')  # it was stopped
    kept = tmp_path / "data/one/one/campos_32_v4/00000/00000.png"
    lost = tmp_path / "data/two/two/campos_32_v4/00003/00003.png"
    lost.unlink()
    stamp = kept.stat().st_mtime_ns
    assert render_dataset(*command) == 0
    statuses = {
        item["object"]: item["status"] for item in read(tmp_path / "data/report-videomv.json")["objects"]
    }
    assert statuses == {"one/one": "skipped", "two/two": "rendered"}
    assert kept.stat().st_mtime_ns == stamp and lost.exists()
    assert render_dataset(*command, "--seed", "1") == 0  # other settings: nothing of it is finished
    assert kept.stat().st_mtime_ns != stamp


def test_folder_of_the_users_is_not_replaced(render_dataset, tmp_path, capsys):
    add_ball((0, 0, 0), (1, 0, 0), 1)
    mine = tmp_path / "{data}/one/one/campos_32_v4/00000/00000.png"  # a downloaded data set has these names
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    command = (save(tmp_path / "one.blend"), "--out", tmp_path / "{data}", *SMALL)
    assert render_dataset(*command) == 1
    assert mine.read_text() == "mine" and "were not made here" in capsys.readouterr().out
    shutil.rmtree(mine.parents[1])
    assert render_dataset(*command) == 0
    assert mine.stat().st_size > 100


def test_runs_alone_on_a_glb_and_reports_a_damaged_file(dataset_script, tmp_path):
    add_ball((0, 0, 0), (1, 0, 0), 2)["caption"] = "a ball from a GLB"
    bpy.ops.export_scene.gltf(filepath=str(tmp_path / "ball.glb"), export_extras=True)
    (tmp_path / "damaged.glb").write_bytes(b"glTF but no more")
    command = [sys.executable, dataset_script, tmp_path, "--out", tmp_path / "data", *SMALL, "--views", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    report = {item["source"]: item for item in read(tmp_path / "data/report-videomv.json")["objects"]}
    assert report["damaged.glb"]["status"] == "failed" and report["damaged.glb"]["reason"]
    assert report["ball.glb"]["status"] == "rendered" and report["ball.glb"]["caption"] == "a ball from a GLB"
    picture = pixels(tmp_path / "data/ball/sphere/campos_32_v4/00001/00001.png")
    assert picture[16, 16, 3] == 1 and picture[16, 16, 0] > 0.9


def test_files_whose_names_are_alike_as_folders_get_one_each(render_dataset, tmp_path):
    for folder, name in (("a", "Стул"), ("a", "Стол"), ("a", "My chair"), ("b", "my-chair"), ("b", "Стол")):
        bpy.ops.wm.read_homefile(use_empty=True)
        add_ball((0, 0, 0), (1, 0, 0), 1)
        (tmp_path / folder).mkdir(exist_ok=True)
        save(tmp_path / folder / f"{name}.blend")
    small = ("--views", "1", "--size", "16", "--samples", "1")
    assert render_dataset(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "data", *small) == 0
    entries = read(tmp_path / "data/report-videomv.json")["objects"]
    assert len({entry["object"] for entry in entries}) == 5
    captions = read(tmp_path / "data/text_captions_cap3d.json")
    assert sorted(captions.values()) == ["My chair", "my chair", "Стол", "Стол", "Стул"]
    assert captions == {entry["object"]: entry["caption"] for entry in entries}


def test_a_camera_that_a_marker_brings_is_not_the_one_that_sees(render_dataset, tmp_path):
    source = save_moving_ball(tmp_path / "cut.blend", (0.3, 0, 0.5), (-0.3, 0, 0.5))
    away = bpy.data.objects.new("away", bpy.data.cameras.new("away"))
    bpy.context.scene.collection.objects.link(away)
    away.location = (0, 0, 50)
    bpy.context.scene.timeline_markers.new("cut", frame=1).camera = away
    save(source)
    clip = ("--mode", "vividzoo", "--frames", "2", *PLAIN)
    for mode, name in (((), "campos_32_v4/00001/00001.png"), (clip, "video_32/00001/00001.png")):
        assert render_dataset(source, "--out", tmp_path / "data", *mode, *SMALL) == 0
        assert pixels(tmp_path / "data/cut/cut" / name)[..., 3].mean() > 0.1


def test_what_a_collection_hides_from_the_render_is_not_framed_and_does_not_light(render_dataset, tmp_path):
    add_ball((0, 0, 0), (1, 0, 0), 0.5)
    hidden = bpy.data.collections.new("cutters")
    bpy.context.scene.collection.children.link(hidden)
    hidden.hide_render = True
    lamp = bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "POINT"))
    bpy.context.scene.collection.objects.link(lamp)
    for item in (add_ball((10, 0, 0), (0, 1, 0), 0.5), lamp):
        for collection in item.users_collection:
            collection.objects.unlink(item)
        hidden.objects.link(item)
    source = save(tmp_path / "cut.blend")
    assert render_dataset(source, "--out", tmp_path / "data", *SMALL) == 0
    assert pixels(tmp_path / "data/cut/cut/campos_32_v4/00000/00000.png")[..., 3].mean() > 0.1
    assert "dataset sun" in bpy.data.objects  # the file's own lamp is not rendered


def test_a_file_that_cannot_be_read_is_reported_and_a_folder_that_is_called_like_one_is_none(
    render_dataset, tmp_path, monkeypatch
):
    (tmp_path / "files/scene.glb").mkdir(parents=True)
    add_ball((0, 0, 0), (1, 0, 0), 1)
    for name in ("locked", "open"):
        save(tmp_path / f"files/{name}.blend")
    assert render_dataset(tmp_path / "files/open.blend", "--out", tmp_path / "first", *SMALL) == 0
    command = sys.modules["diorama_dataset.command"]  # which is loaded once
    checksum = command._sha256

    def unless_locked(path: Path) -> str:
        if path.stem == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return checksum(path)

    monkeypatch.setattr(command, "_sha256", unless_locked)
    assert render_dataset(tmp_path / "files", "--out", tmp_path / "data", *SMALL) == 1
    locked, opened = read(tmp_path / "data/report-videomv.json")["objects"]
    assert locked["status"] == "failed" and "Permission denied" in locked["reason"]
    assert opened["status"] == "rendered"


def test_captions_that_were_broken_by_hand_are_not_written_over(render_dataset, tmp_path, capsys):
    source = save_moving_ball(tmp_path / "moves.blend", (0.3, 0, 0.5))
    captions = tmp_path / "data/text_captions_cap3d.json"
    captions.parent.mkdir()
    captions.write_text('{"a/b": "a better caption",}')
    with pytest.raises(SystemExit) as stopped:
        render_dataset(source, "--out", tmp_path / "data", *SMALL)
    assert stopped.value.code == 2 and "text_captions_cap3d.json is damaged" in capsys.readouterr().err
    assert "a better caption" in captions.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere is not there"),
        ([], "nothing to render"),
        (["--size", "2"], "--size is 2"),
        (["--radius", "0.1"], "--radius must be between"),
        (["--textureless", "10"], "--textureless is 10.0, expected a share from 0 to 1"),
    ],
)
def test_wrong_command_lines_say_what_to_do(render_dataset, tmp_path, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        render_dataset("--out", tmp_path / "data", *arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_an_empty_scene_is_reported_as_failed(render_dataset, tmp_path):
    source = save(tmp_path / "empty.blend")
    assert render_dataset(source, "--out", tmp_path / "data", *SMALL) == 1
    (entry,) = read(tmp_path / "data/report-videomv.json")["objects"]
    assert entry["status"] == "failed" and "visible" in entry["reason"]


def test_the_trainer_reads_it_and_finds_the_object_where_it_is(render_dataset, tmp_path, backend_python):
    ball = add_ball((5, 5, 5), (1, 0, 0), 0.4)
    ball["caption"] = "a ball on a stick"
    bpy.ops.mesh.primitive_cylinder_add(radius=0.2, depth=4, location=(4, 5, 5))
    bpy.context.object.parent, ball.name = ball, "ball"  # the stick is at Blender's -X: on the unit's -Y
    bpy.context.object.matrix_parent_inverse = ball.matrix_world.inverted()
    source = save(tmp_path / "stick.blend")
    size = ["--size", "64", "--views", "8", "--samples", "1"]
    assert render_dataset(source, "--out", tmp_path / "data", *size) == 0
    code = """
import sys
from pathlib import Path
from backend.gaussians.fitting import cloud_in_silhouettes
from backend.training import objaverse
found = objaverse.scan(Path(sys.argv[1]), views=8)
views = objaverse.load(found.objects[0], 64)
rgba = views.rgba[:, 0].float() / 255
cloud = cloud_in_silhouettes(rgba, views.cameras, views.fov_deg, 4000)
print(cloud.means[cloud.means[:, 2] > 0.3].mean(0)[1])
print(views.caption, *cloud.means.min(0), *cloud.means.max(0), sep="|")
"""
    command = [str(backend_python), "-c", code, str(tmp_path / "data")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    stick_y, line = result.stdout.split("\n", 1)
    assert float(stick_y) == pytest.approx(-0.15, abs=0.02)  # not mirrored
    caption, *numbers = line.strip().split("|")
    assert caption == "a ball on a stick"
    low, high = np.array(numbers[:3], float), np.array(numbers[3:], float)
    # length 4 is the unit: the stick from -0.5 to 0.5 in Z at y = -0.15, the ball at y = +0.1
    assert low == pytest.approx([-0.1, -0.2, -0.5], abs=0.05)
    assert high == pytest.approx([0.1, 0.2, 0.5], abs=0.05)
