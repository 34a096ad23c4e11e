"""The compact file of moving splats: as exact as it says, small, and nothing damaged passes for splats."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from backend.shared.ply import GaussianCloud, write_ply
from backend.shared.protocol import DioramaError
from backend.shared.sequence_file import read_sequence, sequence_size, write_sequence


def moving(count: int = 200, frames: int = 8, degree: int = 0, seed: int = 0) -> list[GaussianCloud]:
    """A cloud that travels and turns, each splat a little in its own way."""
    rng = np.random.default_rng(seed)
    axis, speed = rng.normal(size=(count, 4)), rng.normal(size=(count, 3)) * 0.01 + [0.05, 0.02, -0.01]
    means, quats = rng.uniform(-0.6, 0.6, (count, 3)), rng.normal(size=(count, 4))
    shared = GaussianCloud(
        means=means.astype(np.float32),
        quats=quats.astype(np.float32),
        scales=np.exp(rng.uniform(-12, 1, (count, 3))).astype(np.float32),
        opacities=rng.uniform(0.0, 1, count).astype(np.float32),
        sh=rng.normal(size=(count, (degree + 1) ** 2, 3)).astype(np.float32),
    )
    clouds = []
    for frame in range(frames):
        turned = quats + 0.1 * frame * axis
        turned *= (-1) ** frame / np.linalg.norm(turned, axis=1, keepdims=True)  # signs mean nothing
        place = means + frame * speed + 0.03 * np.sin(0.8 * frame + means[:, :1] * 4)
        clouds.append(replace(shared, means=place.astype(np.float32), quats=turned.astype(np.float32)))
    return clouds


def degrees_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    apart = np.minimum(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.degrees(4 * np.arcsin(apart.astype(np.float64) / 2))


@pytest.mark.parametrize("degree", [0, 2])
def test_what_is_read_is_what_was_written_within_the_stated_errors(tmp_path, degree):
    clouds = moving(degree=degree)
    write_sequence(tmp_path / "a.npz", clouds, fps=12.5, blending="display")
    again = read_sequence(tmp_path / "a.npz")
    assert (again.fps, again.blending, len(again.clouds)) == (12.5, "display", 8)
    assert sequence_size(tmp_path / "a.npz") == (8, 200)
    places = np.stack([cloud.means for cloud in clouds])
    extent = np.ptp(places, axis=(0, 1))
    for ours, theirs in zip(clouds, again.clouds, strict=True):
        assert (np.abs(ours.means - theirs.means) <= extent / 131070 + 2e-7).all()
        assert degrees_between(ours.quats, theirs.quats).max() < 0.004
        np.testing.assert_allclose(theirs.scales, ours.scales, rtol=0.008)
        np.testing.assert_allclose(theirs.opacities, ours.opacities, atol=0.00025)
        np.testing.assert_allclose(theirs.sh, ours.sh, rtol=5e-4, atol=1e-6)


def test_neighbouring_frames_keep_the_signs_of_their_rotations(tmp_path):
    clouds = moving()
    assert ((clouds[1].quats * clouds[0].quats).sum(-1) < 0).any()
    write_sequence(tmp_path / "a.npz", clouds, fps=8)
    quats = np.stack([cloud.quats for cloud in read_sequence(tmp_path / "a.npz").clouds])
    assert ((quats[1:] * quats[:-1]).sum(-1) > 0).all()


def test_the_file_is_less_than_a_sixth_of_the_plys_and_always_the_same(tmp_path):
    clouds = moving(count=5000, frames=16)
    for index, cloud in enumerate(clouds):
        write_ply(tmp_path / f"{index}.ply", cloud)
    for name in ("a.npz", "b.npz"):
        write_sequence(tmp_path / name, clouds, fps=8)
    plys = sum(path.stat().st_size for path in tmp_path.glob("*.ply"))
    size = (tmp_path / "a.npz").stat().st_size
    print(f"{plys / size:.1f} times smaller, {8 * size / 16 / 5000:.0f} bits per splat and frame")
    assert plys > 6 * size
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_clouds_of_other_splats_are_refused_and_nothing_is_left_behind(tmp_path):
    clouds = moving(frames=3)
    fewer = replace(clouds[2], **{name: values[:150] for name, values in vars(clouds[2]).items()})
    brighter = replace(clouds[1], sh=clouds[1].sh + 1)
    for bad, message in (
        ([*clouds[:2], fewer], "frame 2 has 150 splats, frame 0 has 200"),
        ([clouds[0], brighter], "frame 1 has other sh"),
        ([], "no frames"),
    ):
        with pytest.raises(DioramaError, match=message) as caught:
            write_sequence(tmp_path / "a.npz", bad, fps=8)
        assert caught.value.code == "E_PLY"
    assert not list(tmp_path.iterdir())


class _Payload:
    def __reduce__(self):
        return (print, ("code was run",))


def _changed(path, **arrays):
    with np.load(path) as file:
        np.savez(path, **({name: file[name] for name in file} | arrays))


DAMAGES = {
    "no archive": (lambda path: path.write_bytes(b"hello"), "cannot be read"),
    "missing": (lambda path: path.unlink(), "cannot be read"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read"),
    "other archive": (lambda path: np.savez(path, x=np.zeros(3)), "cannot be read"),
    "other size": (lambda path: _changed(path, size=np.array([9, 200])), "places is"),
    "newer": (lambda path: _changed(path, version=np.array(99)), "newer Diorama"),
    "not finite": (lambda path: _changed(path, low=np.full(3, np.nan)), "not finite"),
    "odd blending": (lambda path: _changed(path, blending=np.array("odd")), "'odd'"),
    "no speed": (lambda path: _changed(path, fps=np.array(0.0)), "0.0 frames a second"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_file_is_refused_in_words(tmp_path, case):
    damage, message = DAMAGES[case]
    path = tmp_path / "a.npz"
    write_sequence(path, moving(), fps=8)
    damage(path)
    with pytest.raises(DioramaError, match=message) as caught:
        read_sequence(path)
    assert caught.value.code == "E_PLY"


def test_objects_in_the_archive_are_not_brought_to_life(tmp_path, capsys):
    path = tmp_path / "a.npz"
    np.savez(path, version=np.array([_Payload()], dtype=object))
    with zipfile.ZipFile(path) as archive:
        assert b"code was run" in archive.read("version.npy")
    with pytest.raises(DioramaError, match="cannot be read"):
        read_sequence(path)
    assert "code was run" not in capsys.readouterr().out
    assert pickle.dumps(_Payload())  # it would have been code
