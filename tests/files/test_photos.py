"""Reading and writing photographs."""

from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageCms, ImageOps, TiffImagePlugin, features
from safetensors.torch import save_file

import bfr.image.bands
from bfr.errors import ImageError, InputError, MissingPackageError, OutputError
from bfr.files.encode import Extras
from bfr.files.photos import Photo, read_photo
from bfr.files.photos16 import encode_tiff
from bfr.files.whole import atomic_path
from bfr.files.writing import write_photo
from bfr.image.tensors import check_images

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = SRGB[:16] + b"GRAY" + SRGB[20:]
CMYK = SRGB[:16] + b"CMYK" + SRGB[20:]


@pytest.fixture(autouse=True)
def strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture here is read and written in several parts."""
    monkeypatch.setattr(bfr.image.bands, "BAND", 8)


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, shape, dtype=dtype, endpoint=True)


def levels(photo: Photo) -> np.ndarray:
    """A photo's pixels as H×W×3 (or ×4) integers of its depth."""
    planes = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha]
    scaled = torch.cat(planes, 1)[0].permute(1, 2, 0) * (2**photo.depth - 1)
    assert torch.equal(scaled, scaled.round()), "not exactly the file's levels"
    return scaled.numpy().astype(np.int64)


def png_16(array: np.ndarray, colour_type: int, chunks: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel, made here by the specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    if chunks:
        chunks = chunk(chunks[:4], chunks[4:])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunks
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *product([".png", ".tif", ".webp"], ["RGB", "RGBA", "L", "LA", "1", "P"]),
        *product([".bmp"], ["RGB", "L", "1", "P"]),
    ],
)
def test_pixels_are_the_files(tmp_path: Path, suffix: str, mode: str):
    image = Image.fromarray(noise(9, 7, 4), "RGBA").convert("RGB" if mode == "P" else mode)
    image = image.quantize(16) if mode == "P" else image
    path = tmp_path / f"photo{suffix}"
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    image.save(path, **options)
    photo = read_photo(path)
    assert photo.pixels.dtype == torch.float32
    assert photo.pixels.is_contiguous()
    assert photo.depth == 8
    has_alpha = mode in ("RGBA", "LA")
    expected = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    assert np.array_equal(levels(photo), expected)
    if suffix != ".webp":  # WebP has no grey
        assert photo.grey == (mode in ("L", "LA", "1"))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *product([".png", ".tif", ".TIFF"], ["RGB", "RGBA", "L", "LA"]),
        *product([".bmp"], ["RGB", "L"]),
    ],
)
def test_writing_gives_the_same_file_back(tmp_path: Path, suffix: str, mode: str):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    image = Image.fromarray(noise(9, 7, 4), "RGBA").convert(mode)
    image.save(first)
    write_photo(second, read_photo(first))
    with Image.open(second) as again:
        assert again.mode == mode
        assert np.array_equal(np.asarray(again), np.asarray(image))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_kept(tmp_path: Path, suffix: str, channels: int):
    array = noise(6, 5, channels, dtype=np.uint16)
    source, target = tmp_path / "a.png", tmp_path / f"b{suffix}"
    source.write_bytes(png_16(array, {1: 0, 2: 4, 3: 2, 4: 6}[channels]))
    photo = read_photo(source)
    assert (photo.depth, photo.grey) == (16, channels < 3)
    write_photo(target, photo)
    again = read_photo(target)
    assert again.depth == 16
    expected = array if channels >= 3 else array[..., [0, 0, 0, 1][: channels + 2]]
    assert np.array_equal(levels(photo), expected)
    assert np.array_equal(levels(again), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_is_applied_and_not_written_back(tmp_path: Path, suffix: str, orientation: int):
    image = Image.fromarray(noise(6, 9, 3).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    image.save(path, exif=exif)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    photo = read_photo(path)
    assert np.array_equal(levels(photo), expected)
    write_photo(path, photo)
    with Image.open(path) as written:
        assert written.size == (expected.shape[1], expected.shape[0])
        assert written.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation_of_16_bits(tmp_path: Path, suffix: str, orientation: int):
    array = noise(4, 6, 3, dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    if suffix == ".png":
        path.write_bytes(png_16(array, 2, b"eXIf" + exif.tobytes()[6:]))
    else:
        write_photo(path, read_bytes(tmp_path, png_16(array, 2)))
        data = bytearray(path.read_bytes())
        add_tiff_orientation(data, orientation)
        path.write_bytes(data)
    photo = read_photo(path)
    eight_bits = Image.fromarray((array >> 8).astype(np.uint8))
    eight_bits.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(eight_bits))
    assert np.array_equal(levels(photo) >> 8, expected)


def read_bytes(folder: Path, data: bytes) -> Photo:
    path = folder / "bytes.png"
    path.write_bytes(data)
    return read_photo(path)


def add_tiff_orientation(data: bytearray, orientation: int) -> None:
    """Turns the RowsPerStrip entry, which a single strip can do without, into Orientation."""
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, at)[0] == 278:
            struct.pack_into("<HHIHH", data, at, 274, 3, 1, orientation, 0)
            # TIFF wants its tags in order.
            table = [
                bytes(data[a : a + 12]) for a in range(start + 2, start + 2 + 12 * entries, 12)
            ]
            data[start + 2 : start + 2 + 12 * entries] = b"".join(sorted(table, key=tag_of))
            return
    raise AssertionError("no RowsPerStrip")


def tag_of(entry: bytes) -> int:
    return struct.unpack_from("<H", entry)[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_profile_is_kept(tmp_path: Path, suffix: str):
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(noise(16, 16, 3)).save(path, icc_profile=SRGB)
    photo = read_photo(path)
    assert photo.icc_profile == SRGB
    write_photo(path, photo)
    with Image.open(path) as again:
        assert again.info["icc_profile"] == SRGB


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_profile_is_kept_at_16_bits(tmp_path: Path, suffix: str, channels: int):
    source = png_16(noise(4, 6, channels, dtype=np.uint16), {1: 0, 3: 2, 4: 6}[channels])
    photo = read_bytes(tmp_path, source)
    path = tmp_path / f"photo{suffix}"
    profiled = Photo(photo.pixels, photo.alpha, 16, photo.grey, SRGB)
    write_photo(path, profiled)
    again = read_photo(path)
    assert again.icc_profile == SRGB
    assert np.array_equal(levels(again), levels(photo))


def test_profile_of_another_colour_model_is_dropped(tmp_path: Path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(path, icc_profile=CMYK)
    photo = read_photo(path)
    assert photo.icc_profile is None
    red, green, blue = photo.pixels.mean((0, 2, 3)).tolist()
    assert red < 0.1 < 0.9 < min(green, blue), "full cyan is no red"


def test_grey_goes_back_grey_until_it_is_coloured(tmp_path: Path):
    path = tmp_path / "grey.png"
    Image.fromarray(noise(5, 5)).save(path, icc_profile=GRAY)
    photo = read_photo(path)
    assert photo.grey
    assert photo.icc_profile == GRAY
    write_photo(path, photo)
    with Image.open(path) as again:
        assert (again.mode, again.info.get("icc_profile")) == ("L", GRAY)
    coloured = photo.pixels.clone()
    coloured[0, 0, 2, 2] = 1 - coloured[0, 0, 2, 2]
    write_photo(path, Photo(coloured, None, 8, True, GRAY))
    with Image.open(path) as again:
        assert (again.mode, again.info.get("icc_profile")) == ("RGB", None)


def test_jpeg_keeps_its_chroma(tmp_path: Path):
    path = tmp_path / "photo.jpg"
    write_photo(path, Photo(torch.rand(1, 3, 16, 16)))
    with Image.open(path) as image:
        assert image.format == "JPEG"
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}, "4:4:4"  # type: ignore[attr-defined]


def test_one_pixel(tmp_path: Path):
    path = tmp_path / "dot.png"
    write_photo(path, Photo(torch.full((1, 3, 1, 1), 0.2)))
    assert levels(read_photo(path)).tolist() == [[[51, 51, 51]]]


def test_pillows_pixel_limit_does_not_stop_a_photo(tmp_path: Path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.fromarray(noise(20, 20, 3)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_photo(path).pixels.shape == (1, 3, 20, 20)
    assert Image.MAX_IMAGE_PIXELS == 100, "the limit is the program's, and is put back"
    monkeypatch.setenv("BFR_MEMORY_GB", "1e-5")
    with pytest.raises(ImageError, match="20×20"):
        read_photo(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>not found</html>", "truncated", "cut header", "truncated 16"],
    ids=lambda data: data if isinstance(data, str) else f"{len(data)} bytes",
)
def test_unreadable_files_are_named(tmp_path: Path, data: bytes | str):
    path = tmp_path / "broken.png"
    if isinstance(data, str):
        buffer = io.BytesIO()
        Image.fromarray(noise(64, 64, 3)).save(buffer, "PNG")
        whole = buffer.getvalue()
        if "16" in data:
            whole = png_16(noise(64, 64, 3, dtype=np.uint16), 2)
        data = whole[: 20 if "header" in data else len(whole) // 2]
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"broken\.png"):
        read_photo(path)


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(ImageError, match=r"none\.png|got none|folder"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(ImageError):
        read_photo(tmp_path)


def test_unusual_depth_is_refused(tmp_path: Path):
    path = tmp_path / "float.tif"
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(path)
    with pytest.raises(ImageError, match="32"):
        read_photo(path)


@pytest.mark.parametrize("name", ["photo.xyz", "photo", "photo.gif"])
def test_unknown_suffix(tmp_path: Path, name: str):
    with pytest.raises(OutputError, match=r"\.png"):
        write_photo(tmp_path / name, Photo(torch.zeros(1, 3, 4, 4)))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_pixels_out_of_range_are_refused(tmp_path: Path, value: float):
    with pytest.raises(InputError):
        write_photo(tmp_path / "photo.png", Photo(torch.full((1, 3, 4, 4), value)))
    assert not any(tmp_path.iterdir())


def test_size_that_the_format_cannot_hold(tmp_path: Path):
    with pytest.raises(OutputError, match="WEBP"):
        write_photo(tmp_path / "photo.webp", Photo(torch.zeros(1, 3, 1, 17000)))
    assert not any(tmp_path.iterdir())


def test_missing_output_folder(tmp_path: Path):
    photo = Photo(torch.zeros(1, 3, 4, 4))
    with pytest.raises(OutputError, match="folder"):
        write_photo(tmp_path / "none" / "photo.png", photo)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_photo(tmp_path / "file" / "photo.png", photo)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="folder"):
            write_photo(tmp_path / "photo.png", Photo(torch.zeros(1, 3, 4, 4)))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_full_disk_leaves_the_old_file(tmp_path: Path):
    import resource

    path = tmp_path / "photo.bmp"
    write_photo(path, Photo(torch.zeros(1, 3, 4, 4)))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the system then refuses more
    try:
        with pytest.raises(OutputError, match="disk"):
            write_photo(path, Photo(torch.zeros(1, 3, 64, 64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["photo.bmp"]


def test_results_may_be_read_by_whom_the_folder_says(tmp_path: Path):
    """As files that are just opened and written, whatever the writer makes of them."""
    plain = tmp_path / "plain"
    plain.write_text("")
    with atomic_path(tmp_path / "result") as partial:
        save_file({"a": torch.zeros(1)}, partial)
    assert (tmp_path / "result").stat().st_mode == plain.stat().st_mode


def test_atomic_path_removes_what_failed(tmp_path: Path):
    def fail() -> None:
        with atomic_path(tmp_path / "result") as partial:
            partial.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not any(tmp_path.iterdir())
    with atomic_path(tmp_path / "result") as partial:
        partial.write_text("whole")
        assert not (tmp_path / "result").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["result"]


def test_photo_written_is_not_changed(tmp_path: Path):
    photo = Photo(torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8))
    assert photo.alpha is not None
    pixels, alpha = photo.pixels.clone(), photo.alpha.clone()
    write_photo(tmp_path / "photo.png", photo)
    assert torch.equal(photo.pixels, pixels)
    assert torch.equal(photo.alpha, alpha)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), "B×3×H×W"),
        (torch.zeros(1, 4, 4, 3), "1×4×4×3"),
        (torch.zeros(1, 1, 4, 4), "B×3×H×W"),
        (torch.zeros(1, 3, 0, 4), "pixel"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "255"),
        (torch.full((1, 3, 4, 4), float("nan")), "finite"),
        (np.zeros((1, 3, 4, 4)), "ndarray"),
    ],
)
def test_check_images(images, message: str):
    with pytest.raises(InputError, match=message):
        check_images(images)


def test_check_images_takes_an_empty_batch():
    check_images(torch.zeros(0, 3, 4, 4))
    check_images(torch.zeros(2, 3, 1, 1, dtype=torch.float16))


# What a file says besides its pixels, and rarer formats -----------------------------------------


def planar_tiff(
    planes: np.ndarray, deflated: bool, predictor: bool = False, repeated: int = 1
) -> bytes:
    """A TIFF of C×H×W uint16 that stores one channel after the other, in two strips each.

    The strips may be named repeatedly.
    """
    channels, height, width = planes.shape
    half, strips = (height + 1) // 2, []
    data = planes.copy()
    if predictor:
        data[:, :, 1:] -= planes[:, :, :-1]
    for plane in data:
        for part in (plane[:half], plane[half:]):
            raw = part.astype("<u2").tobytes()
            strips.append(zlib.compress(raw) if deflated else raw)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    facts = {256: width, 257: height, 258: (16,) * channels, 259: 8 if deflated else 1, 262: 2}
    facts |= {277: channels, 278: half, 284: 2, 279: (*map(len, strips),) * repeated}
    facts |= {317: 2} if predictor else {}
    facts |= {338: 2} if channels == 4 else {}
    for tag, value in facts.items():
        tags[tag] = value
    tags[273] = (*(sum(map(len, strips[:n])) for n in range(len(strips))),) * repeated
    buffer = io.BytesIO()
    tags.save(buffer)  # which counts the offsets from the directory's end
    return buffer.getvalue() + b"".join(strips)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("predictor", [False, True])
def test_a_planar_tiff_of_16_bits_is_read_right(
    tmp_path: Path, channels: int, deflated: bool, predictor: bool
):
    planes = np.random.default_rng(0).integers(0, 2**16, (channels, 7, 5), np.uint16)
    path = tmp_path / "planar.tif"
    path.write_bytes(planar_tiff(planes, deflated, predictor))
    photo = read_photo(path)
    assert photo.depth == 16
    read = photo.pixels if photo.alpha is None else torch.cat([photo.pixels, photo.alpha], 1)
    assert np.array_equal(read[0].mul(65535).round().numpy().astype(np.uint16), planes)


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:150]])
def test_a_damaged_planar_tiff_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]):
    planes = np.random.default_rng(0).integers(0, 2**16, (3, 7, 5), np.uint16)
    path = tmp_path / "planar.tif"
    path.write_bytes(damage(planar_tiff(planes, deflated=True)))
    with pytest.raises(ImageError, match="planar"):
        read_photo(path)


def test_colours_multiplied_by_alpha_become_straight(tmp_path: Path):
    straight = np.random.default_rng(0).integers(0, 2**16, (6, 5, 4), np.uint16)
    straight[..., 3] |= 0x8000
    straight[0, 0, 3] = 0
    associated = straight.copy()
    associated[..., :3] = straight[..., :3] * (straight[..., 3:] / 65535)
    data = bytearray(encode_tiff(associated, None, None))
    entry = data.index(struct.pack("<HHI", 338, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", 1)
    path = tmp_path / "associated.tif"
    path.write_bytes(bytes(data))
    photo = read_photo(path)
    assert photo.alpha is not None and photo.alpha[0, 0, 0, 0] == 0
    away = photo.pixels[0].permute(1, 2, 0) - torch.from_numpy(straight[..., :3] / 65535)
    assert away.abs().flatten(0, 1)[1:].max() < 3 / 65535


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("profile", [None, b"x" * 16 + b"RGB " + b"x" * 100])
def test_lossless_webp_stays_lossless(tmp_path: Path, mode: str, profile: bytes | None):
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, len(mode)), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.webp", lossless=True, exact=True, icc_profile=profile)
    write_photo(tmp_path / "b.webp", read_photo(tmp_path / "a.webp"))
    with Image.open(tmp_path / "b.webp") as image:
        assert np.array_equal(np.asarray(image), noise)
    Image.fromarray(noise).save(tmp_path / "lossy.webp")
    assert not read_photo(tmp_path / "lossy.webp").extras.lossless


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("depth", [8, 16])
def test_the_resolution_is_kept(tmp_path: Path, suffix: str, depth: int):
    photo = Photo(torch.rand(1, 3, 5, 6), depth=depth, extras=Extras(dpi=(600.0, 300.0)))
    write_photo(tmp_path / f"a{suffix}", photo)
    again = read_photo(tmp_path / f"a{suffix}").extras.dpi
    assert again is not None
    assert again == pytest.approx((600, 300), abs=0.1)


def test_a_photograph_on_its_side_exchanges_its_resolutions(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 5)).save(tmp_path / "a.jpg", dpi=(600, 300), exif=exif)
    assert read_photo(tmp_path / "a.jpg").extras.dpi == (300, 600)


@pytest.mark.parametrize("depth", [8, 16])
def test_gamma_and_primaries_of_a_png_are_kept(tmp_path: Path, depth: int):
    primaries = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    said = Extras(gamma=0.55555, chromaticity=primaries)
    write_photo(tmp_path / "a.png", Photo(torch.rand(1, 3, 5, 6), depth=depth, extras=said))
    read = read_photo(tmp_path / "a.png").extras
    assert read.gamma == 0.55555 and read.chromaticity == primaries


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".jp2", ".jpe"])
def test_rarer_formats_are_read_and_written(tmp_path: Path, suffix: str):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    ramp = torch.linspace(0.1, 0.9, 64).expand(1, 3, 64, 64).clone()
    write_photo(tmp_path / f"a{suffix}", Photo(ramp))
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.pixels.shape == ramp.shape and (photo.pixels - ramp).abs().max() < 0.03


def test_heic_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(MissingPackageError, match="pillow-heif"):
        read_photo(tmp_path / "a.heic")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = png_16(noise(2, 2, 3, dtype=np.uint16), 2)
    head = struct.pack(">IIBBBBB", 17_300, 17_300, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "bomb.png").write_bytes(small[:16] + head + crc + small[33:])
    with pytest.raises(ImageError, match=r"17300×17300.*BFR_MEMORY_GB"):
        read_photo(tmp_path / "bomb.png")
    for odd in ("much", "nan", "-1", "0"):
        monkeypatch.setenv("BFR_MEMORY_GB", odd)
        with pytest.raises(InputError, match=odd):
            read_photo(tmp_path / "bomb.png")


def test_strips_that_name_the_same_bytes_again_and_again_fill_no_memory(tmp_path: Path):
    planes = np.zeros((3, 1000, 1000), np.uint16)
    path = tmp_path / "planar.tif"
    path.write_bytes(planar_tiff(planes, deflated=True, repeated=100))  # of 2 MB each
    tracemalloc.start()
    with pytest.raises(ImageError, match="planar"):
        read_photo(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * planes.nbytes


def test_no_program_is_run_on_a_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Pillow has Ghostscript draw such a file, whatever its suffix, and it may write files.
    ran: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **_: ran.append(words))
    path = tmp_path / "photo.jpg"
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    path.write_bytes(head + b"0 0 9 9 rectfill showpage\n%%EOF\n")
    with pytest.raises(ImageError):
        read_photo(path)
    assert not ran
