"""Moving splats play, loop, interpolate and render in order, also without the extension."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from backend.shared.ply import read_ply, write_ply
from backend.shared.sequence_file import read_sequence, write_sequence
from tests.blender.scene_helpers import add_camera, make_cloud, orbit, pixel_size, prepare, read_image, render
from tests.blender.splat_reference import psnr
from tests.blender.splat_reference import render as reference

pytestmark = pytest.mark.usefixtures("nodes")
SIZE = 48
POSE = orbit(4)[1]


def expected(cloud):
    return reference(cloud, POSE, SIZE, SIZE, pixel=pixel_size(40, SIZE))


@pytest.fixture
def clouds():
    """Three clouds of different sizes."""
    return [make_cloud(60 + 20 * i, 1, seed=i) for i in range(3)]


@pytest.fixture
def sequence(extension, clouds, tmp_path):
    for index, cloud in enumerate(clouds):
        write_ply(tmp_path / f"walk_{index}.ply", cloud)
    names = [{"name": f"walk_{index}.ply"} for index in (2, 0, 1)]
    bpy.ops.diorama.import_splats(directory=str(tmp_path), files=names, blending="LINEAR")
    prepare(SIZE, SIZE)
    add_camera(POSE)
    return bpy.context.active_object


def set_input(extension, body, name, value):
    modifier = body.modifiers["Diorama Sequence"]
    extension.scene.modifier_inputs.set_inputs(modifier, **{name: value})


@pytest.mark.parametrize(("frame", "shown"), [(1, 0), (2, 1), (3, 2), (4, 0), (0, 2), (3000, 2)])
def test_each_frame_shows_its_cloud_and_repeats(sequence, clouds, tmp_path, frame, shown):
    bpy.context.scene.frame_set(frame)
    assert psnr(render(tmp_path), expected(clouds[shown])) > 70


@pytest.mark.parametrize(("frame", "shown"), [(0, 0), (2, 1), (9, 2)])
def test_without_loop_the_ends_stay(extension, sequence, clouds, tmp_path, frame, shown):
    set_input(extension, sequence, "Loop", False)
    bpy.context.scene.frame_set(frame)
    assert psnr(render(tmp_path), expected(clouds[shown])) > 70


def test_tracked_splats_move_between_frames(extension, tmp_path):
    first = make_cloud(80)
    second = replace(first, means=first.means + np.float32(0.3), opacities=first.opacities * np.float32(0.5))
    body = extension.scene.sequences.sequence_object("walk", [first, second], "linear", 1)
    scene = prepare(SIZE, SIZE)
    scene.collection.objects.link(body)
    extension.scene.render.raise_bounces(scene)
    add_camera(POSE)
    set_input(extension, body, "Interpolate", True)
    body.animation_data.drivers[0].driver.expression = "(frame - 1) * 0.25"  # four times slower
    scene.frame_set(2)
    between = replace(
        first, means=first.means + np.float32(0.075), opacities=first.opacities * np.float32(0.875)
    )
    assert psnr(render(tmp_path), expected(between)) > 60


def moved(cloud, shift: float):
    return replace(cloud, means=cloud.means + np.float32(shift))


@pytest.fixture
def compact(tmp_path):
    """Two frames of the same splats, twelve a second, in one file."""
    first = make_cloud(80)
    write_sequence(tmp_path / "walk.npz", [first, moved(first, 0.3)], fps=12)
    return tmp_path / "walk.npz"


@pytest.mark.parametrize(("frame", "shift"), [(1, 0.0), (2, 0.15), (3, 0.3)])
def test_compact_file_plays_at_its_own_speed_and_moves_between_frames(extension, compact, frame, shift):
    bpy.context.scene.render.fps = 24
    bpy.ops.diorama.import_splats(filepath=str(compact))
    body = bpy.context.active_object
    assert body["fps"] == 12
    scene = prepare(SIZE, SIZE)
    add_camera(POSE)
    scene.frame_set(frame)
    cloud = read_sequence(compact).clouds[0]
    assert psnr(render(compact.parent), expected(moved(cloud, shift))) > 60


def test_compact_file_says_itself_how_it_is_composited(extension, compact, tmp_path):
    clouds = read_sequence(compact).clouds
    write_sequence(tmp_path / "display.npz", clouds, fps=8, blending="display")
    bpy.ops.diorama.import_splats(filepath=str(tmp_path / "display.npz"), blending="LINEAR")
    shown = bpy.data.objects["display"]
    splats = extension.scene.splats.splat_modifier(shown)
    assert extension.scene.modifier_inputs.get_input(splats, "Display Blending")


def test_bad_compact_files_are_refused_and_the_scene_stays(extension, compact, tmp_path):
    (tmp_path / "cut.npz").write_bytes(compact.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match=r"E_PLY: .*cut.npz cannot be read as a sequence"):
        bpy.ops.diorama.import_splats(filepath=str(tmp_path / "cut.npz"))
    names = [{"name": "walk.npz"}, {"name": "cut.npz"}]
    with pytest.raises(RuntimeError, match="Import one at a time"):
        bpy.ops.diorama.import_splats(directory=str(tmp_path), files=names)
    assert not bpy.data.objects and not bpy.data.meshes


@pytest.mark.parametrize("tracked", [True, False])
def test_tracked_asset_moves_between_frames_and_another_does_not(extension, tmp_path, tracked):
    first = make_cloud(80)
    write_asset(
        tmp_path / "asset",
        request={"prompt": "a walk", "seed": 1},
        model="starter",
        clouds=[first, moved(first, 0.3)],
        views=np.ones((2, 2, SIZE, SIZE, 4), np.float32),
        cameras=orbit(2),
        fov_deg=40.0,
        blending="linear",
        timings={},
        front="-Y",
        tracked=tracked,
        fps=6,
    )
    collection = extension.scene.import_asset(bpy.context, tmp_path / "asset", report=lambda change: None)
    (body,) = extension.scene.splat_objects(collection)
    assert body["fps"] == 6
    body.parent.matrix_basis = body.matrix_parent_inverse.inverted()  # as large and where it was made
    scene = prepare(SIZE, SIZE)
    add_camera(POSE)
    body.animation_data.drivers[0].driver.expression = "(frame - 1) * 0.5"
    scene.frame_set(2)
    between = moved(first, 0.15 if tracked else 0.0)
    assert psnr(render(tmp_path), expected(between)) > 60


def test_sequence_renders_in_order_without_the_extension(sequence, clouds, tmp_path):
    scene = bpy.context.scene
    render(tmp_path)  # sets the format
    scene.render.filepath = str(tmp_path / "frame_")
    scene.frame_start, scene.frame_end = 1, 3
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "walk.blend"))
    script = (
        "import bpy, sys\n"
        "bpy.ops.wm.open_mainfile(filepath=sys.argv[1])\n"
        "assert not hasattr(bpy.types.Scene, 'diorama')\n"
        "bpy.ops.render.render(animation=True)\n"
    )
    farm = {"BLENDER_USER_RESOURCES": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "walk.blend")]
    subprocess.run(command, check=True, env=farm, capture_output=True)
    for frame, cloud in enumerate(clouds, start=1):
        assert psnr(read_image(tmp_path / f"frame_{frame:04d}.exr"), expected(cloud)) > 70


def test_export_writes_a_file_per_frame(sequence, clouds, tmp_path):
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "out.ply"))
    for index, cloud in enumerate(clouds):
        np.testing.assert_array_equal(read_ply(tmp_path / f"out_{index:04d}.ply").means, cloud.means)


def test_export_replaces_no_file_of_a_frame_unless_told_to(sequence, clouds, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "out_0001.ply").write_text("mine")
    with pytest.raises(RuntimeError, match=r"out_0001\.ply would be replaced"):
        bpy.ops.diorama.export_splats(filepath=str(folder / "out.ply"))
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("out_0001.ply", "mine")]
    bpy.ops.diorama.export_splats(filepath=str(folder / "out.ply"), overwrite=True)
    assert len(read_ply(folder / "out_0001.ply").means) == len(clouds[1])


def test_files_are_frames_in_the_order_of_their_numbers(extension, tmp_path):
    for number in (1, 2, 10):
        write_ply(tmp_path / f"walk_{number}.ply", make_cloud(number))
    names = [{"name": f"walk_{number}.ply"} for number in (10, 2, 1)]
    bpy.ops.diorama.import_splats(directory=str(tmp_path), files=names, blending="LINEAR")
    frames = extension.scene.sequences.frame_objects(bpy.context.active_object)
    assert [len(frame.data.vertices) for frame in frames] == [1, 2, 10]


def test_frames_can_be_kept_in_another_file(sequence, clouds, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    with_frames = (tmp_path / "scene.blend").stat().st_size
    assert bpy.ops.diorama.keep_frames_beside(filepath=str(tmp_path / "frames.blend")) == {"FINISHED"}
    assert {mesh.library.filepath for mesh in bpy.data.meshes} == {"//frames.blend"}
    bpy.ops.wm.save_mainfile()
    assert (tmp_path / "scene.blend").stat().st_size < with_frames
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    for frame, cloud in enumerate(clouds, start=1):
        bpy.context.scene.frame_set(frame)
        assert psnr(render(tmp_path), expected(cloud)) > 70


def test_copies_keep_their_frames_when_these_go_to_another_file(extension, sequence, clouds, tmp_path):
    copy = sequence.copy()
    bpy.context.scene.collection.objects.link(copy)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    bpy.ops.diorama.keep_frames_beside(filepath=str(tmp_path / "frames.blend"))
    for body in (sequence, copy):
        frames = extension.scene.sequences.frame_objects(body)
        assert [len(frame.data.vertices) for frame in frames] == [len(cloud) for cloud in clouds]
        assert body.data == frames[0].data
    sequence.hide_render = True
    bpy.context.scene.frame_set(2)
    assert psnr(render(tmp_path), expected(clouds[1])) > 70


def test_frames_never_overwrite_the_open_file_nor_one_that_it_links(sequence, tmp_path):
    bpy.data.libraries.write(str(tmp_path / "frames.blend"), {bpy.data.materials.new("other")})
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    with bpy.data.libraries.load(str(tmp_path / "frames.blend"), link=True) as (_, linked):
        linked.materials = ["other"]
    for name in ("scene.blend", "frames.blend"):
        saved = (tmp_path / name).read_bytes()
        with pytest.raises(
            RuntimeError, match=r"E_OUTPUT_UNWRITABLE.*is the open file, or one that it links"
        ):
            bpy.ops.diorama.keep_frames_beside(filepath=str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == saved
