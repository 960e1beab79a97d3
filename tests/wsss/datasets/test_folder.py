"""Photographs and labels as people have them: read, or told in one line that names the place."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from wsss.configuration.data_sections import UnnamedDataset
from wsss.datasets.formats import build_index, digest_of_listed, listed_files, with_test_images
from wsss.errors import InputError

LABELS = {"cat1": "cat", "cat2": "cat", "dog1": "dog", "dog2": "dog", "horse1": "horse"}


def draw(path, colour="teal"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), colour).save(path)


@pytest.fixture
def index_of(tmp_path):
    """A function that indexes photographs `files` with a CSV, which is a text or rows by id."""

    def make(csv=LABELS, files=tuple(f"{name}.jpg" for name in LABELS), classes=None, **folder):
        for number, name in enumerate(files):
            draw(tmp_path / "images" / name, (40 * number % 256, 90, 10 * number))
        if not isinstance(csv, str | bytes):
            csv = "".join(
                f"{name},{labels}\n" for name, labels in ({"image_id": "labels"} | csv).items()
            )
        (tmp_path / "labels.csv").write_bytes(csv.encode() if isinstance(csv, str) else csv)
        return indexed(tmp_path, classes, **folder)

    return make


def dataset(root, classes=None, **folder):
    settings = {"format": "folder", "root": str(root), "classes": classes, "folder": folder}
    return UnnamedDataset.model_validate_json(json.dumps(settings))


def indexed(root, classes=None, **folder):
    section = dataset(root, classes, **folder)
    return with_test_images(build_index(section), section)


def splits_of(index):
    return {name: [r.image_id for r in index.split(name)] for name in ("train", "val", "test")}


def complaint(make, *args, **options):
    with pytest.raises(InputError) as caught:
        make(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- classes that nobody meant


def test_names_that_differ_only_in_case_are_told_with_their_lines(index_of):
    said = complaint(index_of, LABELS | {"cat2": "Cat", "dog2": "DOG"})
    assert "labels.csv: one class under two names" in said
    assert "'cat' (line 2) and 'Cat' (line 3), 'dog' (line 4) and 'DOG' (line 5)" in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café", unicodedata.normalize("NFD", "café")),
        *(
            ("polar bear", "polar_bear"),
            ("T-shirt", "t shirt"),
            ("cat", "ｃａｔ"),
            ("cat", "'cat'"),
        ),
    ],
)
def test_names_that_look_alike_are_told_apart(index_of, one, other):
    said = complaint(index_of, LABELS | {"cat1": one, "cat2": other})
    assert f"{one!r} (line 2)" in said or f"{one!a} (line 2)" in said
    assert said.count("(line 2)") == 1 and "(line 3)" in said
    shown = said.split("two names: ")[1].split(" (line 2) and ")
    assert shown[0] != shown[1].split(" (line 3)")[0]


@pytest.mark.parametrize(
    "cell",
    [
        *('"cat,dog"', "cat|dog", "cat dog", "cat/dog", "cat + dog", "Cat&dog", '"cat, dog"'),
        *("\"['cat', 'dog']\"", '"[""cat"", ""dog""]"', "['cat']", "[]", "(cat|dog)", "{cat}"),
    ],
)
def test_cells_that_fall_apart_into_classes_are_refused(index_of, cell):
    said = complaint(index_of, LABELS | {"horse1": cell, "cat2": "horse"})
    assert "labels.csv, line 6: " in said
    assert ("write cat;dog" in said.replace("Cat", "cat")) == ("dog" in cell)


def test_cells_that_fall_apart_are_found_where_no_class_stands_alone(index_of):
    said = complaint(index_of, dict(zip(LABELS, ["a|b", "b|c", "a|c", "a|b", "d|a"], strict=True)))
    assert "line 2: 'a|b'" in said


@pytest.mark.parametrize(
    "names",
    [
        ["tench, Tinca tinca", "goldfish, Carassius auratus", "cat", "dog", "dog"],
        ["hot dog", "dog", "wine glass", "wine glass", "cat (tabby)"],
        ["1", "2", "10", "01 red", "AC/DC"],
    ],
)
def test_names_of_several_words_are_classes(index_of, names):
    rows = {f"{name},": f'"{label}"' for name, label in zip(LABELS, names, strict=True)}
    csv = "image_id,labels\n" + "".join(f"{name}{label}\n" for name, label in rows.items())
    assert set(index_of(csv).classes) == set(names)


def test_three_cells_under_two_columns_say_how_labels_are_joined(index_of):
    said = complaint(index_of, LABELS | {"cat2": "cat,dog"})
    assert "line 3: 3 cells under 2 columns: join several labels with ;" in said


@pytest.mark.parametrize(
    "name", ["background", "Background", "_background_", "__BACKGROUND__", "none", "nan", "-"]
)
def test_names_for_no_class_are_explained(index_of, name):
    said = complaint(index_of, LABELS | {"dog1": f"dog;{name}"})
    assert f"labels.csv, line 4: {name!r} is no object class" in said and "negative" in said
    columns = f"image_id,cat,{name}\n" + "".join(f"{i},1,0\n" for i in LABELS)
    assert f"labels.csv, line 1: {name!r} is no object class" in complaint(index_of, columns)


def test_zeros_and_ones_are_no_names(index_of):
    said = complaint(index_of, dict.fromkeys(LABELS, "0") | {"cat1": "1"})
    assert "the labels are 0 and 1: write the name of the class" in said


# --- shapes of a CSV


def rows(*lines):
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "csv",
    [
        rows("image_id,labels", "cat1,cat", "dog1,dog", ",", ",,", ""),
        rows("image_id,labels,,", "cat1,cat,,", "dog1,dog,,", ",,,"),
        rows("image_id,label", "cat1,cat", "dog1,dog"),
        rows("Image_ID,Labels,Split", "cat1,cat,Train", "dog1,dog,"),
        rows("image_id,labels", "images/cat1.jpg,cat", r"C:\photos\dog1.jpg,dog"),
        rows("image_id,cat,dog", "cat1,1.0,0.0", "dog1,0.0,1.0"),
        rows("image_id,cat,dog", "cat1,TRUE,False", "dog1,FALSE,True"),
        rows("image_id,cat,dog,,", "cat1,1,0,,", "dog1,0,1,,", ",,,,"),
        b"\xef\xbb\xbfimage_id,labels\r\ncat1,cat\r\ndog1,dog\r\n",
    ],
)
def test_shapes_that_are_read_without_a_word(index_of, csv):
    index = index_of(csv, files=("cat1.jpg", "dog1.jpg"))
    assert {r.image_id: r.labels for r in index.split("train")} == {
        "cat1": ("cat",),
        "dog1": ("dog",),
    }
    assert index.notes == ()


@pytest.mark.parametrize(
    ("csv", "passed"),
    [
        (rows("image_id,width,height,labels", "cat1,96,72,cat", "dog1,9,7,dog"), "width, height"),
        (rows("image_id,label,who,who", "cat1,cat,Anna,", "dog1,dog,,Bo"), "who, who"),
        (rows(",image_id,labels", "0,cat1,cat", "1,dog1,dog"), "one without a name"),
        (rows("image_id,labels,label", "cat1,cat,x", "dog1,dog,y"), "label"),
    ],
)
def test_other_columns_beside_labels_are_passed_over_with_a_note(index_of, csv, passed):
    index = index_of(csv, files=("cat1.jpg", "dog1.jpg"))
    assert index.classes == ("cat", "dog")
    assert [note.split(": columns passed over: ")[1] for note in index.notes] == [passed]


def test_one_row_a_label_is_joined(index_of):
    csv = rows("image_id,label", "cat1,cat", "dog1,dog", "cat1,dog", "cat1,cat", "cat2,")
    index = index_of(csv, files=("cat1.jpg", "cat2.jpg", "dog1.jpg"))
    assert [r.labels for r in index.records] == [("cat", "dog"), (), ("dog",)]
    assert any("labels of several rows joined: cat1" in note for note in index.notes)


def test_rows_that_contradict_each_other_are_refused(index_of):
    csv = rows("image_id,labels,split", "cat1,cat,train", "cat1,dog,val")
    assert "line 3: the image is of the split train already" in complaint(index_of, csv)
    csv = rows("image_id,labels", "a/cat1.jpg,cat", "b/cat1.jpg,dog")
    assert "line 3: b/cat1.jpg and a/cat1.jpg would be one image" in complaint(index_of, csv)
    csv = rows("image_id,width,cat", "cat1,96,1")
    assert "line 2: width is '96': write 0 or 1, or remove the column" in complaint(index_of, csv)


# --- nearly the right name


@pytest.mark.parametrize(
    ("row", "file"),
    [
        *(
            ("cat.jpg", "cat.JPG"),
            ("cat.jpg", "cat.jpeg"),
            ("cat.png", "cat.jpg"),
            ("CAT", "cat.jpg"),
        ),
        *(
            ("cat .jpg", "cat.jpg"),
            ("32", "000032.jpg"),
            ("32.0", "000032.jpg"),
            ("0032.jpg", "32.jpg"),
            ("a_1", "a_001.jpg"),
        ),
        (unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été") + ".jpg"),
        (unicodedata.normalize("NFD", "été"), unicodedata.normalize("NFC", "été") + ".png"),
    ],
)
def test_a_row_finds_the_only_file_that_is_near(index_of, row, file):
    index = index_of({row: "cat", "dog1": "dog"}, files=(file, "dog1.jpg", "other7.jpg"))
    assert {r.image for r in index.split("train")} == {f"images/{file}", "images/dog1.jpg"}
    (note,) = [note for note in index.notes if "nearly the same name" in note]
    assert note.endswith(f"{row} is images/{file}")


@pytest.mark.parametrize(
    ("names", "files", "told"),
    [
        (["Cat1"], ["cat1.jpg", "CAT1.jpg"], "there is images/CAT1.jpg, images/cat1.jpg"),
        (["Cat1", "cat1"], ["cat1.jpg"], "Cat1 (line 2; there is images/cat1.jpg)"),
        (["Cat1", "CAT1"], ["cat1.jpg"], "2 of 3 rows"),
        (["catt1"], ["cat1.jpg"], "catt1 (line 2; there is images/cat1.jpg)"),
        (["zebra"], ["cat1.jpg"], "zebra (line 2): correct these names"),
    ],
)
def test_what_is_not_unique_is_told_with_the_near_file(index_of, names, files, told):
    rows = dict.fromkeys(names, "cat") | {"dog1": "dog"}
    said = complaint(index_of, rows, files=(*files, "dog1.jpg"))
    assert told in said and "drop" not in said and "remove" not in said and "delete" not in said


def test_a_row_of_a_photograph_that_is_left_out_says_so(index_of, tmp_path):
    draw(tmp_path / "images/sub/x.jpg")
    (tmp_path / "images/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    said = complaint(index_of, LABELS | {"IMG_1": "cat", "x": "dog"})
    assert "IMG_1 (line 7; there is images/IMG_1.HEIC, which cannot be read)" in said
    assert "x (line 8; there is images/sub/x.jpg, which lies deeper)" in said


def test_lists_and_masks_are_found_by_near_names(index_of, tmp_path):
    (tmp_path / "val.txt").write_text("images/CAT2.JPG\n")
    (tmp_path / "masks").mkdir()
    for name in ("cat1.PNG", "Cat2.png", "dog1.png", "dog1.PNG", "notes.txt"):
        value = 255 if name == "dog1.PNG" else 1
        Image.fromarray(np.full((12, 20), value, np.uint8)).save(tmp_path / "masks" / name, "PNG")
    index = index_of(val_list="val.txt", masks="masks")
    assert splits_of(index)["val"] == ["cat2"]
    masks = {r.image_id: r.mask for r in index.records if r.mask}
    assert masks == {n: f"masks/{m}.png" for n, m in (("cat2", "Cat2"), ("dog1", "dog1"))} | {
        "cat1": "masks/cat1.PNG"
    }
    told = [note for note in index.notes if "nearly the same name" in note]
    assert len(told) == 2 and told[1].endswith("cat2 is Cat2.png")


# --- photographs that would vanish


def test_photographs_of_other_classes_are_only_segmented(index_of):
    index = index_of(classes=["horse", "cat"])
    assert splits_of(index) == {
        "train": ["cat1", "cat2", "horse1"],
        "val": [],
        "test": ["dog1", "dog2"],
    }
    assert "none of dataset.classes, so predicted only: 2 (dog1, dog2)" in index.notes
    assert not any(record.labels for record in index.split("test"))


def test_what_is_left_out_of_the_folder_is_a_note(index_of, tmp_path):
    draw(tmp_path / "images/more/x.jpg")
    (tmp_path / "images/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    notes = index_of().notes
    assert sum("IMG_1.HEIC" in note for note in notes) == 1
    assert sum("more/x.jpg" in note and "labels: folders" in note for note in notes) == 1


# --- negatives


def test_a_row_without_labels_is_a_negative(index_of):
    index = index_of(LABELS | {"cat2": ""})
    negative = index.record("cat2")
    assert negative.split == "train" and negative.is_negative
    assert not index.label_vector(negative).any()
    assert "1 training images without labels are negatives, all background: cat2" in index.notes
    assert not index.record("cat1").is_negative


@pytest.mark.parametrize(("labels", "told"), [("tumour", True), ("", False)])
def test_a_class_without_counter_example_is_told(index_of, labels, told):
    index = index_of(dict.fromkeys(LABELS, "tumour") | {"cat2": labels})
    assert any("(5) holds tumour: the classifier has no" in note for note in index.notes) == told


# --- a folder for each class


@pytest.fixture
def folders(tmp_path):
    """Photographs in folders of classes, each of a colour of its own."""
    for number, name in enumerate(("cat/1", "cat/2", "dog/3", "horse/4")):
        draw(tmp_path / f"{name}.png", (50 * number, 50, 50))
    return tmp_path


def labels_of(index):
    return {r.image_id: r.labels for r in index.records if r.split != "test"}


def test_folders_are_labels(folders):
    expected = {"1": ("cat",), "2": ("cat",), "3": ("dog",), "4": ("horse",)}
    index = indexed(folders, labels="folders")
    assert index.classes == ("cat", "dog", "horse") and labels_of(index) == expected
    assert index.record("3").image == "dog/3.png"
    (folders / "images").mkdir()
    for name in index.classes:
        (folders / name).rename(folders / "images" / name)
    index = indexed(folders, labels="folders")
    assert labels_of(index) == expected and index.record("3").image == "images/dog/3.png"


def test_a_photograph_in_two_folders_has_two_labels(folders):
    shutil.copy(folders / "cat/1.png", folders / "dog/1.png")
    assert labels_of(indexed(folders, labels="folders"))["1"] == ("cat", "dog")
    draw(folders / "dog/1.png", "pink")
    said = complaint(indexed, folders, labels="folders")
    assert "cat/1.png and dog/1.png are different photographs of one name" in said


def test_what_lies_beside_the_folders(folders):
    for name in (
        "loose.png",
        "images/new.png",
        ".hidden/5.png",
        "cat/deep/6.png",
        "background/7.png",
    ):
        draw(folders / name)
    (folders / "masks").mkdir()
    Image.fromarray(np.ones((12, 20), np.uint8)).save(folders / "masks/1.png")
    (folders / "empty").mkdir()
    index = indexed(folders, labels="folders", masks="masks")
    assert index.classes == ("cat", "dog", "horse")
    assert splits_of(index)["test"] == ["loose", "new"]
    assert labels_of(index)["7"] == () and index.record("7").is_negative
    assert index.record("1").mask == "masks/1.png"
    notes = "; ".join(index.notes)
    assert "1 photographs that lie in folders inside it (deep/6.png)" in notes
    assert "without photographs of their own: empty" in notes and "(loose, new)" in notes


def test_folders_that_are_no_classes_are_refused(folders):
    draw(folders / "Cat/9.png")
    assert "'Cat' and 'cat'" in complaint(indexed, folders, labels="folders")
    shutil.rmtree(folders / "Cat")
    (folders / "train").mkdir()
    for name in ("cat", "dog", "horse"):
        (folders / name).rename(folders / "train" / name)
    said = complaint(indexed, folders, labels="folders")
    assert "dataset.folder.labels: folders: " in said and "train/cat/1.png lies deeper" in said


def test_the_digest_of_folders_follows_their_labels(folders, tmp_path):
    def digests():
        section = dataset(folders, labels="folders")
        return [digest_of_listed(section, file) for file in listed_files(section)]

    before = digests()
    draw(folders / "images/new.png")  # it is only segmented
    assert digests() == before
    (folders / "cat/2.png").rename(folders / "dog/2.png")
    moved = digests()
    assert moved != before
    shutil.move(folders / "dog/2.png", folders / "cat/2.png")
    assert digests() == before
