"""Which files of a folder count as photographs, and what is told of the others."""

import shutil

import numpy as np
import pytest
from PIL import Image, features

from wsss.errors import InputError
from wsss.storage.image_folders import images_in, list_images
from wsss.storage.images import image_size, read_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)  # as iPhones begin one
AREA = (slice(4, 8), slice(6, 15))


@pytest.fixture
def picture():
    """A red box on grey, which every codec keeps apart."""
    array = np.full((12, 20, 3), 90, np.uint8)
    array[AREA] = (220, 30, 30)
    return array


def names(paths):
    return [path.name for path in paths]


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        *(("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a.JPG", "JPEG"), ("a.GIF", "GIF")),
        *(("a.avif", "AVIF"), ("a.jp2", "JPEG2000"), ("a.heic", "JPEG"), ("a.HEIC", "PNG")),
    ],
)
def test_formats_of_phones_and_the_web_are_read(tmp_path, picture, name, file_format):
    """A file that is called .heic may be a JPEG: what Pillow finds in it counts."""
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / name
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    Image.fromarray(picture).save(path, file_format, **options)
    assert images_in(tmp_path) == [path]
    assert image_size(path) == (20, 12)
    difference = np.abs(read_image(path).astype(int) - picture)
    assert difference.mean() < 6  # without the box it would be 12


def test_of_an_animation_the_first_frame_is_read(tmp_path, picture):
    frames = [Image.fromarray(picture), Image.new("RGB", (20, 12), "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    assert np.abs(read_image(tmp_path / "a.gif").astype(int) - picture).max() < 8


def test_what_cannot_be_read_is_left_out_by_name(tmp_path, picture):
    photograph = Image.fromarray(picture)
    for name in ("good.jpg", "noname", "copy.jpg.bak", ".hidden.jpg"):
        photograph.save(tmp_path / name, "JPEG")
    # A raw file is a TIFF with a thumbnail, which is not the photograph.
    photograph.save(tmp_path / "raw.NEF", "TIFF")
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    for name in ("notes.txt", "a.xml", "Thumbs.db"):
        (tmp_path / name).write_text("no photograph")
    found = list_images(tmp_path)
    assert names(found.images) == ["good.jpg"]
    assert sorted(names(found.unreadable)) == ["IMG_1.HEIC", "copy.jpg.bak", "noname", "raw.NEF"]
    (line,) = found.left_out(tmp_path, "")
    assert "4 photographs that cannot be read (IMG_1.HEIC, " in line and "(and 1 more)" in line


def test_photographs_in_folders_inside_are_told(tmp_path, picture):
    for name in ("a.jpg", "x/b.png", "x/y/c.HEIC", ".trash/d.jpg", "masks/a.png", "x/t.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / name, "PNG")
    found = list_images(tmp_path, [tmp_path / "masks"])
    assert names(found.images) == ["a.jpg"]
    (line,) = found.left_out(tmp_path, "move them up")
    assert line == (
        f"{tmp_path}: left out: 2 photographs that lie in folders inside it (x/b.png, x/y/c.HEIC):"
        " move them up"
    )


def test_a_folder_without_a_readable_one_says_what_it_has(tmp_path, picture):
    with pytest.raises(InputError, match=r"no \.jpg, .* file in it"):
        images_in(tmp_path)
    (tmp_path / "IMG_1.heic").write_bytes(HEIC)
    with pytest.raises(InputError, match=r"IMG_1\.heic\): save them as JPEG"):
        images_in(tmp_path)
    (tmp_path / "IMG_1.heic").unlink()
    (tmp_path / "cats").mkdir()
    Image.fromarray(picture).save(tmp_path / "cats/a.jpg")
    with pytest.raises(InputError, match=r"cats/a\.jpg\): name these folders"):
        images_in(tmp_path)
    shutil.rmtree(tmp_path / "cats")
