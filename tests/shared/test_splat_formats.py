"""Files of other programs are read as those programs meant them, ours come back, and bad ones are refused.

tests/data/splats was made from original.ply (60 splats, degree 2, Y down) by
    splat_transform*     npm @playcanvas/splat-transform 2.7.1 (SPZ by Niantic's own library, within it)
    gsply*               PyPI gsply 0.4.6
    mkkellogg_*          npm @mkkellogg/gaussian-splats-3d 0.4.7, compression levels 0 to 2
    splat_transform_of_ksplat.ply   what that splat-transform reads in mkkellogg_2.ksplat
with their default settings. What is written here was read back by splat-transform and gsply within LIMITS.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.convert import decode, encode
from backend.shared import splat_formats
from backend.shared.ply import GaussianCloud, read_ply, write_ply
from backend.shared.protocol import DioramaError
from backend.shared.splat_formats import palettes, spz
from backend.shared.splat_transform import UPS, rotations, turned
from tests.shared.clouds import make_cloud

DATA = Path(__file__).parents[1] / "data" / "splats"
TURNED = np.diag([-1.0, -1.0, 1.0])  # splat-transform turns glTF to face the viewer
# Worst errors: places, sizes (logarithm), rotations (degrees), opacities, constant and higher harmonics.
LIMITS = {
    "ply": (1e-6, 1e-6, 0.1, 1e-6, 1e-6, 1e-6),
    "compressed_ply": (2e-3, 2e-3, 0.25, 0.0021, 0.0071, 0.032),
    "spz": (1.3e-4, 0.0313, 0.2, 0.0021, 0.0133, 0.0079),
    "sog": (1e-4, 0.03, 1.5, 0.0041, 0.03, 0.03),
    "splat": (1e-6, 1e-6, 1.5, 0.0021, 0.0072, np.inf),
    "gltf": (1e-6, 1e-6, 0.1, 1e-6, 1e-6, 1e-6),
}
THEIRS = {
    "splat_transform.compressed.ply": LIMITS["compressed_ply"],
    "gsply.compressed.ply": LIMITS["compressed_ply"],
    "splat_transform_v3.spz": (*LIMITS["spz"][:5], 0.13),  # 4 bits for degree 2
    "splat_transform_v4.spz": (*LIMITS["spz"][:5], 0.13),
    "gsply_v3.spz": (*LIMITS["spz"][:5], 0.13),
    "gsply_v4.spz": (*LIMITS["spz"][:5], 0.13),
    "splat_transform.sog": (*LIMITS["sog"][:5], 0.6),  # it makes few clusters of so few splats
    "splat_transform.glb": LIMITS["gltf"],
    "mkkellogg_0.ksplat": (1e-6, 1e-6, 0.1, 0.0041, 0.0142, 1e-6),
    "mkkellogg_1.ksplat": (1e-4, 1e-3, 0.1, 0.0041, 0.0142, 1e-3),
    "mkkellogg_2.ksplat": (1e-4, 1e-3, 0.1, 0.0041, 0.0142, 0.0121),
}


def read(path: Path) -> GaussianCloud:
    """What is in a file, with Z up."""
    return turned(splat_formats.read_splats(path, decode), UPS[splat_formats.up_of(path)])


def worst_errors(one: GaussianCloud, two: GaussianCloud) -> tuple[float, ...]:
    """The errors that LIMITS limits; formats may change the order, and what turns no ellipsoid."""
    distances = np.linalg.norm(one.means[:, None] - two.means[None], axis=2)
    same = distances.argmin(axis=1)
    assert sorted(same) == list(range(len(one)))
    two = GaussianCloud(**{name: values[same] for name, values in vars(two).items()})
    axes = np.abs(np.einsum("nij,nij->nj", rotations(one.quats), rotations(two.quats)))
    shared = min(one.sh.shape[1], two.sh.shape[1])
    return (
        float(np.abs(one.means - two.means).max()),
        float(np.abs(np.log(one.scales / two.scales)).max()),
        float(np.degrees(np.arccos(np.clip(axes.min(), 0, 1)))),
        float(np.abs(one.opacities - two.opacities).max()),
        float(np.abs(one.sh[:, 0] - two.sh[:, 0]).max()),
        float(np.abs(one.sh[:, 1:shared] - two.sh[:, 1:shared]).max(initial=0)),
    )


def assert_within(errors: tuple[float, ...], limits: tuple[float, ...]) -> None:
    assert all(error <= limit for error, limit in zip(errors, limits, strict=True)), errors


@pytest.mark.parametrize("name", THEIRS)
def test_files_of_other_programs_are_read_as_they_meant_them(name):
    if name.endswith(".glb"):
        cloud = turned(read(DATA / name), TURNED)
    elif name.startswith("gsply") and name.endswith(".spz"):  # it writes the axes of the PLY
        cloud = turned(splat_formats.read_splats(DATA / name, decode), UPS["-Y"])
    else:
        cloud = read(DATA / name)
    assert cloud.sh_degree == 2
    assert_within(worst_errors(read(DATA / "original.ply"), cloud), THEIRS[name])


def test_a_ksplat_is_read_as_another_program_reads_it():
    """Not only within what the format rounds away: to the last bit but for float32's own rounding."""
    one, two = (read(DATA / name) for name in ("mkkellogg_2.ksplat", "splat_transform_of_ksplat.ply"))
    assert_within(worst_errors(one, two), (0, 1e-6, 0.1, 1e-6, 1e-6, 1e-6))


@pytest.mark.parametrize("kind", splat_formats.WRITTEN)
@pytest.mark.parametrize("degree", [0, 3])
def test_every_format_gives_back_what_was_written(tmp_path, kind, degree):
    cloud = make_cloud(300, degree)
    path = tmp_path / "any.name"  # what is in a file says what it is
    splat_formats.write_splats(path, cloud, encode, kind=kind)
    assert splat_formats.format_of(path) == kind
    assert splat_formats.count_of(path) == 300
    back = read(path)
    assert back.sh_degree == (0 if kind == "splat" else degree)
    assert_within(worst_errors(cloud, back), LIMITS[kind])
    splat_formats.write_splats(tmp_path / "again", cloud, encode, kind=kind)
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize("version", [1, 2])
def test_first_versions_of_spz_are_read(tmp_path, version):
    cloud = make_cloud(50, 1)
    spz.write_spz(tmp_path / "3.spz", cloud)
    raw = bytearray(zlib.decompress((tmp_path / "3.spz").read_bytes(), 31))
    raw[4] = version
    places = cloud.means.astype("<f2").tobytes() if version == 1 else raw[16 : 16 + 450]
    three = np.round((cloud.quats[:, 1:] * np.sign(cloud.quats[:, :1]) + 1) * 127.5).astype(np.uint8)
    start = 16 + 450
    raw = raw[:16] + places + raw[start : start + 350] + three.tobytes() + raw[start + 350 + 200 :]
    (tmp_path / "a.spz").write_bytes(zlib.compress(raw, wbits=31))
    back = splat_formats.read_splats(tmp_path / "a.spz", decode)
    np.testing.assert_allclose(back.means, cloud.means, atol=1e-3)
    turn = np.abs(np.sum(back.quats * cloud.quats, axis=1))
    assert np.all(turn > 0.995)  # its eight bits are least where w is small
    np.testing.assert_allclose(back.sh[:, 1:], cloud.sh[:, 1:], atol=0.008)


def test_unpacked_sog_is_read_by_its_description(tmp_path):
    with zipfile.ZipFile(DATA / "splat_transform.sog") as archive:
        archive.extractall(tmp_path)
    unpacked, packed = read(tmp_path / "meta.json"), read(DATA / "splat_transform.sog")
    np.testing.assert_array_equal(unpacked.sh, packed.sh)


def test_nodes_of_gltf_place_their_splats(tmp_path):
    splat_formats.write_splats(tmp_path / "a.glb", make_cloud(20), encode)
    node = {"translation": [1, 2, 3], "rotation": [0, 0, 1, 0], "scale": [2, 2, 2], "mesh": 0}
    rewrite_json(tmp_path / "a.glb", lambda gltf: gltf.update(nodes=[node]))
    one, two = make_cloud(20), read(tmp_path / "a.glb")
    glb = one.means[:, [0, 2, 1]] * [1, 1, -1]
    expected = glb * [-2, -2, 2] + [1, 2, 3]
    np.testing.assert_allclose(two.means, expected[:, [0, 2, 1]] * [1, -1, 1], atol=1e-5)
    np.testing.assert_allclose(two.scales, 2 * one.scales, rtol=1e-5)


def test_what_is_up_is_asked_of_the_file_and_can_be_said(tmp_path):
    cloud = make_cloud(20)
    write_ply(tmp_path / "ours.ply", cloud)
    assert splat_formats.up_of(tmp_path / "ours.ply") == "Z"
    splat_formats.write_splats(tmp_path / "theirs.ply", cloud, encode, axes=UPS["-Y"])
    assert splat_formats.up_of(tmp_path / "theirs.ply") == "-Y"
    x, y, z = cloud.means.T
    np.testing.assert_array_equal(read_ply(tmp_path / "theirs.ply").means, np.stack([x, -z, y], axis=1))


def test_few_clusters_are_near_all_rows_and_few_numbers_near_all_values():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 5))
    rows = (centres[rng.integers(0, 8, 5000)] + rng.normal(size=(5000, 5)) * 0.01).astype(np.float32)
    entries, labels = palettes.clusters(rows, 64)
    assert len(entries) == 64
    assert np.sqrt(np.mean((entries[labels] - rows) ** 2)) < 0.15 * rows.std()
    book, steps = palettes.codebook(rows)
    assert np.abs(book[steps] - rows).max() < 0.05


def rewrite_json(path: Path, change) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    gltf = json.loads(data[20 : 20 + length])
    change(gltf)
    text = json.dumps(gltf).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    path.write_bytes(
        struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    )


SUFFIXES = {kind: each.suffix for kind, each in splat_formats.FORMATS.items()}


def a_file(folder: Path, kind: str) -> Path:
    path = folder / f"bad{SUFFIXES[kind]}"
    if kind == "ksplat":
        path.write_bytes((DATA / "mkkellogg_1.ksplat").read_bytes())
    else:
        splat_formats.write_splats(path, make_cloud(40, 1), encode)
    return path


@pytest.mark.parametrize("kind", splat_formats.FORMATS)
def test_cut_files_are_refused(tmp_path, kind):
    path = a_file(tmp_path, kind)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2 + 1, 25, 1, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(DioramaError) as caught:
            splat_formats.read_splats(path, decode)
        assert caught.value.code == "E_PLY"


@pytest.mark.parametrize("kind", splat_formats.FORMATS)
def test_damaged_files_are_read_or_refused_in_words(tmp_path, kind):
    path = a_file(tmp_path, kind)
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 5000), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            cloud = splat_formats.read_splats(path, decode)
        except DioramaError as error:
            assert error.code == "E_PLY"
        else:
            assert np.isfinite(cloud.means).all()


def promise(path: Path, kind: str, count: int) -> None:
    """Let a header promise so many splats."""
    data = path.read_bytes()
    number = struct.pack("<I", count)
    if kind in ("ply", "compressed_ply"):
        data = data.replace(b"element vertex 40", b"element vertex %d" % count)
    elif kind == "spz":
        raw = zlib.decompress(data, 31)
        data = zlib.compress(raw[:8] + number + raw[12:], wbits=31)
    elif kind == "ksplat":
        data = data[:4096] + number + number + data[4104:]
    elif kind == "sog":
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        files["meta.json"] = json.dumps(json.loads(files["meta.json"]) | {"count": count}).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    elif kind == "gltf":
        rewrite_json(path, lambda gltf: [each.update(count=count) for each in gltf["accessors"]])
        return
    path.write_bytes(data)


@pytest.mark.parametrize("kind", [kind for kind in splat_formats.FORMATS if kind != "splat"])
@pytest.mark.parametrize("count", [0, 10**9])
def test_headers_that_promise_nothing_or_too_much_are_refused_before_memory_is_taken(tmp_path, kind, count):
    path = a_file(tmp_path, kind)
    promise(path, kind, count)
    with pytest.raises(DioramaError, match=r"cut short|no splats|do not fit") as caught:
        splat_formats.count_of(path)
    assert caught.value.code == "E_PLY"


def rewrite_sog(path: Path, change) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(files["meta.json"])
    change(meta, files)
    files["meta.json"] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("kind", ["ply", "compressed_ply", "spz", "sog", "ksplat", "gltf"])
def test_degrees_above_three_are_refused(tmp_path, kind):
    path = a_file(tmp_path, kind)
    data = path.read_bytes()
    if kind == "spz":
        raw = zlib.decompress(data, 31)
        path.write_bytes(zlib.compress(raw[:12] + b"\x04" + raw[13:] + bytes(10_000), wbits=31))
    elif kind == "ksplat":
        path.write_bytes(data[: 4096 + 40] + b"\x04" + data[4096 + 41 :])
    elif kind == "sog":
        wide = encode(np.zeros((1, 24 * 64, 4), np.uint8))
        rewrite_sog(path, lambda meta, files: files.update({"shN_centroids.webp": wide}))
    elif kind == "gltf":
        rewrite_json(path, add_degree_4)
    else:  # 24 harmonics of three colours
        rest, kept = (b"uchar", 9) if kind == "compressed_ply" else (b"float", 9)
        more = b"".join(b"property %s f_rest_%d\n" % (rest, i) for i in range(kept, 72))
        last = b"property %s f_rest_8\n" % rest
        path.write_bytes(data.replace(last, last + more) + bytes(20_000))
    with pytest.raises(DioramaError, match=r"degree|72 f_rest") as caught:
        splat_formats.read_splats(path, decode)
    assert caught.value.code == "E_PLY"


def add_degree_4(gltf: dict) -> None:
    attributes = gltf["meshes"][0]["primitives"][0]["attributes"]
    attributes["KHR_gaussian_splatting:SH_DEGREE_4_COEF_0"] = attributes["POSITION"]


@pytest.mark.parametrize("kind", ["compressed_ply", "sog", "ksplat"])
def test_packed_values_that_are_not_finite_are_refused(tmp_path, kind):
    path = a_file(tmp_path, kind)
    if kind == "sog":
        rewrite_sog(path, lambda meta, files: meta["sh0"].update(codebook=[float("nan")] * 256))
    else:
        data = bytearray(
            (DATA / "mkkellogg_0.ksplat").read_bytes() if kind == "ksplat" else path.read_bytes()
        )
        # The first number: a chunk's least x; a splat's x, after the header and one section's.
        start = 4096 + 1024 if kind == "ksplat" else data.index(b"end_header\n") + 11
        data[start : start + 4] = np.float32(np.nan).tobytes()
        path.write_bytes(data)
    with pytest.raises(DioramaError, match="not finite"):
        splat_formats.read_splats(path, decode)


@pytest.mark.parametrize("kind", ["ply", "splat", "gltf"])
def test_values_that_are_not_finite_are_refused_in_both_directions(tmp_path, kind):
    cloud = make_cloud(40)
    broken = replace(cloud, means=np.where(np.arange(40)[:, None] == 7, np.nan, cloud.means))
    with pytest.raises(DioramaError, match="means that are not finite"):
        splat_formats.write_splats(tmp_path / f"a{SUFFIXES[kind]}", broken, encode)
    path = a_file(tmp_path, kind)
    value = (
        make_cloud(40, 1).means[7] if kind == "ply" else splat_formats.read_splats(path, decode).means[7]
    )[0]
    path.write_bytes(path.read_bytes().replace(value.tobytes(), np.float32(np.nan).tobytes(), 1))
    with pytest.raises(DioramaError, match="not finite"):
        splat_formats.read_splats(path, decode)


def test_a_mesh_in_gltf_is_called_one(tmp_path):
    path = a_file(tmp_path, "gltf")
    rewrite_json(path, lambda gltf: gltf["meshes"][0]["primitives"][0].pop("extensions"))
    with pytest.raises(DioramaError, match="is a mesh"):
        splat_formats.read_splats(path, decode)


def test_what_is_no_file_of_splats_is_called_so(tmp_path):
    for content in (b"hello", bytes(64), b"\x89PNG\r\n\x1a\n" + bytes(88), b"\x1f\x8b" + bytes(20), b"{}"):
        (tmp_path / "a.splat").write_bytes(content)
        with pytest.raises(DioramaError) as caught:
            splat_formats.read_splats(tmp_path / "a.splat", decode)
        assert caught.value.code == "E_PLY"
    with pytest.raises(DioramaError, match="cannot be read"):
        splat_formats.read_splats(tmp_path / "none", decode)
    with pytest.raises(DioramaError, match=r"a\.obj: no such files of splats are written"):
        splat_formats.write_splats(tmp_path / "a.obj", make_cloud(3), encode)
