"""Clips of moving objects rendered as training data: which are kept, and where their cameras stand."""

from __future__ import annotations

import math
import sys

import bpy
import numpy as np
import pytest

from tests.blender.shining_balls import PLAIN, SMALL, pixels, read, save, save_moving_ball


def test_clips_of_moving_things_are_kept_static_and_runaway_ones_dropped(render_dataset, tmp_path):
    save_moving_ball(tmp_path / "moves.blend", (0.3, 0, 0.5), (-0.3, 0, 0.5), (0, 0, 0.7))
    save_moving_ball(tmp_path / "rests.blend", (0, 0.3, 0.5), (0, 0.3, 0.5), (0, 0.3, 0.5))
    save_moving_ball(tmp_path / "leaves.blend", (0, 0, 0.6), (0, 0, 2.0), (0, 0, 9.0))
    out = tmp_path / "data"
    files = [tmp_path / f"{name}.blend" for name in ("moves", "rests", "leaves")]
    assert render_dataset(*files, "--out", out, "--mode", "vividzoo", "--frames", "3", *PLAIN, *SMALL) == 0
    moves, rests, leaves = read(out / "report-vividzoo.json")["objects"]
    assert moves["status"] == "rendered" and moves["motion"] > 0.05 and moves["away"] == 0
    assert rests["status"] == "dropped" and rests["reason"].startswith("static")
    assert leaves["status"] == "dropped" and leaves["reason"].startswith("runaway")
    assert not list((out / "rests").rglob("*.png")) and not list((out / "leaves").rglob("*.png"))

    folder = out / "moves/moves/video_32"
    assert len(list(folder.rglob("*.png"))) == 4 * 3
    clip = read(folder / "clip.json")
    assert clip["frames"] == [1, 4, 7] and 0 <= clip["background"] <= 1
    for view in range(4):
        origin = np.array(read(folder / f"{view:05d}/camera.json")["origin"])
        assert 2.2 <= np.linalg.norm(origin) <= 2.6 and 0.8 <= origin[2] <= 1.2
        azimuth = math.degrees(math.atan2(origin[1], origin[0])) - 90 * view
        assert abs((azimuth + 180) % 360 - 180) <= 0.25 * 90
    # view 0 looks from Blender's front, +X to the right: the ball is right of the middle, then left
    first, second = (pixels(folder / f"00000/{frame:05d}.png") for frame in (0, 1))
    assert red_column(first) > 17 and red_column(second) < 15
    assert render_dataset(*files, "--out", out, "--mode", "vividzoo", "--frames", "3", *PLAIN, *SMALL) == 0
    assert {item["status"] for item in read(out / "report-vividzoo.json")["objects"]} == {"skipped"}


def paint(material: bpy.types.Material, how: str) -> None:
    """Gives a shining material a texture, or what only looks like one."""
    nodes, links = material.node_tree.nodes, material.node_tree.links
    color = next(node for node in nodes if node.type == "EMISSION").inputs["Color"]
    if how == "in a group":
        tree = bpy.data.node_groups.new("paint", "ShaderNodeTree")
        tree.interface.new_socket("Color", in_out="OUTPUT", socket_type="NodeSocketColor")
        noise, end = tree.nodes.new("ShaderNodeTexNoise"), tree.nodes.new("NodeGroupOutput")
        tree.links.new(noise.outputs["Color"], end.inputs[0])
        group = nodes.new("ShaderNodeGroup")
        group.node_tree = tree
        links.new(group.outputs[0], color)
        return
    texture = nodes.new("ShaderNodeTexImage")
    if how != "without an image":
        texture.image = bpy.data.images.new("stripes", 4, 4)
        texture.image.pixels = [0.0, 1.0, 0.5, 1.0] * 16
        texture.image.pack()
    if how != "not linked":
        links.new(texture.outputs["Color"], color)


@pytest.mark.parametrize(
    ("how", "kept"),
    [("image", True), ("in a group", True), ("without an image", False), ("not linked", False)],
)
def test_clips_of_what_has_a_texture_are_kept_plain_ones_dropped(render_dataset, tmp_path, how, kept):
    source = save_moving_ball(tmp_path / "moves.blend", (0.3, 0, 0.5), (-0.3, 0, 0.5))
    paint(bpy.data.objects["Sphere"].data.materials[0], how)
    save(source)
    command = (source, "--out", tmp_path / "data", "--mode", "vividzoo", "--frames", "2", "--views", "1",
               "--size", "16", "--samples", "1", "--textureless", "0")  # fmt: skip
    assert render_dataset(*command) == 0
    (entry,) = read(tmp_path / "data/report-vividzoo.json")["objects"]
    assert entry["status"] == ("rendered" if kept else "dropped")
    assert kept or entry["reason"].startswith("textureless: of such, 0% are kept")
    assert kept == bool(list((tmp_path / "data").rglob("*.png")))


def test_one_plain_object_in_ten_is_kept_and_always_the_same(render_dataset, tmp_path):
    # a still orbit is no clip: nothing is left out of it
    source = save_moving_ball(tmp_path / "moves.blend", (0.3, 0, 0.5), (-0.3, 0, 0.5))
    small = ("--views", "1", "--size", "16", "--samples", "1", "--textureless", "0")
    assert render_dataset(source, "--out", tmp_path / "data", *small) == 0
    assert read(tmp_path / "data/report-videomv.json")["objects"][0]["status"] == "rendered"

    filters = sys.modules["diorama_dataset.filters"]
    names = [f"file/object {i}" for i in range(2000)]
    kept = [[filters.keeps_plain(name, seed, filters.PLAIN) for name in names] for seed in (0, 0, 1)]
    assert 0.08 < np.mean(kept[0]) < 0.12
    assert kept[0] == kept[1] != kept[2]


def red_column(picture: np.ndarray) -> float:
    """Where the red is: its mean column."""
    red = picture[..., 3] * (picture[..., 0] - picture[..., 1])
    return float((red.sum(0) * np.arange(32)).sum() / red.sum())
