"""The asset folder and its PLY: what is written is read back, and nothing damaged passes for finished."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.shared import asset, ply
from backend.shared.protocol import DioramaError
from backend.shared.sequence_file import read_sequence


def make_cloud(count: int = 50, degree: int = 0, seed: int = 0) -> ply.GaussianCloud:
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    return ply.GaussianCloud(
        means=rng.normal(size=(count, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=rng.uniform(0.01, 2.0, (count, 3)).astype(np.float32),
        opacities=rng.uniform(0.05, 0.999, count).astype(np.float32),
        sh=rng.normal(size=(count, (degree + 1) ** 2, 3)).astype(np.float32),
    )


def write_small_asset(
    directory: Path,
    seed: int = 7,
    clouds: int = 1,
    mesh: bytes | Path | None = None,
    request: dict | None = None,
) -> Path:
    rng = np.random.default_rng(seed)
    cameras = np.tile(np.eye(4), (3, 1, 1))
    cameras[:, :3, 3] = rng.normal(size=(3, 3))
    return asset.write_asset(
        directory,
        request=request or {"prompt": "a red mushroom", "seed": seed},
        model="starter",
        clouds=[make_cloud(seed=seed + i) for i in range(clouds)],
        views=rng.uniform(size=(3, 2, 6, 8, 4)).astype(np.float32),
        cameras=cameras,
        fov_deg=49.1,
        blending="linear",
        timings={"sample": 1.25},
        mesh=mesh,
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_keeps_every_value_of_any_sh_degree(tmp_path, degree):
    cloud = make_cloud(degree=degree)
    ply.write_ply(tmp_path / "a.ply", cloud)
    again = ply.read_ply(tmp_path / "a.ply")
    assert again.sh_degree == degree
    for name in ("means", "quats", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(again, name), getattr(cloud, name), rtol=2e-6, atol=1e-7)


def test_reading_and_writing_again_gives_the_same_bytes(tmp_path):
    rng = np.random.default_rng(5)
    cloud = make_cloud(count=200_000, degree=1)
    cloud.scales[:] = np.exp(rng.uniform(-12, 4, cloud.scales.shape))
    cloud.opacities[:] = 1 / (1 + np.exp(rng.uniform(-16, 16, len(cloud))))
    ply.write_ply(tmp_path / "a.ply", cloud)
    ply.write_ply(tmp_path / "b.ply", ply.read_ply(tmp_path / "a.ply"))
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_ply_stores_red_harmonics_first_as_other_programs_do(tmp_path):
    cloud = make_cloud(count=1, degree=1)
    ply.write_ply(tmp_path / "a.ply", cloud)
    header = ply.read_header(tmp_path / "a.ply")
    record = np.fromfile(tmp_path / "a.ply", header.dtype, offset=header.offset)[0]
    red = [record[f"f_rest_{i}"] for i in range(3)]
    np.testing.assert_array_equal(red, cloud.sh[0, 1:, 0])
    assert record["opacity"] == pytest.approx(np.log(cloud.opacities[0] / (1 - cloud.opacities[0])), rel=1e-5)
    assert record["scale_1"] == pytest.approx(np.log(cloud.scales[0, 1]), rel=1e-5)


def test_ply_reader_takes_doubles_extra_fields_and_unnormalised_rotations(tmp_path):
    header = ply_header(
        "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3 extra"
    )
    header = header.replace(b"float x", b"double x").replace(b"1.0\n", b"1.0\ncomment by hand\n")
    row = np.array(
        [(1.5, *range(2, 11), 2.0, 0.0, 0.0, 0.0, 9.0)], [("x", "<f8"), *((str(i), "<f4") for i in range(14))]
    )
    (tmp_path / "a.ply").write_bytes(header + row.tobytes())
    cloud = ply.read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.means, [[1.5, 2, 3]])
    np.testing.assert_array_equal(cloud.quats, [[1, 0, 0, 0]])
    np.testing.assert_allclose(cloud.scales, np.exp([[8, 9, 10]]), rtol=1e-6)


GOOD_FIELDS = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"


def ply_header(fields: str, count: int = 1, encoding: str = "binary_little_endian") -> bytes:
    lines = ["ply", f"format {encoding} 1.0", f"element vertex {count}"]
    return "\n".join(
        [*lines, *(f"property float {name}" for name in fields.split()), "end_header", ""]
    ).encode()


def rows(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


GOOD_ROW = (0, 0, 0, 1, 1, 1, 0, -3, -3, -3, 1, 0, 0, 0)
BAD_PLYS = {
    "no PLY": (b"hello", "not a PLY"),
    "empty": (b"", "not a PLY"),
    "endless header": (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n", "no end"),
    "cut short": (ply_header(GOOD_FIELDS, 2) + rows(*GOOD_ROW), "cut short"),
    "ASCII": (ply_header(GOOD_FIELDS, 1, "ascii") + b"0 " * 14, "ascii"),
    "big-endian": (ply_header(GOOD_FIELDS, 1, "binary_big_endian") + rows(*GOOD_ROW), "binary_big_endian"),
    "other fields": (ply_header("x y z red green blue") + rows(*range(6)), "lack f_dc_0"),
    "no splats": (ply_header(GOOD_FIELDS, 0), "no splats"),
    "odd harmonics": (ply_header(GOOD_FIELDS + " f_rest_0") + rows(*GOOD_ROW, 0), "1 f_rest"),
    "NaN": (ply_header(GOOD_FIELDS) + rows(np.nan, *GOOD_ROW[1:]), "means that are not finite"),
    "infinite size": (
        ply_header(GOOD_FIELDS) + rows(*GOOD_ROW[:7], 300, *GOOD_ROW[8:]),
        "scales that are not",
    ),
    "zero rotation": (ply_header(GOOD_FIELDS) + rows(*GOOD_ROW[:10], 0, 0, 0, 0), "length zero"),
    "compressed": (
        ply_header("packed_position").replace(b"element vertex", b"element chunk 1\nelement vertex"),
        "compressed splat PLY",
    ),
    "mesh": (
        ply_header("x y z").replace(b"end_header", b"element face 1\nproperty list uchar int i\nend_header"),
        "is a mesh",
    ),
}


@pytest.mark.parametrize("case", BAD_PLYS)
def test_bad_ply_is_refused_in_words(tmp_path, case):
    content, message = BAD_PLYS[case]
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(DioramaError, match=message) as caught:
        ply.read_ply(tmp_path / "bad.ply")
    assert caught.value.code == "E_PLY"


def test_missing_ply_is_refused_in_words(tmp_path):
    with pytest.raises(DioramaError, match="cannot be read"):
        ply.read_ply(tmp_path / "none.ply")


def test_asset_folder_is_read_as_it_was_written(tmp_path):
    write_small_asset(tmp_path / "asset", clouds=2)
    found = asset.read_asset(tmp_path / "asset")
    assert (found.prompt, found.model, found.seed) == ("a red mushroom", "starter", 7)
    assert (found.blending, found.front, found.width, found.height) == ("linear", "+X", 8, 6)
    assert [path.name for path in found.splats] == ["0000.ply", "0001.ply"]
    assert [[path.name for path in view] for view in found.views][1] == ["v01_f0000.png", "v01_f0001.png"]
    assert found.cameras.shape == (3, 4, 4) and found.fov_deg == pytest.approx(49.1)
    assert found.timings == {"sample": 1.25}
    np.testing.assert_array_equal(ply.read_ply(found.splats[1]).means, make_cloud(seed=8).means)


def test_mesh_is_listed_and_checked_like_every_other_file(tmp_path):
    assert asset.read_asset(write_small_asset(tmp_path / "without")).mesh is None
    folder = write_small_asset(tmp_path / "with", mesh=b"glTF of a mushroom")
    found = asset.read_asset(folder).mesh
    assert found == folder / "mesh.glb" and found.read_bytes() == b"glTF of a mushroom"
    copied = write_small_asset(tmp_path / "copied", mesh=found)
    assert (copied / "mesh.glb").read_bytes() == b"glTF of a mushroom"
    found.write_bytes(b"glTF of a snowman!")
    with pytest.raises(DioramaError, match=r"mesh\.glb was changed"):
        asset.read_asset(folder)


def test_second_asset_without_a_mesh_takes_the_first_ones_away(tmp_path):
    write_small_asset(tmp_path, mesh=b"glTF")
    write_small_asset(tmp_path)
    assert asset.read_asset(tmp_path).mesh is None and not (tmp_path / "mesh.glb").exists()


def test_the_same_content_gives_the_same_bytes(tmp_path):
    folders = [write_small_asset(tmp_path / name) for name in ("a", "b")]
    manifests = [json.loads((folder / "asset.json").read_text()) for folder in folders]
    assert manifests[0] == manifests[1]


def test_tracked_frames_are_also_kept_in_one_file(tmp_path):
    cloud = make_cloud()
    moved = replace(cloud, means=cloud.means + np.float32(0.5))
    given = {
        "request": {"prompt": "x", "seed": 2}, "model": "starter", "clouds": [cloud, moved],
        "views": np.zeros((1, 2, 4, 4, 3)), "cameras": np.eye(4)[None], "fov_deg": 40.0, "blending": "linear",
        "timings": {},
    }  # fmt: skip
    found = asset.read_asset(asset.write_asset(tmp_path, **given, tracked=True, fps=12.0))
    assert (found.tracked, found.fps) == (True, 12.0)
    assert [path.name for path in found.splats] == ["0000.ply", "0001.ply"]
    sequence = read_sequence(tmp_path / "splats/sequence.npz")
    assert (sequence.fps, sequence.blending, len(sequence.clouds)) == (12.0, "linear", 2)
    given["clouds"] = [cloud, replace(moved, scales=moved.scales * 2)]
    with pytest.raises(DioramaError, match="frame 1 has other scales"):
        asset.write_asset(tmp_path, **given, tracked=True)
    assert asset.read_asset(tmp_path).tracked  # the earlier one is still there
    untracked = asset.read_asset(asset.write_asset(tmp_path, **given))
    assert not untracked.tracked and not (tmp_path / "splats/sequence.npz").exists()


def test_assets_of_before_are_not_tracked(tmp_path):
    write_small_asset(tmp_path, clouds=2)
    manifest = json.loads((tmp_path / "asset.json").read_text())
    for name in ("tracked", "fps"):
        del manifest[name]
    (tmp_path / "asset.json").write_text(json.dumps(manifest))
    found = asset.read_asset(tmp_path)
    assert (found.tracked, found.fps, len(found.splats)) == (False, 8.0, 2)


def test_second_asset_replaces_first_and_spares_other_files(tmp_path):
    write_small_asset(tmp_path, seed=1, clouds=3)
    (tmp_path / "notes.txt").write_text("mine")
    write_small_asset(tmp_path, seed=2)
    assert asset.read_asset(tmp_path).seed == 2
    assert sorted(path.name for path in tmp_path.rglob("*.ply")) == ["0000.ply"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".partial*"))


def test_failed_write_leaves_earlier_asset_whole(tmp_path):
    write_small_asset(tmp_path, seed=1)
    bad = make_cloud()
    bad.means[3] = np.nan
    with pytest.raises(DioramaError, match="1 of 50 splats have means"):
        asset.write_asset(
            tmp_path,
            request={"prompt": "x", "seed": 2},
            model="starter",
            clouds=[bad],
            views=np.zeros((1, 1, 4, 4, 3)),
            cameras=np.eye(4)[None],
            fov_deg=40.0,
            blending="linear",
            timings={},
        )
    assert asset.read_asset(tmp_path).seed == 1
    assert not list(tmp_path.glob(".partial*"))


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DioramaError) as caught:
        write_small_asset(tmp_path / "file" / "asset")
    assert caught.value.code == "E_OUTPUT_UNWRITABLE"


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "asset.json").read_text())
    (folder / "asset.json").write_text(json.dumps(manifest | changes))


DAMAGES = {
    "unfinished": (lambda folder: (folder / "asset.json").unlink(), "asset.json is missing"),
    "file gone": (lambda folder: (folder / "splats/0000.ply").unlink(), "0000.ply is missing"),
    "file cut": (lambda folder: (folder / "preview.png").write_bytes(b"x"), "preview.png has 1 bytes"),
    "file changed": (
        lambda folder: (folder / "preview.png").write_bytes(bytes((folder / "preview.png").stat().st_size)),
        "preview.png was changed",
    ),
    "manifest cut": (lambda folder: (folder / "asset.json").write_text('{"schema": 1'), "cannot be read"),
    "manifest empty": (lambda folder: (folder / "asset.json").write_text("{}"), "damaged"),
    "newer schema": (lambda folder: edit_manifest(folder, schema=99), "newer Diorama"),
    "unknown blending": (lambda folder: edit_manifest(folder, blending="odd"), "blending 'odd'"),
    "escaping path": (
        lambda folder: edit_manifest(folder, files={"../../secret": {"size": 0, "sha256": ""}}),
        "outside the folder",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_asset_is_refused_in_words(tmp_path, case):
    damage, message = DAMAGES[case]
    write_small_asset(tmp_path)
    damage(tmp_path)
    with pytest.raises(DioramaError, match=message) as caught:
        asset.read_asset(tmp_path)
    assert caught.value.code == "E_ASSET"


def test_transforms_json_is_what_nerfstudio_reads(tmp_path):
    write_small_asset(tmp_path)
    transforms = json.loads((tmp_path / "transforms.json").read_text())
    assert transforms["fl_x"] == pytest.approx(8 / 2 / np.tan(np.radians(49.1) / 2))
    assert transforms["frames"][0]["file_path"] == "views/v00_f0000.png"
    assert np.array(transforms["frames"][0]["transform_matrix"]).shape == (4, 4)
