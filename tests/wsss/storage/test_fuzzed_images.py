"""Two hundred hostile photographs and masks: an array of the right kind, or a refusal by name."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from wsss.errors import InputError
from wsss.storage.images import image_size, mask_size, read_image, read_mask

PNG, SUFFIX = b"\x89PNG\r\n\x1a\n", ("jpg", "png")
FILES = 200
MEMORY = 600 << 20  # bytes that all of them may add; a picture of Pillow's limit has 270 MB


def seeds():
    """Small pictures in the forms that JPEG and PNG have."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (40, 56, 3), np.uint8)
    labels = rng.integers(0, 21, (40, 56)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
    pictures = {
        "jpeg": (Image.fromarray(colours), {"format": "JPEG", "exif": exif}),
        "progressive": (Image.fromarray(colours), {"format": "JPEG", "progressive": True}),
        "cmyk": (Image.fromarray(colours).convert("CMYK"), {"format": "JPEG"}),
        "png": (Image.fromarray(colours), {"format": "PNG", "exif": exif}),
        "alpha": (Image.fromarray(colours).convert("RGBA"), {"format": "PNG"}),
        "palette": (palette, {"format": "PNG", "transparency": 3}),
        "deep": (Image.fromarray(labels.astype(np.uint16) * 12), {"format": "PNG"}),
    }
    for image, options in pictures.values():
        target = io.BytesIO()
        image.save(target, **options)
        yield target.getvalue()


def chunks(content):
    """(kind, data) of a PNG."""
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        yield kind, content[place + 8 : place + 8 + length]
        place += 12 + length


def png(parts):
    """A PNG whose checksums are right, whatever is in it."""
    made = PNG
    for kind, data in parts:
        made += struct.pack(">I", len(data)) + kind + data
        made += struct.pack(">I", zlib.crc32(kind + data))
    return made


def mutated_png(content, rng):
    """Parts changed, repeated, dropped or swapped, and checked in as if they were right."""
    parts = list(chunks(content))
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(parts)))
        kind, data = parts[at]
        act = rng.integers(4)
        if act == 0 and data:
            parts[at] = (kind, mutated_bytes(data, rng))
        elif act == 1:
            parts.insert(at, parts[int(rng.integers(len(parts)))])
        elif act == 2 and len(parts) > 2:
            del parts[at]
        elif parts[0][0] == b"IHDR" and len(parts[0][1]) == 13:
            sizes = rng.choice([0, 1, 41, 65535, 2**31 - 1], 2)
            header = struct.pack(">II", *map(int, sizes)) + parts[0][1][8:]
            parts[0] = (b"IHDR", header)
    return png(parts)


def mutated_bytes(content, rng):
    """Bytes changed, cut out, doubled, blanked, or cut off."""
    made = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at, length = int(rng.integers(len(made) + 1)), int(rng.integers(1, 20))
        act = rng.integers(5)
        if act == 0:
            made[at : at + length] = rng.bytes(length)
        elif act == 1:
            del made[at : at + length]
        elif act == 2:
            made[at:at] = made[at : at + length]
        elif act == 3:
            made[at : at + 2] = b"\xff\xff"
        elif rng.random() < 0.3:
            del made[at:]
    return bytes(made)


def hostile_files(count):
    rng, originals = np.random.default_rng(7), list(seeds())
    for number in range(count):
        original = originals[number % len(originals)]
        is_png = original.startswith(b"\x89PNG")
        mutate = mutated_png if is_png and rng.random() < 0.6 else mutated_bytes
        yield number, mutate(original, rng)


def outcome(read, path):
    """What a reader made of a file; None if it refused it by name in one line."""
    try:
        return read(path)
    except InputError as error:
        assert path.name in str(error) and "\n" not in str(error)
        return None


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs
def test_hostile_images_are_read_or_refused(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = refused = 0
    for number, content in hostile_files(FILES):
        path = tmp_path / f"hostile{number}.{SUFFIX[content[:1] == PNG[:1]]}"
        path.write_bytes(content)
        image, mask = outcome(read_image, path), outcome(read_mask, path)
        size, _ = outcome(image_size, path), outcome(mask_size, path)
        if image is None:
            refused += 1
        else:
            read += 1
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            assert size == image.shape[1::-1] and min(size) > 0
        if mask is not None:
            assert mask.dtype == np.uint8 and mask.ndim == 2 and mask.size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < MEMORY
    assert read > 30 and refused > 60  # the fuzzer neither spares nor shreds
