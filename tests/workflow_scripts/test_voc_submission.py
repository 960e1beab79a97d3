"""The archive for VOC's server: what is in it, and what the checker refuses."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import check_voc_submission, make_voc_submission
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset, write_test_images
from wsss.datasets.voc import CLASSES
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import palette_png, voc_palette

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
SIZES = {"2008_000006": (31, 17), "2008_000011": (17, 31), "2008_000012": (40, 40)}
IDS = list(SIZES)
WHO = {"variant": "auxsegnet", "seed": 3, "stage": 1}


def label_of(image_id, values=21):
    width, height = SIZES[image_id]
    rng = np.random.default_rng(IDS.index(image_id))
    return rng.integers(0, values, (height, width)).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path):
    """A folder of photographs, and the list of their ids as other projects write it."""
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    for image_id, size in SIZES.items():
        Image.new("RGB", size).save(folder / f"{image_id}.jpg")
    (tmp_path / "test.txt").write_text("".join(f"/JPEGImages/{i}.jpg\n" for i in IDS))
    return folder


@pytest.fixture
def make(tmp_path, photographs):
    """A function that runs the command on label maps by id; returns the archive."""

    def make(labels=None, classes=CLASSES, split="test"):
        records = [
            ImageRecord(i, split, False, f"JPEGImages/{i}.jpg", None, *size, ())
            for i, size in SIZES.items()
        ]
        values = tuple(range(1, len(classes) + 1))
        index = DatasetIndex(tmp_path, tuple(classes), values, tuple(records))
        write_dataset(index, tmp_path / "data")
        write_test_images(index, tmp_path / "data")
        identity = {"dataset": "data", "index_digest": index.digest, "classes": list(classes)}
        labels = labels or {image_id: label_of(image_id) for image_id in IDS}
        shards = [list(labels)[:1], list(labels)[1:]]
        for number, ids in enumerate(shards):
            with ArtifactWriter(
                tmp_path / f"shard{number}.h5",
                "predictions_crf",
                identity=identity | WHO | {"split": split},
                parameters={},
                sources={},
                expected=ids,
            ) as artifact:
                for image_id in ids:
                    artifact.write(image_id, labels[image_id])
        output = tmp_path / "archive.tar.gz"
        words = ["--data", tmp_path / "data", "--output", output, "--labels"]
        words += [tmp_path / "shard0.h5", tmp_path / "shard1.h5"]
        words += [word for key, value in WHO.items() for word in (f"--{key}", value)]
        make_voc_submission.main(list(map(str, words)))
        return output

    return make


@pytest.fixture
def check(tmp_path, photographs, capsys):
    """A function that runs the checker; returns the exit status and the lines."""

    def check(archive, any_count=True):
        capsys.readouterr()
        words = [archive, "--list", tmp_path / "test.txt", "--images", photographs]
        words += ["--any-count"] if any_count else []
        status = check_voc_submission.main(list(map(str, words)))
        return status, capsys.readouterr().out.splitlines()

    return check


# --- the archive


def test_the_archive_holds_the_masks_of_the_test_list(make, check):
    archive = make()
    with tarfile.open(archive, "r:gz") as tar:
        assert tar.getnames() == [f"{FOLDER}/{image_id}.png" for image_id in sorted(IDS)]
        for image_id in IDS:
            with Image.open(tar.extractfile(f"{FOLDER}/{image_id}.png")) as mask:
                assert (mask.format, mask.mode) == ("PNG", "P")
                assert np.array_equal(np.array(mask), label_of(image_id))
                assert mask.getpalette()[: 21 * 3] == voc_palette()[:21].ravel().tolist()
    assert check(archive) == (0, ["ok: 3 masks (VOC 2012's test list has 1456)"])


def test_the_same_masks_are_the_same_bytes(make):
    first = make().read_bytes()
    assert make().read_bytes() == first
    again = {image_id: label_of(image_id) for image_id in reversed(IDS)}
    assert make(again).read_bytes() == first
    other = again | {IDS[0]: label_of(IDS[0], 20)}
    assert make(other).read_bytes() != first


def test_what_the_server_would_refuse_never_appears(make, tmp_path):
    bad = {image_id: label_of(image_id) for image_id in IDS} | {IDS[1]: label_of(IDS[0])}
    bad[IDS[2]] = np.full((40, 40), 255, np.uint8)
    complaint = r"1 masks of another size .*2008_000011.*; 1 masks with values .*2008_000012"
    with pytest.raises(InputError, match=complaint):
        make(bad)
    with pytest.raises(InputError, match=r"dataset\.classes"):
        make(classes=CLASSES[:19])
    with pytest.raises(InputError, match=r"dataset\.classes"):
        make(classes=CLASSES[::-1])
    with pytest.raises(InputError, match=r"dataset\.voc\.test_list"):
        make(split="val")
    assert not list(tmp_path.glob("*.tar.gz")) and not list(tmp_path.glob(".*"))


# --- the checker, on archives that other tools might have made


def good_members():
    return {f"{FOLDER}/{image_id}.png": palette_png(label_of(image_id)) for image_id in IDS}


def pack(path, members, mode="w:gz"):
    """A tar of contents by name, or of ready members with a header of their own."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            if isinstance(content, bytes):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                tar.addfile(content)
    return path


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def png_of(image_id, mode="P", palette=None, size=None, save="PNG", **options):
    image = Image.fromarray(label_of(image_id))
    if mode == "P":
        image.putpalette((voc_palette() if palette is None else palette).tobytes())
    else:
        image = image.convert(mode)
    if size:
        image = image.resize(size, Image.Resampling.NEAREST)
    content = io.BytesIO()
    image.save(content, save, **options)
    return content.getvalue()


def test_archives_of_other_tools_pass(tmp_path, check):
    members = dict(reversed(good_members().items()))
    # another PNG encoder: packed to four bits, with the sixteen colours that it needs
    few = label_of(IDS[0], 3)
    image = Image.fromarray(few)
    image.putpalette(voc_palette()[:16].tobytes())
    content = io.BytesIO()
    image.save(content, "PNG", bits=4, optimize=True)
    members[f"{FOLDER}/{IDS[0]}.png"] = content.getvalue()
    status, lines = check(pack(tmp_path / "a.tgz", members))
    assert status == 0 and lines[0].startswith("ok: 3 masks"), lines


def test_an_archive_of_a_folder_named_by_a_dot_passes(tmp_path, check):
    """As `tar czf a.tgz .` writes it, with an empty folder of VOC's kit."""
    folders = [".", "./results", "./results/VOC2012", "./results/VOC2012/Main", f"./{FOLDER}"]
    members = {name: special(name, tarfile.DIRTYPE) for name in folders}
    members |= {f"./{name}": content for name, content in good_members().items()}
    status, lines = check(pack(tmp_path / "a.tgz", members))
    assert status == 0 and lines[0].startswith("ok: 3 masks"), lines


def test_a_list_of_another_length_is_a_problem_of_its_own(make, check, tmp_path):
    line = (
        f"3 images in {tmp_path / 'test.txt'} (VOC 2012's test list has 1456): give that one, or"
        " --any-count"
    )
    assert check(make(), any_count=False) == (1, [line])
    bad = pack(tmp_path / "a.tgz", good_members() | {A: b""})
    assert check(bad, any_count=False) == (1, [DAMAGED, line])
    assert check(bad) == (1, [DAMAGED])


def test_the_list_of_the_server_needs_no_flag(check, make, monkeypatch):
    monkeypatch.setattr(check_voc_submission, "TEST_IMAGES", 3)
    assert check(make(), any_count=False) == (0, ["ok: 3 masks"])


A, B, C = (f"{FOLDER}/{image_id}.png" for image_id in IDS)
COLOURS = voc_palette()
OTHER_COLOURS = COLOURS.copy()
OTHER_COLOURS[5] += 1
ADAPTIVE = np.random.default_rng(0).permutation(COLOURS)
WHOLE = palette_png(label_of(IDS[0]))
DAMAGED = "1 masks that are no PNG, or damaged: 2008_000006.png"
ELSEWHERE = f"1 files that are not {FOLDER}/<image id>.png: "
# Members to change (None to leave out), and the line that is said.
TAMPERED = {
    "missing": ({A: None, C: None}, "2 of 3 masks missing: 2008_000006, 2008_000012"),
    "extra image": (
        {f"{FOLDER}/2008_000001.png": WHOLE},
        f"1 masks of images that are not in the list: {FOLDER}/2008_000001.png",
    ),
    "extra file": ({f"{FOLDER}/README": b"x"}, f"{ELSEWHERE}{FOLDER}/README"),
    "other folder": (
        {A: None, A.replace("comp6", "comp5"): WHOLE},
        f"{ELSEWHERE}{A.replace('comp6', 'comp5')}",
    ),
    "no folder": ({A: None, "2008_000006.png": WHOLE}, f"{ELSEWHERE}2008_000006.png"),
    "capitals": (
        {A: None, A.replace("png", "PNG"): WHOLE},
        f"{ELSEWHERE}{A.replace('png', 'PNG')}",
    ),
    "twice": ({f"./{A}": WHOLE}, f"1 masks that are there already: {A}"),
    "link": ({B: special(B, tarfile.SYMTYPE, "a")}, f"1 masks that are links, not files: {B}"),
    "line break": (
        {f"{FOLDER}/a\nok: 3.png": b""},
        f"1 masks of images that are not in the list: {FOLDER}/a\\nok: 3.png",
    ),
    "JPEG": ({A: png_of(IDS[0], "L", save="JPEG")}, DAMAGED),
    "empty": ({A: b""}, DAMAGED),
    "cut": ({A: WHOLE[:-80]}, DAMAGED),
    "cut behind its pixels": ({A: WHOLE[:-12]}, DAMAGED),
    "grey": (
        {A: png_of(IDS[0], "L")},
        "1 masks that are not indexed (mode P): 2008_000006.png (mode L)",
    ),
    "colours": (
        {A: png_of(IDS[0], "RGB"), B: png_of(IDS[1], "L")},
        "2 masks that are not indexed (mode P): 2008_000006.png (mode RGB), 2008_000011.png (mode"
        " L)",
    ),
    "other palette": (
        {A: png_of(IDS[0], palette=OTHER_COLOURS)},
        "1 masks with another palette than VOC's: 2008_000006.png",
    ),
    "adaptive palette": (
        {A: png_of(IDS[0], palette=ADAPTIVE)},
        "1 masks with another palette than VOC's: 2008_000006.png",
    ),
    "class 21": (
        {A: palette_png(np.full((17, 31), 21, np.uint8))},
        "1 masks with values outside of 0..20: 2008_000006.png (21)",
    ),
    "ignored": (
        {A: palette_png(np.full((17, 31), 255, np.uint8))},
        "1 masks with values outside of 0..20: 2008_000006.png (255)",
    ),
    "turned": (
        {A: png_of(IDS[0], size=(17, 31))},
        "1 masks of another size than the photograph: 2008_000006.png (17x31, its photograph"
        " 31x17)",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_archives_are_refused(tmp_path, check, name):
    changes, line = TAMPERED[name]
    members = good_members() | changes
    kept = {name: content for name, content in members.items() if content is not None}
    status, lines = check(pack(tmp_path / "a.tgz", kept))
    assert status == 1
    assert line in lines
    assert len(lines) <= 2  # what is wrong, and perhaps that a mask is missing for it


def test_each_kind_of_problem_is_one_line(tmp_path, check):
    extra = {f"{FOLDER}/2007_{n:06}.png": b"" for n in range(7)}
    status, lines = check(pack(tmp_path / "a.tgz", good_members() | extra | {A: b""}))
    assert status == 1 and len(lines) == 2
    names = ", ".join(f"{FOLDER}/2007_00000{n}.png" for n in range(3))
    assert f"7 masks of images that are not in the list: {names} (and 4 more)" in lines


def spoilt(path, change):
    path.write_bytes(change(path.read_bytes()))


NO_ARCHIVES = {
    "plain tar": lambda path: pack(path, good_members(), mode="w"),
    "empty": lambda path: path.write_bytes(b""),
    "not a tar": lambda path: path.write_bytes(gzip.compress(b"masks" * 1000)),
    "truncated": lambda path: spoilt(pack(path, good_members()), lambda c: c[: len(c) // 2]),
    "truncated at its end": lambda path: spoilt(pack(path, good_members()), lambda c: c[:-4]),
    "checksum": lambda path: spoilt(pack(path, good_members()), lambda c: c[:-8] + bytes(8)),
}


@pytest.mark.parametrize("name", NO_ARCHIVES)
def test_what_is_no_whole_tar_gz_is_refused(tmp_path, check, name):
    path = tmp_path / "archive.tar.gz"
    NO_ARCHIVES[name](path)
    status, lines = check(path)
    assert status == 1
    assert len(lines) == 1 and lines[0].startswith("no tar.gz, or damaged ("), lines


def test_lists_that_cannot_be_checked_against_are_refused(tmp_path, check, make, photographs):
    archive = make()
    with pytest.raises(InputError, match="no such file"):
        check(tmp_path / "absent.tar.gz")
    (photographs / f"{IDS[1]}.jpg").unlink()
    with pytest.raises(InputError, match=rf"{IDS[1]}\.jpg does not exist"):
        check(archive)
    (tmp_path / "test.txt").write_text(f"{IDS[0]}\n{IDS[0]}\n")
    with pytest.raises(InputError, match=rf"names {IDS[0]} twice"):
        check(archive)
    (tmp_path / "test.txt").write_text("\n")
    with pytest.raises(InputError, match="names no image"):
        check(archive)
