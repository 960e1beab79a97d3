"""Data sets with little in them, through the whole workflow or refused before it starts."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from repository import ROOT
from tiny_run import TINY_RUN
from workspace import Workspace

from wsss.configuration.data_sections import Dataset
from wsss.datasets.formats import build_index
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader

RUN = "results/photos/auxsegnet/seed0"
CLASSES = ("box", "ball", "unicorn")
TINY = TINY_RUN | {"stages": 2}


def photographs(folder, labels):
    """A folder of photographs; `labels` has the class of each, the CSV a column per CLASSES."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = [",".join(["image_id", *CLASSES])]
    for number, text in enumerate(labels):
        image = random.integers(90, 130, (64, 96, 3), np.uint8)
        image[10:50, 20 + 3 * number : 60 + 3 * number] = (220, 40 * number % 256, 40)
        Image.fromarray(image).save(folder / f"images/photo{number}.png")
        rows.append(",".join([f"photo{number}", *(str(int(name == text)) for name in CLASSES)]))
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def workspace(tmp_path, labels, **changes):
    folder = photographs(tmp_path / "photographs", labels)
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(json.dumps(TINY | changes))
    overlays = [ROOT / "config/folder.yaml", overlay]
    return Workspace.create(tmp_path / "workspace", overlays, PHOTOS=str(folder))


def test_one_image_more_shards_than_images_and_classes_without_any(tmp_path):
    """One photograph in two shards, two stages; nobody has two of the three classes."""
    predicted = TINY["prediction"] | {"splits": ["train"]}
    made = workspace(tmp_path, ["box"], shards=2, prediction=predicted)
    said = made.make()
    assert "no training image holds ball, unicorn: it cannot be learnt" in said
    for pattern, kind in {
        "../../saliency/*/shard*.h5": "saliency",
        "stage1/cams/shard*.h5": "cams",
        "stage1/pseudo_labels/shard*.h5": "pseudo_labels",
        "stage1/predictions_crf/train/shard*.h5": "predictions_crf",
    }.items():
        paths = sorted((made.folder / RUN).glob(pattern))
        assert [len(ArtifactReader(path, kind).ids) for path in paths] == [1, 0]
    with open(made.folder / "results/photos/masks/masks.csv", newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == ["photo0"]
    assert made.counts() == {}


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([], None, "no .jpg"),
        (["", ""], None, "no photograph has a label"),
        (["box", "box"], ("unicorn",), "no training image holds a class"),
    ],
    ids=["no image", "no class in any image", "none of the chosen classes"],
)
def test_what_holds_nothing_to_learn_is_refused_at_the_index(tmp_path, labels, classes, message):
    folder = photographs(tmp_path / "photographs", labels)
    dataset = Dataset(name="photos", format="folder", root=str(folder), classes=classes)
    with pytest.raises(InputError, match=message) as error:
        build_index(dataset)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_command_says_so_too(tmp_path):
    made = workspace(tmp_path, [""])
    status, said = made.snakemake("--", "results/photos/index.csv")
    assert status != 0 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "labels.csv" in line
