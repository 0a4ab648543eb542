from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torchvision import transforms

from auditor.decoding import UnusableImageError, decode


def encode(image: Image.Image, kind: str = "PNG", **arguments) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **arguments)
    return stream.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)), st.booleans())
def test_gray_round_trip_is_exact(array, color):
    channels = 3 if color else 1
    pixels = decode(encode(Image.fromarray(array)), (channels, *array.shape))
    assert pixels.dtype == np.float32
    assert (pixels == (array / np.float32(255))).all()
    assert pixels.shape == (channels, *array.shape)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_color_round_trip_is_exact(kind):
    array = noise(6, 5, 3)
    pixels = decode(encode(Image.fromarray(array), kind), (3, 6, 5))
    np.testing.assert_array_equal(pixels, array.transpose(2, 0, 1) / np.float32(255))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats(kind):
    array = np.full((8, 8, 3), (200, 30, 90), dtype=np.uint8)
    pixels = decode(encode(Image.fromarray(array), kind), (3, 8, 8))
    # One flat color survives lossy compression up to the rounding of the color transform.
    np.testing.assert_allclose(pixels, array.transpose(2, 0, 1) / 255, atol=3 / 255)


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (4, 4), value) for value in (51, 255)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(content, (1, 4, 4)), 0.2, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = noise(3, 5)
    # How a camera stores the upright picture under each orientation (Exif 2.32, 4.6.4 A).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(decode(content, (1, 3, 5))[0], upright / np.float32(255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_gray_keeps_its_precision(kind, channels):
    array = np.arange(0, 65536, 257 * 5 + 3, dtype=np.uint16)[:48].reshape(6, 8)
    content = encode(Image.fromarray(array), kind)
    pixels = decode(content, (channels, 6, 8))
    np.testing.assert_allclose(pixels, np.broadcast_to(array / 65535, pixels.shape), atol=1e-7)
    smaller = decode(content, (channels, 3, 4))
    assert smaller.shape == (channels, 3, 4)
    assert 0 < smaller.min() < smaller.max() < 1


def test_float_images():
    array = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(
        decode(encode(Image.fromarray(array), "TIFF"), (1, 3, 4))[0], array
    )
    for bad in (array * 2, array - 1, array * np.nan):
        with pytest.raises(UnusableImageError, match="outside"):
            decode(encode(Image.fromarray(bad), "TIFF"), (1, 3, 4))


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (1, 1, 1)),  # wholly transparent: white
        ("RGBA", (255, 0, 0, 255), (1, 0, 0)),
        ("RGBA", (0, 0, 0, 51), (0.8, 0.8, 0.8)),
        ("LA", (0, 102), (0.6, 0.6, 0.6)),
        ("1", 1, (1, 1, 1)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_modes(mode, color, expected):
    pixels = decode(encode(Image.new(mode, (2, 2), color)), (3, 2, 2))
    np.testing.assert_allclose(pixels[:, 0, 0], expected, atol=1e-6)


def test_palette_with_transparency_and_cmyk():
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    assert (decode(encode(palette, transparency=1), (3, 2, 2)) == 1).all()
    blue = decode(encode(palette), (3, 2, 2))[:, 0, 0]
    np.testing.assert_array_equal(blue, (0, 0, 1))
    cmyk = decode(encode(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF"), (3, 2, 2))
    assert (cmyk == 0).all()


def test_color_to_gray_is_itu_601():
    pixels = decode(encode(Image.new("RGB", (2, 2), (255, 0, 0))), (1, 2, 2))
    np.testing.assert_allclose(pixels, round(0.299 * 255) / 255, atol=1e-6)


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (256, 256), (131, 517), (90, 100)])
def test_large_targets_follow_the_imagenet_convention(size):
    image = Image.fromarray(noise(*size, 3, seed=size[0]))
    oracle = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
        ]
    )
    np.testing.assert_array_equal(decode(encode(image), (3, 224, 224)), oracle(image).numpy())


@pytest.mark.parametrize("size", [(30, 40), (400, 300), (29, 29), (7, 9)])
def test_small_targets_use_the_whole_shorter_side(size):
    image = Image.fromarray(noise(*size))
    oracle = transforms.Compose(
        [
            transforms.Resize(28, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(28),
            transforms.ToTensor(),
        ]
    )
    np.testing.assert_array_equal(decode(encode(image), (1, 28, 28)), oracle(image).numpy())


@given(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_any_size_fits_any_target(size, target):
    pixels = decode(encode(Image.new("L", size, 102)), (1, *target))
    assert pixels.shape == (1, *target)
    np.testing.assert_allclose(pixels, 0.4, atol=1e-6)


def test_the_right_size_is_taken_as_it_is_even_when_large():
    array = noise(224, 224, 3)
    pixels = decode(encode(Image.fromarray(array)), (3, 224, 224))
    np.testing.assert_array_equal(pixels, array.transpose(2, 0, 1) / np.float32(255))


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an image"),
        (b"GIF89a", "not an image|damaged"),
        (b"%PDF-1.4", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encode(Image.new("RGB", (64, 64), "red"))[:-40], "damaged"),
        (encode(Image.fromarray(noise(64, 64, 3)), "JPEG")[:500], "damaged"),
        (png_of(50_000, 50_000), "more pixels than are safe"),
        (png_of(10_000, 10_000), "more pixels than are safe"),
        (png_of(100, 100), "damaged"),
        (encode(Image.new("L", (20_000, 1))), "too elongated"),
    ],
)
def test_hostile_files(content, says):
    with pytest.raises(UnusableImageError, match=says) as caught:
        decode(content, (3, 224, 224))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 120


@given(st.binary(max_size=60), st.integers(0, 200), st.sampled_from(["PNG", "GIF", "TIFF", "PPM"]))
def test_damaged_bytes_give_pixels_or_the_one_exception(patch, at, kind):
    content = bytearray(encode(Image.fromarray(noise(8, 8, 3)), kind))
    content[at : at + len(patch)] = patch
    reason = None
    try:
        pixels = decode(bytes(content), (3, 8, 8))
    except UnusableImageError as error:
        reason = str(error)
    if reason is not None:
        assert reason.isprintable()
        return
    assert pixels.shape == (3, 8, 8)
    assert 0 <= pixels.min() <= pixels.max() <= 1


def tiff(array: np.ndarray, **arguments) -> bytes:
    """By another writer, which knows kinds of TIFF that Pillow does not write."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **arguments)
    return stream.getvalue()


def test_sixteen_bit_color_is_read_with_eight_bits():
    array = np.random.default_rng(0).integers(0, 2**16, (5, 4, 3), dtype=np.uint16)
    pixels = decode(tiff(array, photometric="rgb"), (3, 5, 4))
    # Less than two steps of 1/255: the low byte is dropped, and 255 stands for 65535.
    np.testing.assert_allclose(pixels, array.transpose(2, 0, 1) / 65535, atol=1.01 / 255)


@pytest.mark.parametrize(
    ("array", "arguments", "says"),
    [
        (
            np.zeros((3, 5, 4), np.uint16),
            {"photometric": "rgb", "planarconfig": "separate"},
            "separate color planes",
        ),
        (np.zeros((5, 4), np.uint16), {"photometric": "miniswhite"}, "white is zero"),
        (
            np.zeros((5, 4, 6), np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "not an image",
        ),
        (np.zeros((5, 4), np.float64), {}, "not an image"),
        (np.full((5, 4), 70000, np.uint32), {}, "outside"),
        (np.full((5, 4), -1, np.int16), {}, "outside"),
    ],
)
def test_tiffs_that_would_be_misread(array, arguments, says):
    with pytest.raises(UnusableImageError, match=says):
        decode(tiff(array, **arguments), (3, 5, 4))


def test_eight_bits_with_white_as_zero_and_separate_planes():
    gray = noise(5, 4)
    pixels = decode(tiff(gray, photometric="miniswhite"), (1, 5, 4))
    np.testing.assert_array_equal(pixels[0], (255 - gray) / np.float32(255))
    color = noise(3, 5, 4)
    pixels = decode(tiff(color, photometric="rgb", planarconfig="separate"), (3, 5, 4))
    np.testing.assert_array_equal(pixels, color / np.float32(255))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_subtractive_without_a_profile(kind):
    cmyk = Image.new("CMYK", (8, 8), (255, 0, 0, 51))  # cyan, with a fifth of black
    pixels = decode(encode(cmyk, kind), (3, 8, 8))
    np.testing.assert_allclose(pixels[:, 4, 4], (0, 0.8, 0.8), atol=2 / 255)  # JPEG rounds


def test_sixteen_bit_alpha_is_laid_on_white():
    array = np.zeros((5, 4, 2), np.uint16)
    array[..., 1] = 13107  # a fifth
    pixels = decode(png_of_words(array), (1, 5, 4))
    np.testing.assert_allclose(pixels, 0.8, atol=2 / 255)


def png_of_words(array: np.ndarray) -> bytes:
    """A PNG of 16 bits with alpha, which Pillow does not write."""
    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_models_of_other_channels_need_arrays(channels):
    with pytest.raises(UnusableImageError, match=f"takes {channels}; save .npy"):
        decode(encode(Image.new("RGB", (4, 4))), (channels, 4, 4))
