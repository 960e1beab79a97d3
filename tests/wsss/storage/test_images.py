"""Photographs and masks in every form that a camera, a scanner or a tool may leave behind."""

import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from wsss.errors import InputError
from wsss.storage.images import (
    image_size,
    mask_size,
    read_image,
    read_mask,
    read_shrunk,
    shrink,
)
from wsss.storage.palette import voc_palette, write_palette_png


@pytest.fixture
def picture():
    """Smooth colours, 24 high and 40 wide, without symmetry."""
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, rows * 2 + columns * 4], axis=2).astype(np.uint8)


@pytest.fixture
def labels():
    return (np.arange(20 * 30).reshape(20, 30) // 30).astype(np.uint8)


def test_rgb_png_is_read_exactly(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture)
    assert image.flags.writeable


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "bmp", "tif", "webp"])
def test_every_format_gives_the_picture(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}").astype(int)
    assert image.shape == picture.shape
    assert np.abs(image - picture).mean() < 12


def test_grey_is_spread_over_three_channels(tmp_path, picture):
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.stack([grey] * 3, axis=2))


def test_bilevel_is_black_and_white(tmp_path, picture):
    Image.fromarray(picture[..., 0] > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png")[..., 1], np.where(picture[..., 0] > 100, 255, 0)
    )


def test_palette_photograph_gives_colours(tmp_path, picture):
    Image.fromarray(picture).quantize(64).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(image - picture).mean() < 12


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    colour = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - colour).max() < 10


def test_16_bit_grey_keeps_its_upper_bits(tmp_path):
    deep = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 2], deep >> 8)


def test_16_bit_rgb_keeps_its_upper_bits(tmp_path, picture):
    deep = picture.astype(np.uint16) * 256 + 77
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_in_use_decide_which_are_kept(tmp_path, suffix, colours, bits):
    """As scanners write them: 12 bits in 16 would else be nearly black."""
    deep = np.linspace(0, (1 << bits) - 1, 16 * 16).astype(np.uint16).reshape(16, 16)
    deep = np.stack([deep, deep[::-1] // 2, deep.T // 3], axis=2) if colours else deep
    # Grey by Pillow, colours by OpenCV: neither writes the other's.
    path = str(tmp_path / f"a.{suffix}")
    cv2.imwrite(path, deep[..., ::-1]) if colours else Image.fromarray(deep).save(path)
    expected = deep // 2 ** (bits - 8)
    expected = expected if colours else np.stack([expected] * 3, axis=2)
    np.testing.assert_array_equal(read_image(path), expected)


def test_what_is_black_stays_black(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16), np.uint16))
    assert not read_image(tmp_path / "a.png").any()


def test_transparent_pixels_are_laid_over_white(tmp_path, picture):
    alpha = np.zeros((24, 40, 1), np.uint8)
    alpha[:, :20] = 255
    Image.fromarray(np.concatenate([picture, alpha], axis=2)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image[:, :20], picture[:, :20])
    assert (image[:, 20:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied(tmp_path, picture, orientation, suffix):
    upright = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), upright)
    assert image_size(path) == upright.shape[1::-1]


def test_exif_orientation_of_a_jpeg(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (40, 24, 3)
    assert image_size(tmp_path / "a.jpg") == (24, 40)


def test_a_single_pixel_is_read(tmp_path):
    Image.fromarray(np.full((1, 1, 3), 7, np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_truncated_image_is_refused_by_name(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"broken.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"broken.{suffix}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"no image at all"])
@pytest.mark.parametrize("read", [read_image, read_mask, image_size, mask_size])
def test_no_image_is_refused_by_name(tmp_path, content, read):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_missing_and_folder_are_refused_by_name(tmp_path, read):
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        read(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"folder\.png"):
        read(tmp_path / "folder.png")


def test_floating_point_image_is_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(InputError, match=r"depth\.tif.*floating-point"):
        read_image(tmp_path / "depth.tif")


@pytest.mark.parametrize("limit", [50, 500])
def test_decompression_bomb_is_refused_by_name(tmp_path, monkeypatch, limit):
    Image.fromarray(np.zeros((24, 40, 3), np.uint8)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for read in (read_image, read_mask, image_size):
            with pytest.raises(InputError, match=r"bomb\.png has more than"):
                read(tmp_path / "bomb.png")


def test_palette_mask_gives_indices_not_colours(tmp_path, labels):
    image = Image.fromarray(labels).convert("P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels)
    assert mask_size(tmp_path / "a.png") == (30, 20)


def test_grey_mask_is_read_as_it_is(tmp_path, labels):
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_mask_of_few_bits_is_not_stretched(tmp_path, labels, bits):
    labels = labels % 2**bits
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    write_grey_png(tmp_path / "a.png", labels, bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels)


def write_grey_png(path, values, bits):
    """A greyscale PNG of few bits by hand, as no library at hand writes one."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape
    planes = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(height, -1)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in planes)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_16_bit_mask_is_read_if_its_values_are_small(tmp_path, labels):
    cv2.imwrite(str(tmp_path / "a.png"), labels.astype(np.uint16))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels)
    cv2.imwrite(str(tmp_path / "deep.png"), labels.astype(np.uint16) + 300)
    with pytest.raises(InputError, match=r"deep\.png has the value 319"):
        read_mask(tmp_path / "deep.png")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_mask_is_refused_by_name(tmp_path, channels):
    Image.fromarray(np.zeros((8, 8, channels), np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(InputError, match=r"colours\.png holds colours"):
        read_mask(tmp_path / "colours.png")


def test_jpeg_mask_is_refused_by_name(tmp_path, labels):
    Image.fromarray(labels).save(tmp_path / "lossy.jpg")
    with pytest.raises(InputError, match=r"lossy\.jpg is a JPEG"):
        read_mask(tmp_path / "lossy.jpg")


@pytest.mark.parametrize(
    ("shape", "long_side", "expected"),
    [
        ((100, 200, 3), 50, (25, 50, 3)),
        ((200, 100, 3), 50, (50, 25, 3)),
        ((30, 40, 3), 50, (30, 40, 3)),
        ((30, 40, 3), None, (30, 40, 3)),
        ((2, 500, 3), 50, (1, 50, 3)),
        ((100, 200), 50, (25, 50)),
    ],
)
def test_shrink_keeps_the_proportions_and_never_enlarges(shape, long_side, expected):
    assert shrink(np.zeros(shape, np.uint8), long_side).shape == expected


def test_shrink_averages_over_areas():
    board = np.indices((64, 64)).sum(axis=0).astype(np.uint8) % 2 * 200
    np.testing.assert_array_equal(shrink(board, 32), np.full((32, 32), 100))


@pytest.fixture
def textured():
    """Edges, waves and noise, 480 high and 643 wide, without symmetry."""
    rows, columns = np.mgrid[:480, :643]
    image = np.stack([rows / 2, 128 + 100 * np.sin(columns * rows / 4000), columns / 3], axis=2)
    image[100:300, 200:350] = (20, 200, 90)
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize(
    ("long_side", "mean", "most"), [(120, 0, 0), (107, 1.5, 20), (33, 1.5, 20)]
)
def test_a_shrunk_jpeg_is_nearly_the_whole_one_shrunk(
    tmp_path, textured, orientation, long_side, mean, most
):
    """107 is the first long side that is exceeded six times; of 33 a quarter is decoded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(textured).save(path, quality=92, exif=exif)
    whole = read_image(path)
    image, size = read_shrunk(path, long_side)
    assert size == whole.shape[:2]
    difference = np.abs(image.astype(int) - shrink(whole, long_side))
    assert difference.mean() <= mean and difference.max() <= most
    # It was not decoded whole where that is said.
    assert difference.any() == (long_side < 120)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_what_needs_no_reduced_decoding_is_shrunk_exactly(tmp_path, textured, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(textured).save(path)
    for long_side in (643, 1000, 300, 50 if suffix == "png" else 200):
        image, size = read_shrunk(path, long_side)
        np.testing.assert_array_equal(image, shrink(read_image(path), long_side))
        assert size == (480, 643)


def test_palette_holds_the_colours_of_voc():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        4: (0, 0, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {index: tuple(palette[index].tolist()) for index in known} == known
    assert len(np.unique(palette, axis=0)) == 256


def test_palette_of_real_masks(real_data):
    folder = real_data / "voc2012-animals/VOCdevkit/VOC2012/SegmentationClass"
    with Image.open(sorted(folder.glob("*.png"))[0]) as mask:
        colours = np.array(mask.convert("RGB"))
        indices = np.array(mask)
    np.testing.assert_array_equal(voc_palette()[indices], colours)


def test_label_maps_survive_the_palette_png(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_palette_png(tmp_path / "new" / "a.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "new" / "a.png"), labels)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), voc_palette()[labels])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.int64), np.zeros((4, 4, 3), np.uint8)])
def test_only_label_maps_are_written(tmp_path, wrong):
    with pytest.raises(ValueError, match="label map"):
        write_palette_png(tmp_path / "a.png", wrong)
    assert not list(tmp_path.iterdir())
