"""Images of all kinds become an object in the middle of a square, or a sentence about what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.pipelines import image_source
from backend.shared.protocol import DioramaError


def read_object(path: Path, size_px: int, object_px: int) -> torch.Tensor:  # [4, H, W]
    return image_source.recentred(image_source.read_object(path), size_px, object_px)


def image(path: Path, height: int = 90, width: int = 120, mode: str = "RGBA", noise: float = 0.0) -> Path:
    """A red disc with a hole's worth of background colour inside, off the middle, on light grey."""
    y, x = np.mgrid[:height, :width]
    disc = (y - 0.3 * height) ** 2 + (x - 0.6 * width) ** 2 < (0.2 * height) ** 2
    hole = (y - 0.3 * height) ** 2 + (x - 0.6 * width) ** 2 < (0.05 * height) ** 2
    rgb = np.where((disc & ~hole)[..., None], [0.8, 0.1, 0.1], [0.8, 0.8, 0.82])
    rgb = rgb + noise * np.random.default_rng(0).standard_normal(rgb.shape)
    pixels = np.concatenate([rgb, disc[..., None]], -1) if mode == "RGBA" else rgb
    Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8), mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "RGB"])
def test_object_stands_in_the_middle(tmp_path: Path, mode: str) -> None:
    rgba = read_object(image(tmp_path / "disc.png", mode=mode), 64, 50)
    assert rgba.shape == (4, 64, 64)
    rows, columns = np.nonzero(rgba[3].numpy() > 0.5)
    for found in (rows, columns):
        assert found.min() == pytest.approx(7, abs=2)
        assert found.max() == pytest.approx(56, abs=2)
    assert rgba[3, 32, 32] > 0.99  # what has the background's colour inside the object belongs to it
    assert rgba[:3, 12, 32].tolist() == pytest.approx([0.8, 0.1, 0.1], abs=0.05)


def test_slightly_uneven_background_is_still_one(tmp_path: Path) -> None:
    rgba = read_object(image(tmp_path / "disc.png", mode="RGB", noise=0.015), 64, 50)
    assert rgba[3, :4].max() < 0.5
    assert rgba[3, 20, 32] > 0.9


def test_scenery_is_refused_with_advice(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wood.png")
    with pytest.raises(DioramaError, match="background") as caught:
        read_object(tmp_path / "wood.png", 64, 50)
    assert "transparency" in caught.value.hint


@pytest.mark.parametrize("value", [0, 128])
def test_nothing_to_see(tmp_path: Path, value: int) -> None:
    Image.new("RGBA", (64, 64), (value, value, value, 0)).save(tmp_path / "empty.png")
    Image.new("RGB", (64, 64), (value, value, value)).save(tmp_path / "flat.png")
    for name in ("empty.png", "flat.png"):
        with pytest.raises(DioramaError, match="nothing can be seen"):
            read_object(tmp_path / name, 64, 50)


def test_one_pixel_is_too_few(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(DioramaError, match="1 × 1"):
        read_object(tmp_path / "dot.png", 64, 50)


def test_huge_image_is_made_smaller(tmp_path: Path) -> None:
    rgba = read_object(image(tmp_path / "huge.png", 600, 16_000, "RGB"), 64, 50)
    assert rgba[3, 20, 32] > 0.9


def test_photo_taken_upright_is_turned_as_its_camera_noted(tmp_path: Path) -> None:
    pixels = np.full((60, 90, 3), 200, np.uint8)
    pixels[20:40, 20:45], pixels[20:40, 45:70] = (200, 20, 20), (20, 20, 200)  # red beside blue
    shown, orientation = Image.fromarray(pixels), Image.Exif()
    orientation[0x0112] = 6  # to be turned by a quarter, clockwise
    shown.save(tmp_path / "shown.png")
    shown.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=orientation)
    upright, photo = (read_object(tmp_path / name, 64, 50) for name in ("shown.png", "photo.png"))
    assert torch.equal(photo, upright)


def test_grey_of_16_bits_is_as_light_as_of_8(tmp_path: Path) -> None:
    grey = np.full((60, 90), 230, np.uint8)
    grey[20:40, 20:70] = np.linspace(20, 160, 50)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    shallow, deep = (read_object(tmp_path / name, 64, 50) for name in ("8.png", "16.png"))
    torch.testing.assert_close(deep, shallow, atol=0.01, rtol=0)


def test_bomb_and_damage_and_absence(tmp_path: Path) -> None:
    whole = image(tmp_path / "disc.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    refusals = {"half": "damaged", "text": "not an image", "none": "there is no", "bomb": "larger than"}
    for name, words in refusals.items():
        with pytest.raises(DioramaError, match=words) as caught:
            read_object(tmp_path / f"{name}.png", 64, 50)
        assert caught.value.code == "E_IMAGE"


def greys(folder: Path) -> np.ndarray:  # [H, W] of 16 bits: two rectangles on white
    grey = np.full((160, 120), 65535, np.uint16)
    grey[40:120, 30:60], grey[40:120, 60:90] = 22000, 17000
    Image.fromarray(grey).save(folder / "right.png")
    return grey


@pytest.mark.parametrize(
    "name", ["16.pgm", "12.pgm", "float.tif", "float255.tif", "highlight.tif", "int32.tif", "big.tif"]
)
def test_deep_greys_are_as_light_as_they_are(tmp_path: Path, name: str) -> None:
    grey = greys(tmp_path)
    path = tmp_path / name
    if name.endswith("pgm"):
        bits = int(name[:2])
        header = f"P5\n120 160\n{2**bits - 1}\n".encode()
        path.write_bytes(header + (grey >> (16 - bits)).astype(">u2").tobytes())
    else:
        values = {
            "float.tif": (grey / 65535).astype(np.float32),
            "float255.tif": (grey / 257).astype(np.float32),
            "highlight.tif": np.where(grey == 65535, 8.0, grey / 65535).astype(np.float32),
            "int32.tif": grey.astype(np.int32),
            "big.tif": (grey.astype(np.int64) * 32768).astype(np.int32),
        }
        Image.fromarray(values[name]).save(path)
    difference = read_object(path, 64, 50) - read_object(tmp_path / "right.png", 64, 50)
    assert difference.abs().max() < 0.02


def test_greys_without_a_meaning_are_refused(tmp_path: Path) -> None:
    grey = greys(tmp_path).astype(np.float32)
    for name, values in (("nan.tif", grey * np.nan), ("negative.tif", -grey), ("light.tif", grey * 1e9)):
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(DioramaError, match="holds greys"):
            read_object(tmp_path / name, 64, 50)


@pytest.mark.parametrize("what", ["plain", "one clear pixel", "round corners", "line around", "grey line"])
def test_stray_pixels_and_a_line_around_are_not_the_object(tmp_path: Path, what: str) -> None:
    pixels = np.full((160, 120, 4), 255, np.uint8)
    pixels[60:100, 20:100, :3] = (220, 30, 20)
    if what == "one clear pixel":
        pixels[0, 0] = 0
    elif what == "round corners":
        pixels[:3, :3, 3] = pixels[-3:, -3:, 3] = 0
    elif "line" in what:
        line = 0 if what == "line around" else 128
        pixels[[0, -1], :, :3] = pixels[:, [0, -1], :3] = line
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rows, columns = np.nonzero(read_object(tmp_path / "a.png", 256, 200)[3].numpy() > 0.5)
    assert (np.ptp(columns) + 1) / (np.ptp(rows) + 1) == pytest.approx(2, abs=0.1)


def test_cmyk_photo_and_first_frame_of_an_animation_are_read(tmp_path: Path) -> None:
    plain, moved = np.full((60, 90, 3), 255, np.uint8), np.full((60, 90, 3), 255, np.uint8)
    plain[20:40, 20:70], moved[30:50, 10:30] = (200, 30, 30), (30, 30, 200)
    frames = [Image.fromarray(each) for each in (plain, moved)]
    frames[0].save(tmp_path / "right.png")
    frames[0].convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    right = read_object(tmp_path / "right.png", 64, 50)
    for name in ("print.jpg", "moving.gif"):
        found = read_object(tmp_path / name, 64, 50)
        assert found[:3, 32, 32].tolist() == pytest.approx(right[:3, 32, 32].tolist(), abs=0.05)
        assert (found[3] - right[3]).abs().mean() < 0.03
