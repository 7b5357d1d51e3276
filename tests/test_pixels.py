import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from bintally import pixels
from bintally.errors import UnreadablePhotoError
from bintally.pixels import PixelSpec


def scene(width: int = 60, height: int = 40) -> np.ndarray:
    """Red left half, blue right half, a green corner above left: any turn or swap of channels shows."""
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    rgb[:, : width // 2] = (220, 20, 30)
    rgb[:, width // 2 :] = (20, 40, 210)
    rgb[: height // 4, : width // 4] = (30, 200, 40)
    return rgb


def encoded(image: Image.Image, kind: str = "JPEG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}) | how)
    return out.getvalue()


def jpeg(rgb: np.ndarray | None = None, **how: Any) -> bytes:
    return encoded(Image.fromarray(scene() if rgb is None else rgb), **how)


def off(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_a_jpeg_and_a_png() -> None:
    assert off(pixels.decode(jpeg()), scene()) < 3
    assert (pixels.decode(encoded(Image.fromarray(scene()), "PNG")) == scene()).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation: int) -> None:
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned(scene()))), exif=exif)
    assert pixels.decode(data).shape == scene().shape
    assert off(pixels.decode(data), scene()) < 3
    assert off(pixels.decode(data, at_least=8), np.asarray(Image.fromarray(scene()).reduce(4))) < 12


def test_cmyk() -> None:
    assert off(pixels.decode(encoded(Image.fromarray(scene()).convert("CMYK"))), scene()) < 6


def test_greyscale() -> None:
    grey = Image.fromarray(scene()).convert("L")
    found = pixels.decode(encoded(grey))
    assert found.shape == (40, 60, 3)
    assert (found[..., 0] == found[..., 1]).all()
    assert off(found[..., 0], np.asarray(grey)) < 3


def test_sixteen_bits_become_eight() -> None:
    deep = np.linspace(0, 65535, 64 * 32).reshape(32, 64).astype(np.uint16)
    found = pixels.decode(encoded(Image.fromarray(deep), "PNG"))
    assert found.shape == (32, 64, 3)
    assert (found[0, 0, 0], found[-1, -1, 0]) == (0, 255)
    assert np.abs(found[..., 1] - deep / 257).max() <= 0.51


def test_a_palette_with_and_without_transparency() -> None:
    image = Image.fromarray(scene()).convert("P", palette=Image.Palette.ADAPTIVE)
    assert off(pixels.decode(encoded(image, "PNG")), scene()) < 3
    clear = image.getpixel((59, 39))
    found = pixels.decode(encoded(image, "PNG", transparency=clear))
    assert found[39, 59].tolist() == [255, 255, 255]
    assert off(found[:, :15], scene()[:, :15]) < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_shows_through_is_white(mode: str) -> None:
    image = Image.fromarray(scene()).convert(mode)
    image.putalpha(0)
    assert (pixels.decode(encoded(image, "PNG")) == 255).all()


def test_one_bit() -> None:
    found = pixels.decode(encoded(Image.fromarray(scene()).convert("1"), "PNG"))
    assert set(np.unique(found)) <= {0, 255}


def test_a_camera_s_two_pictures_in_one_file() -> None:
    first, second = Image.fromarray(scene()), Image.new("RGB", (60, 40))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert off(pixels.decode(data), scene()) < 5


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"\0" * 1000, "not a JPEG or PNG"),
        (b"<html><body>404</body></html>", "not a JPEG or PNG"),
        (b"\xff\xd8\xff", "not a JPEG or PNG|damaged"),
        (encoded(Image.fromarray(scene()), "GIF"), "not a JPEG or PNG"),
        (encoded(Image.fromarray(scene()), "TIFF"), "not a JPEG or PNG"),
        (encoded(Image.fromarray(scene()), "WEBP"), "not a JPEG or PNG"),
        (encoded(Image.fromarray(scene()), "BMP"), "not a JPEG or PNG"),
    ],
)
def test_what_is_no_photo(data: bytes, what: str) -> None:
    with pytest.raises(UnreadablePhotoError, match=what):
        pixels.decode(data)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_photo_is_refused_in_draft_mode_too(share: float, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for at_least in (None, 32):
        with pytest.raises(UnreadablePhotoError):
            pixels.decode(data[: int(len(data) * share)], at_least=at_least)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def jpeg_claiming(width: int, height: int) -> bytes:
    data = jpeg()
    start = data.index(b"\xff\xc0")
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


@pytest.mark.parametrize(
    "bomb",
    [png_claiming(30_000, 30_000), jpeg_claiming(30_000, 30_000), png_claiming(1 << 20, 1 << 20)],
    ids=["png", "jpeg", "larger png"],
)
def test_a_decompression_bomb_is_refused_undecoded(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    monkeypatch.setattr(pixels.simplejpeg, "decode_jpeg", decoded)
    for at_least in (None, 224):
        with pytest.raises(UnreadablePhotoError, match="refused undecoded"):
            pixels.decode(bomb, at_least=at_least)


def test_the_limit_is_on_pixels_and_can_be_set() -> None:
    assert pixels.decode(jpeg(), max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(UnreadablePhotoError, match="claims 60×40 pixels, more than 2,399"):
        pixels.decode(jpeg(), max_pixels=2399)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1500), st.integers(1, 60))
def test_damage_never_makes_another_error(noise: bytes, start: int, length: int) -> None:
    data = jpeg()
    for broken in (noise, data[:start] + noise + data[start + length :], b"\x89PNG\r\n\x1a\n" + noise):
        try:
            found = pixels.decode(broken, at_least=16, max_pixels=100_000)
        except UnreadablePhotoError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        else:
            assert found.dtype == np.uint8
            assert found.ndim == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300))
def test_draft_decoding_never_falls_below_the_size(width: int, height: int, size: int) -> None:
    data = encoded(Image.new("RGB", (width, height), (200, 100, 50)))
    found = pixels.decode(data, at_least=size)
    assert found.shape[0] >= min(size, height)
    assert found.shape[1] >= min(size, width)
    assert pixels.read_square(data, size).shape == (size, size, 3)


def test_draft_decoding_is_used_where_it_can_be() -> None:
    large = jpeg(scene(800, 800))
    assert pixels.decode(large, at_least=100).shape == (100, 100, 3)
    assert pixels.decode(large, at_least=101).shape == (200, 200, 3)
    assert pixels.decode(large).shape == (800, 800, 3)


def test_a_square_of_the_right_size_is_left_alone() -> None:
    square = scene(32, 32)
    assert pixels.to_square(square, 32) is square
    wide = pixels.to_square(scene(64, 32), 32)
    assert off(wide, square) < 6  # the aspect is squashed


def test_normalised_as_written_down() -> None:
    spec = PixelSpec(size=8)
    squares = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    found = pixels.normalise(squares, spec)
    plain = (squares / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found == pytest.approx(plain.transpose(0, 3, 1, 2), abs=1e-6)


@pytest.mark.parametrize("data", [jpeg(), jpeg(scene(500, 431)), encoded(Image.fromarray(scene()), "PNG")])
def test_one_preprocessing_to_the_bit(data: bytes) -> None:
    spec = PixelSpec(size=32)
    alone = pixels.read_input(data, spec)
    square = pixels.read_square(data, 32)
    batch = pixels.normalise(np.stack([square, square[::-1], square]), spec)
    assert alone.shape == (3, 32, 32)
    assert (alone == batch[0]).all()
    assert (alone == batch[2]).all()


PAD = PixelSpec(size=40, fit="pad")


@pytest.mark.parametrize(("width", "height"), [(80, 40), (40, 80), (37, 100), (500, 3), (1, 900), (20, 10), (63, 64)])
def test_a_padded_photo_keeps_its_aspect_in_the_middle_of_grey(width: int, height: int) -> None:
    photo = np.full((height, width, 3), 7, dtype=np.uint8)
    square = pixels.to_input(photo, PAD)
    left, top, right, bottom = pixels.photo_box(width, height, PAD)
    assert square.shape == (40, 40, 3)
    assert max(right - left, bottom - top) == 40
    shorter = 40 * min(width, height) / max(width, height)
    assert min(right - left, bottom - top) == max(1, round(shorter))
    assert (right - left > bottom - top) == (width > height) or width == 63
    assert abs(left - (40 - right)) <= 1
    assert abs(top - (40 - bottom)) <= 1
    assert (square[top:bottom, left:right] == 7).all()
    around = np.ones((40, 40), dtype=bool)
    around[top:bottom, left:right] = False
    assert np.abs(pixels.normalise(square[None], PAD)[0][:, around]).max(initial=0.0) < 0.01


def test_padding_is_read_as_any_other_input_and_does_nothing_to_squares() -> None:
    wide, square = encoded(Image.fromarray(scene(96, 48)), "PNG"), encoded(Image.fromarray(scene(64, 64)), "PNG")
    read = pixels.read_square(wide, PAD)
    assert (read == pixels.to_input(pixels.decode(wide, at_least=40), PAD)).all()
    assert (pixels.read_input(wide, PAD) == pixels.normalise(read[None], PAD)[0]).all()
    assert (pixels.read_square(square, PAD) == pixels.read_square(square, 40)).all()
    assert (pixels.read_square(wide, PixelSpec(size=40)) == pixels.read_square(wide, 40)).all()
    assert pixels.photo_box(96, 48, PixelSpec(size=40)) == (0, 0, 40, 40)
    turned = read[:, ::-1]
    assert (turned == pixels.to_input(pixels.decode(wide, at_least=40)[:, ::-1], PAD)).mean() > 0.99


def test_a_spec_that_is_none() -> None:
    with pytest.raises(ValueError, match="no input"):
        PixelSpec(size=0)
    with pytest.raises(ValueError, match="above 0"):
        PixelSpec(std=(0.0, 1.0, 1.0))


@pytest.mark.real
def test_real_photos_decode(abid: Path) -> None:
    for path in sorted((abid / "bin-images").iterdir())[:50]:
        square = pixels.read_square(path.read_bytes(), 224)
        assert square.shape == (224, 224, 3)
        assert square.std() > 5


KINDS: list[dict[str, Any]] = [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1, "quality": 30}]


@pytest.mark.parametrize("how", KINDS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quick_decoder_is_pillow_s_to_the_bit(how: dict[str, Any], mode: str) -> None:
    data = encoded(Image.fromarray(scene(123, 77)).convert(mode), **how)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(pixels.decode(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size", [(500, 430), (446, 448), (448, 449), (900, 1000), (2000, 1800)], ids=str)
def test_scaled_decoding_is_pillow_s_draft_to_the_bit(size: tuple[int, int]) -> None:
    data = encoded(Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 50).convert("RGB"), subsampling=2)
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (224, 224))
        np.testing.assert_array_equal(pixels.decode(data, at_least=224), np.asarray(image.convert("RGB")))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=4), st.integers(0, 4), st.floats(0.2, 1))
def test_damaged_photos_get_pillow_s_verdict(start: int, noise: bytes, length: int, share: float) -> None:
    whole = jpeg(scene(97, 64))
    data = whole[:start] + noise + whole[start + length :]
    data = data[: int(len(data) * share)] if share < 0.6 else data

    def verdict() -> bytes | None:
        try:
            return pixels.decode(data, max_pixels=100_000).tobytes()
        except UnreadablePhotoError:
            return None

    quick = verdict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "_turbo", lambda *_: None)
        slow = verdict()
    assert quick == slow
