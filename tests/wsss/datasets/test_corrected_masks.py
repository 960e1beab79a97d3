"""Masks that people corrected, in the files that annotation tools write."""

import io
import json
import pickle
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from drawn_masks import CLASSES, LABELS, index_of, write_results
from PIL import Image, ImageDraw
from pycocotools import mask as rle_of

from workflow_scripts import export_annotations
from wsss.datasets.corrected_masks import corrected_masks, digest_of_masks
from wsss.datasets.index import DatasetIndex
from wsss.errors import InputError
from wsss.storage.palette import write_palette_png

A, B = LABELS["a"], LABELS["b"]
HEIGHT, WIDTH = A.shape


@pytest.fixture
def index(tmp_path):
    """Three training images, and one that is only predicted."""
    index = index_of(tmp_path, LABELS)
    test = replace(index.records[0], image_id="later", split="test", labels=())
    return replace(index, records=(*index.records, test))


def exported(folder, form):
    results = write_results(folder / "results")
    words = [results, "--format", form, "--out", folder, "--smallest", 0]
    export_annotations.main([str(word) for word in words])
    return folder / {"coco": "instances_default.json", "cvat": "segmentation_mask.zip"}[form]


@pytest.mark.parametrize("form", ["coco", "cvat", "unpacked"])
def test_what_is_exported_comes_back_pixel_by_pixel(index, tmp_path, form):
    path = exported(tmp_path, "coco" if form == "coco" else "cvat")
    if form == "unpacked":
        shutil.unpack_archive(path, tmp_path / "task")
        path = tmp_path / "task"
    masks = pickle.loads(pickle.dumps(corrected_masks(str(path), index)))
    # In COCO's format nobody can tell an image without objects from one that nobody looked at.
    assert sorted(masks.names) == (["a", "b"] if form == "coco" else ["a", "b", "empty"])
    assert not masks.elsewhere and not masks.strangers and "later" not in masks
    for image_id in masks.names:
        np.testing.assert_array_equal(masks.read(index.record(image_id)), LABELS[image_id])


# --- COCO's format, as tools write it -----------------------------------------------------------


def coco_file(path, images, categories, annotations):
    """`images` are (number, file name), `annotations` (image, category, segmentation, crowd)."""
    size = {"width": WIDTH, "height": HEIGHT}
    content = {
        "images": [{"id": number, "file_name": name, **size} for number, name in images],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "segmentation": segmentation,
                "iscrowd": crowd,
                "area": 9.0,
                "bbox": [0, 0, 3, 3],
            }
            for number, (image, category, segmentation, crowd) in enumerate(annotations)
        ],
    }
    path.write_text(json.dumps(content))
    return path


def brushed(covered):
    """Run lengths down the columns, from zeros on, as CVAT writes what a brush has painted."""
    flat = np.concatenate([[0], covered.flatten(order="F")])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff([0, *ends, covered.size]).tolist()
    return {"counts": counts, "size": [HEIGHT, WIDTH]}


def square(left, top, side):
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def test_what_cvat_paints_as_crowds_are_objects(index, tmp_path):
    categories = [(1, "background"), (2, "sheep"), (3, "cat"), (4, "nobody uses it")]
    annotations = [
        (7, 3, brushed((A == 1).astype(int)), 1),
        (7, 2, square(0, 0, 4), 0),  # over the brush, since it comes later
        (7, 1, square(1, 1, 2), 0),
    ]
    path = coco_file(
        tmp_path / "task.json", [(7, "folder/a.jpg"), (8, "b.jpg")], categories, annotations
    )
    masks = corrected_masks(str(path), index)
    assert list(masks.names) == ["a"]
    expected = np.where(A == 1, 1, 0)
    expected[:4, :4], expected[1:3, 1:3] = 3, 0
    np.testing.assert_array_equal(masks.read(index.record("a")), expected)


@pytest.mark.parametrize(
    "name",
    ["images/5bc1f3a2-b.jpg", "images/0123abcd__5bc1f3a2-b.jpg", "../upload/1/5bc1f3a2-b.jpg"],
)
def test_label_studio_names_images_and_categories_in_its_own_way(index, tmp_path, name):
    outline = [[3.0, 4.0, 20.5, 4.0, 12.0, 21.25]]
    path = coco_file(
        tmp_path / "result.json", [(0, name)], [(0, "cat"), (1, "sheep")], [(0, 1, outline, 0)]
    )
    masks = corrected_masks(str(path), index)
    expected = rle_of.decode(rle_of.frPyObjects(outline, HEIGHT, WIDTH))[..., 0] * 3
    np.testing.assert_array_equal(masks.read(index.record("b")), expected)
    drawn = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(drawn).polygon([(3, 4), (20, 4), (12, 21)], fill=3)
    assert (np.array(drawn) == expected).mean() > 0.95


def test_an_image_that_is_called_like_label_studio_s_is_found(index, tmp_path):
    record = replace(index.records[0], image_id="5bc1f3a2-b")
    index = replace(index, records=(*index.records, record))
    path = coco_file(
        tmp_path / "x.json", [(0, "5bc1f3a2-b.jpg")], [(0, "cat")], [(0, 0, square(1, 1, 3), 0)]
    )
    assert list(corrected_masks(str(path), index).names) == ["5bc1f3a2-b"]


def test_an_image_with_boxes_alone_of_a_class_is_refused_when_it_is_read(index, tmp_path):
    """In a file with other outlines: that class would be background, and nobody would know."""
    outline, categories = square(1, 1, 3), [(0, "cat"), (1, "sheep")]
    images = [(0, "a.jpg"), (1, "b.jpg"), (2, "empty.jpg")]
    boxes = [(0, 0, [], 0), (0, 1, [], 0), (1, 0, outline, 0), (1, 1, [], 0), (2, 1, outline, 0)]
    path = coco_file(tmp_path / "boxes.json", images, categories, boxes)
    masks = corrected_masks(str(path), index)
    with pytest.raises(InputError, match=r"boxes\.json, image a: 'cat', 'sheep' has boxes without"):
        masks.read(index.record("a"))
    with pytest.raises(InputError, match=r"image b: 'sheep' has boxes .* keeps its pseudo label$"):
        masks.read(index.record("b"))
    assert (masks.read(index.record("empty"))[1:4, 1:4] == 3).all()


def test_a_box_beside_an_outline_of_its_class_paints_nothing(index, tmp_path, caplog):
    """As where an outline was drawn from the box; it is told."""
    objects = [(0, 0, square(1, 1, 3), 0), (0, 0, [], 0)]
    path = coco_file(tmp_path / "x.json", [(0, "a.jpg")], [(0, "cat")], objects)
    found = corrected_masks(str(path), index).read(index.record("a"))
    assert np.flatnonzero(found).size == 9 and (found[1:4, 1:4] == 1).all()
    assert "1 of 2 annotations have no outline and paint nothing: 1" in caplog.text


# --- CVAT's zip ---------------------------------------------------------------------------------


def png_of(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="PNG")
    return content.getvalue()


def task(path, labelmap, masks):
    """A zip of class masks in colours, with what CVAT packs beside them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labelmap.txt", labelmap)
        archive.writestr("ImageSets/Segmentation/default.txt", "\n".join(masks))
        for name, content in masks.items():
            archive.writestr(f"SegmentationClass/{name}.png", content)
            archive.writestr(f"SegmentationObject/{name}.png", content)
    return str(path)


OWN_COLOURS = """\
# label:color_rgb:parts:actions
guinea pig: brown:250,50,83::
background:0,0,0::
cat:51,221,255:head,foot:sleep
"""


def in_colours(label, *colours):
    return png_of(np.array([(0, 0, 0), *colours], np.uint8)[label])


def test_labels_have_the_colours_that_people_gave_them(index, tmp_path):
    content = in_colours(np.where(A == 3, 0, A), (51, 221, 255), (250, 50, 83))
    masks = corrected_masks(task(tmp_path / "t.zip", OWN_COLOURS, {"my photos/a": content}), index)
    np.testing.assert_array_equal(masks.read(index.record("a")), np.where(A == 3, 0, A))


def test_a_palette_png_in_the_zip_is_read_by_its_colours(index, tmp_path):
    image = Image.fromarray(np.where(A == 2, 7, 0).astype(np.uint8))
    image.putpalette([0] * 21 + [250, 50, 83])
    content = io.BytesIO()
    image.save(content, format="PNG")
    path = task(tmp_path / "t.zip", OWN_COLOURS, {"a": content.getvalue()})
    found = corrected_masks(path, index).read(index.record("a"))
    np.testing.assert_array_equal(found, np.where(A == 2, 2, 0))


@pytest.mark.parametrize(
    ("labelmap", "content", "said"),
    [
        (OWN_COLOURS, in_colours(A, (1, 2, 3), (1, 2, 3), (1, 2, 3)), "a.png has the colour 1,2,3"),
        (
            OWN_COLOURS + "dog:9,9,9::\n",
            in_colours(A, (9, 9, 9), *[(0, 0, 0)] * 2),
            "'dog' is no cl",
        ),
        (OWN_COLOURS + "dog:0,0,0::\n", b"", "line 5: 'background' and 'dog' have the same colour"),
        (OWN_COLOURS + "dog:0,0\n", b"", "line 5: 'dog:0,0' is no label:red,green,blue::"),
        (OWN_COLOURS + "dog:0,0,256::\n", b"", "line 5: 'dog:0,0,256::' is no label"),
        ("\n# nothing\n", b"", "labelmap.txt names no label"),
        (OWN_COLOURS, in_colours(A.T, *[(0, 0, 0)] * 3), "a.png is 30x40, but the photograph"),
        (OWN_COLOURS, in_colours(A, *[(0, 0, 0)] * 3)[:60], "a.png is damaged"),
    ],
)
def test_what_is_wrong_in_a_zip_is_named(index, tmp_path, labelmap, content, said):
    with pytest.raises(InputError) as refused:
        corrected_masks(task(tmp_path / "t.zip", labelmap, {"a": content}), index).read(
            index.record("a")
        )
    assert said in str(refused.value) and "t.zip" in str(refused.value)


# --- palette PNGs -------------------------------------------------------------------------------


def test_pngs_have_the_values_of_the_masks_of_the_data_set(index, tmp_path):
    """As ground truth has them: other values than class ids where only some classes are learnt."""
    index = DatasetIndex(index.root, CLASSES, (3, 8, 15), index.records, other_values=(1,))
    folder = tmp_path / "corrected"
    values = np.array([0, 3, 8, 15, 255, 1], np.uint8)
    label = A.copy()
    label[0], label[1] = 4, 5
    write_palette_png(folder / "a.png", values[label])
    write_palette_png(folder / "later.PNG", values[label])
    (folder / "a_overlay.jpg").write_bytes(b"as in results/photos/masks, passed over")
    masks = corrected_masks(str(folder), index)
    assert list(masks.names) == ["a"] and masks.elsewhere == ["later"]
    expected = np.where(label >= 4, 255, A)
    np.testing.assert_array_equal(masks.read(index.record("a")), expected)
    write_palette_png(folder / "a.png", A)
    with pytest.raises(InputError, match=r"a\.png has the value 2"):
        masks.read(index.record("a"))


def given(index, folder, *names):
    for name in names:
        write_palette_png(folder / f"{name}.png", A)
    return corrected_masks(str(folder), index)


def named(index, **split_by_id):
    """The index with other images; values are their splits."""
    records = [
        replace(index.records[0], image_id=name, split=split, image=f"photos/{name}.jpg")
        for name, split in split_by_id.items()
    ]
    return replace(index, records=tuple(records))


def test_masks_that_are_called_otherwise_are_strangers(index, tmp_path):
    masks = given(index, tmp_path / "given", "a", "cat 1", "emptyy")
    assert list(masks.names) == ["a"] and masks.strangers == ["cat 1", "emptyy"]
    assert masks.nearest == "cat 1, emptyy (there is empty.jpg)" and masks.near == ""


def test_nearly_the_name_of_one_image_alone_will_do(index, tmp_path):
    """As for rows of the table: case, Unicode form, extension and leading zeros do not count."""
    index = named(index, **{"IMG_007": "train", "Kühe": "train", "b": "train", "c": "val"})
    masks = given(index, tmp_path / "given", "img_7", "Ku\u0308he", "b.jpg", "C")
    assert masks.names == {"IMG_007": "img_7", "Kühe": "Ku\u0308he", "b": "b.jpg"}
    assert masks.elsewhere == ["c"] and not masks.strangers
    assert "img_7 is IMG_007.jpg" in masks.near and "C is c.jpg" in masks.near
    assert "b.jpg is" not in masks.near  # the name of the photograph itself
    np.testing.assert_array_equal(masks.read(index.record("IMG_007")), A)


def test_names_that_are_near_to_several_or_have_an_exact_rival_are_strangers(index, tmp_path):
    index = named(index, **{"01": "train", "001": "train", "b": "train"})
    masks = given(index, tmp_path / "given", "1", "b", "B")
    assert masks.names == {"b": "b"} and masks.strangers == ["1", "B"]
    assert "1 (there is 01.jpg, 001.jpg)" in masks.nearest


def test_a_date_before_a_name_is_no_prefix_of_label_studio(index, tmp_path):
    index = named(index, **{"20240131-Cat 01": "train", "b": "train"})
    masks = given(index, tmp_path / "given", "20240131-cat 1", "5bc1f3a2-B")
    assert masks.names == {"20240131-Cat 01": "20240131-cat 1", "b": "5bc1f3a2-B"}


def test_a_mask_of_what_is_only_predicted_never_passes_for_another(index, tmp_path):
    """A run does not know these images, and would find but one that is near."""
    index = named(index, **{"a": "train", "001": "train", "1": "test", "02": "test"})
    with pytest.raises(InputError, match=r"a mask 1, .* for one of 001, though there is 1\.jpg"):
        given(index, tmp_path / "given", "a", "1")
    masks = given(index, tmp_path / "given", "001", "2")
    assert set(masks.names) == {"a", "001"} and masks.elsewhere == ["1", "02"]


# --- what is refused ----------------------------------------------------------------------------


def test_what_is_no_source_of_masks_is_refused(index, tmp_path):
    for name, content in (("x.json", "{"), ("x.zip", "no zip"), ("x.txt", "")):
        (tmp_path / name).write_text(content)
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as archive:
        archive.writestr("annotations/instances_default.json", "{}")
    (tmp_path / "empty").mkdir()
    write_palette_png(tmp_path / "others/c.png", A)
    for name, said in {
        "gone": "pseudo_labels.corrected: .*gone does not exist",
        "x.json": "is not readable JSON",
        "x.zip": "x.zip cannot be read as CVAT's segmentation mask 1.1",
        "coco.zip": "coco.zip cannot be read as CVAT's .* it has labelmap.txt",
        "x.txt": "x.txt is no folder of PNGs",
        "empty": "empty has a mask of none of the training images .it is empty.",
        "others": "others has a mask of none of the training images .c.",
    }.items():
        with pytest.raises(InputError, match=said):
            corrected_masks(str(tmp_path / name), index)


def test_coco_files_that_do_not_fit_are_refused_by_name(index, tmp_path):
    cat, here = [(0, "cat"), (1, "dgo")], [(0, 0, square(1, 1, 3), 0)]
    path = coco_file(tmp_path / "x.json", [(0, "a.jpg")], cat, [*here, (0, 1, square(5, 5, 3), 0)])
    with pytest.raises(InputError, match=r"x\.json: the category 'dgo' is no class of"):
        corrected_masks(str(path), index)
    images = [(0, "a.jpg"), (1, "0123abcd-a.jpg")]
    path = coco_file(tmp_path / "x.json", images, cat, [*here, (1, 0, square(1, 1, 3), 0)])
    with pytest.raises(InputError, match=r"two masks of a \(a, 0123abcd-a\): keep one"):
        corrected_masks(str(path), index)
    path = coco_file(tmp_path / "x.json", [(0, "a.jpg")], cat, here)
    turned = replace(index.records[0], width=HEIGHT, height=WIDTH)
    with pytest.raises(InputError, match=r"image a is 40x30, but the photograph.* 30x40"):
        corrected_masks(str(path), index).read(turned)
    path = coco_file(tmp_path / "x.json", [(0, "a.jpg")], cat, [(0, 0, [[1, 2, "x"]], 0)])
    with pytest.raises(InputError, match=r"x\.json, annotation 0: a polygon is no list"):
        corrected_masks(str(path), index).read(index.record("a"))


def test_masks_count_by_content_wherever_they_lie(tmp_path):
    write_palette_png(tmp_path / "given/a.png", A)
    before = digest_of_masks(str(tmp_path / "given"))
    shutil.copytree(tmp_path / "given", tmp_path / "copy")
    (tmp_path / "copy/notes.txt").write_text("no mask")
    assert digest_of_masks(str(tmp_path / "copy")) == before
    write_palette_png(tmp_path / "copy/a.png", B)
    assert digest_of_masks(str(tmp_path / "copy")) != before
    (tmp_path / "given/a.png").rename(tmp_path / "given/b.png")
    assert digest_of_masks(str(tmp_path / "given")) != before
