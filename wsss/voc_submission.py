"""Archives for VOC's evaluation server: writing one, and finding what the server would refuse.

The server takes a tar.gz of `results/VOC2012/Segmentation/comp6_test_cls/<id>.png`, an indexed PNG
with VOC's palette and the values 0..20 for each test image (comp6: trained on other data too).
"""

import gzip
import io
import struct
import tarfile
import warnings
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from wsss.errors import InputError, printable
from wsss.files import atomic_path
from wsss.images import image_size
from wsss.palette import palette_png, voc_palette
from wsss.progress import progress

FOLDER = PurePosixPath("results/VOC2012/Segmentation/comp6_test_cls")
FOLDERS = {str(path) for path in (FOLDER, *FOLDER.parents)}
TEST_IMAGES = 1456  # of VOC 2012's segmentation task
CLASSES = 20  # without background
SPARE_BYTES = 65536  # of a member beyond one byte a pixel, for headers and chunks
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SHOWN = 3  # offenders named per kind of problem
LONGEST_SHOWN = 200  # characters of a name in a message


def write_submission(path, label_maps, sizes):
    """Write an archive; equal label maps give equal bytes. It appears only if it passes the check.

    Args:
        path: where the tar.gz will lie.
        label_maps: iterable of (image id, uint8 (H, W) of 0..20).
        sizes: image id -> (width, height) of the photograph, for all that must be in it.

    Raises:
        InputError: what the server would refuse.
    """
    files = {str(FOLDER / f"{name}.png"): palette_png(label) for name, label in label_maps}
    with atomic_path(path) as temporary:
        with (
            open(temporary, "wb") as file,
            # No name and no time: the same masks are the same bytes.
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name in sorted(files):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(files[name]), 0o644
                archive.addfile(member, io.BytesIO(files[name]))
        problems = check_submission(temporary, sizes)
        if problems:
            raise InputError(f"{path} would be refused: {'; '.join(problems)}")


def check_submission(path, sizes):
    """What VOC's server would refuse in an archive; nothing is extracted, memory is bounded.

    Args:
        path: the archive.
        sizes: image id -> (width, height) of the photograph, for all that must be in it.

    Returns:
        A line per kind of problem with the first few offenders; empty if all is well.
    """
    return _Check(sizes).lines(path)


def photograph_sizes(image_ids, folder):
    """Image id -> (width, height) of `<id>.jpg`; InputError for what is missing or damaged."""
    return {
        image_id: image_size(Path(folder) / f"{image_id}.jpg")
        for image_id in progress(image_ids, desc="photographs", unit="image")
    }


class _TooMuchError(Exception):
    """More than the masks of the photographs can take."""


class _BoundedReader:
    """A stream that refuses to give more than a member, or the whole archive, can need."""

    def __init__(self, stream, per_member, total):
        self._stream, self._per_member, self._total = stream, per_member, total
        self.next_member()

    def next_member(self):
        self._left = self._per_member

    def read(self, size):
        data = self._stream.read(size)
        self._left -= len(data)
        self._total -= len(data)
        if min(self._left, self._total) < 0:
            raise _TooMuchError
        return data


class _Check:
    """One walk through an archive; problems are counted by kind, the first few are kept."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.found = set()
        self.problems = {}
        needed = [width * height + SPARE_BYTES for width, height in sizes.values()]
        self.per_member = 2 * max(needed, default=SPARE_BYTES)
        self.total = 2 * sum(needed) + self.per_member
        self.most_members = 2 * len(sizes) + 1000

    def lines(self, path):
        try:
            self._walk(path)
        except _TooMuchError:
            return [f"more data than masks of the listed photographs can be: {_shown(path)}"]
        except Exception as error:  # a damaged archive can raise nearly anything
            reason = _shown(error) or type(error).__name__
            return [f"no tar.gz, or damaged ({reason}): {_shown(path)}"]
        for image_id in self.sizes:
            if image_id not in self.found:
                self._note(f"of {len(self.sizes)} masks missing", image_id)
        return [
            f"{count} {kind}: {', '.join(map(_shown, first))}{', ...' * (count > SHOWN)}"
            for kind, (count, first) in self.problems.items()
        ]

    def _note(self, kind, offender):
        count, first = self.problems.get(kind, (0, []))
        self.problems[kind] = (count + 1, first if count >= SHOWN else [*first, offender])

    def _walk(self, path):
        with open(path, "rb") as file, gzip.GzipFile(fileobj=file) as packed:
            stream = _BoundedReader(packed, self.per_member, self.total)
            members = 0
            with (
                tarfile.open(fileobj=stream, mode="r|") as archive,
                progress(desc="checking", unit="mask", total=len(self.sizes)) as bar,
            ):
                while (member := archive.next()) is not None:
                    members += 1
                    if members > self.most_members or member.size > self.per_member:
                        raise _TooMuchError
                    self._look_at(archive, member)
                    archive.members = []  # or it would keep what it has read
                    stream.next_member()
                    bar.update()
            while stream.read(SPARE_BYTES):  # to the end, where gzip's checksum is
                stream.next_member()

    def _look_at(self, archive, member):
        kind = self._kind_of_member(member)
        if kind:
            self._note(kind, member.name)
        elif member.isreg():
            path = PurePosixPath(member.name)
            self.found.add(path.stem)
            problem = _problem_of_mask(archive.extractfile(member).read(), self.sizes[path.stem])
            if problem:
                kind, detail = problem
                self._note(kind, path.name + detail)

    def _kind_of_member(self, member):
        """What is wrong with a member by its header; None if nothing is."""
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            return "names that are absolute or hold .."
        if member.issym() or member.islnk():
            return "links"
        written = member.name.removeprefix("./")  # as `tar czf x.tgz ./results` writes it
        if member.isdir():
            return None if written in FOLDERS else f"folders outside of {FOLDER}"
        if not member.isreg() or member.issparse():  # a sparse file unpacks to any size
            return "members that are no plain files"
        if written != str(FOLDER / name.name) or name.suffix != ".png":
            return f"files that are not {FOLDER}/<image id>.png"
        if name.stem not in self.sizes:
            return "masks of images that are not in the list"
        return "masks that are there already" if name.stem in self.found else None


def _problem_of_mask(content, size):
    """The kind of problem of a PNG and what to add to its name; None if there is none."""
    try:
        _check_chunks(content)
        with _opened(content) as image:
            if image.size != size:
                sides = "{}x{}, its photograph {}x{}".format(*image.size, *size)
                return "masks of another size than the photograph", f" ({sides})"
            if image.mode != "P":
                return "masks that are not indexed (mode P)", f" (mode {image.mode})"
            # Only now, of the right size, it is decoded.
            return _problem_of_values(np.asarray(image), image.getpalette())
    except Exception:  # a damaged file can raise nearly anything
        return "masks that are no PNG, or damaged", ""


def _check_chunks(content):
    """Raise an error where a PNG is cut off or damaged, or goes on after its end.

    Pillow decodes a file without its end as soon as all pixels are there; libpng may not.
    """
    view, place, kind = memoryview(content), len(PNG_SIGNATURE), None
    if view[:place] != PNG_SIGNATURE:
        raise ValueError("no PNG")
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", view, place)
        end = place + 8 + length
        if struct.unpack_from(">I", view, end)[0] != zlib.crc32(view[place + 4 : end]):
            raise ValueError(f"chunk {kind} is damaged")
        place = end + 4
    if place != len(view):
        raise ValueError("data after the end")


def _opened(content):
    with warnings.catch_warnings():  # Pillow's on large images: the size is looked at next
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(content), formats=["PNG"])


def _problem_of_values(values, colours):
    highest = int(values.max())
    if highest > CLASSES:
        return f"masks with values outside of 0..{CLASSES}", f" ({highest})"
    palette = np.array(colours, np.uint8).reshape(-1, 3)
    if len(palette) <= highest or not np.array_equal(palette, voc_palette()[: len(palette)]):
        return "masks with another palette than VOC's", ""
    return None


def _shown(name):
    """Names come from outside: one line, and no end of it."""
    return printable(str(name)[:LONGEST_SHOWN])
