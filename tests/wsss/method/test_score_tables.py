"""Tables of boundaries, images and sizes: by hand, and the same however images are spread."""

import csv
import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from label_pairs import boundary, masks, objects_by_hand, pair
from sklearn.metrics import confusion_matrix, jaccard_score
from torch.nn import functional as F

from workflow_scripts import compare_runs, evaluate_pseudo_labels, evaluate_segmentation
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.method.evaluation import image_table, size_table, with_boundary_iou, write_table
from wsss.method.overlaps import read_overlaps
from wsss.method.scores import Scores, score_image
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import write_palette_png

CLASSES = ("cat", "dog", "cow")
WHO = {"variant": "auxsegnet", "seed": 0, "stage": 1}
KINDS = ["unrefined", "refined", "merged", "crf"]
GRID = (8, 11)  # of the probabilities of an image of 61x83 pixels


def cells(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- tables


def test_a_column_of_boundaries_stands_behind_recall():
    columns = ["class_id", "class", "iou", "precision", "recall", "images"]
    table = pd.DataFrame([[0, "background", 1, 2, 3, 4]] * 4, columns=columns)
    table = with_boundary_iou(table, np.array([[1, 3, 0], [4, 4, 0]]))
    assert list(table.columns) == [*columns[:5], "boundary_iou", "images"]
    assert table["boundary_iou"].tolist()[:2] == [25, 75]
    assert math.isnan(table["boundary_iou"][2]) and table["boundary_iou"][3] == 50


def test_sizes_by_hand(tmp_path):
    """The mean is over the classes that have objects of that size, not over objects."""
    objects = {(1, "small"): [0.2, 0.4, 0.9], (1, "large"): [1.0], (3, "small"): [0.0]}
    write_table(tmp_path / "sizes.csv", size_table(objects, CLASSES))
    rows = {(row["class"], row["size"]): row for row in cells(tmp_path / "sizes.csv")}
    sizes = ["small", "medium", "large", "all"]
    assert list(rows) == [(name, size) for name in (*CLASSES, "mean") for size in sizes]
    found = {key: (row["instances"], row["iou"]) for key, row in rows.items()}
    assert [found["cat", size] for size in sizes] == [
        *(("3", "50.00"), ("0", ""), ("1", "100.00"), ("4", "62.50"))
    ]
    assert {found["dog", size] for size in sizes} == {("0", "")}
    assert [found["mean", size] for size in sizes] == [
        *(("4", "25.00"), ("0", ""), ("1", "100.00"), ("5", "31.25"))
    ]
    assert {row["instances_are"] for row in rows.values()} == {"connected components"}
    assert {row["class_id"] for row in rows.values()} == {"1", "2", "3", ""}


def test_without_masks_the_tables_are_empty(tmp_path):
    scores = Scores(len(CLASSES))
    write_table(tmp_path / "images.csv", image_table(scores.images))
    assert (tmp_path / "images.csv").read_text() == "image_id,iou\n"
    assert size_table(scores.objects, CLASSES)["iou"].isna().all()


def test_an_image_without_known_pixels_has_an_empty_cell(tmp_path):
    scores = Scores(1)
    unknown = np.full((9, 9), 255, np.uint8)
    scores.add("a", score_image(np.zeros_like(unknown), unknown, 1))
    write_table(tmp_path / "images.csv", image_table(scores.images))
    assert cells(tmp_path / "images.csv") == [{"image_id": "a", "iou": ""}]


# --- the commands


@dataclass
class Run:
    """Images of train and val with their masks, pseudo labels and predictions, by image id."""

    folder: object
    index: DatasetIndex
    truths: dict
    maps: dict

    def artifacts(self, kind, split, record, shards):
        """Files of one kind, the images spread over them; `record` gives array and attributes."""
        who = WHO | {"dataset": "data", "index_digest": self.index.digest}
        who |= {"classes": list(CLASSES), "split": split}
        stage = self.folder / "data/auxsegnet/seed0/stage1"
        paths = [stage / kind / split / f"shard{k}of{shards}.h5" for k in range(shards)]
        for shard, path in enumerate(paths):
            ids = [r.image_id for r in self.index.shard(split, shard, shards)]
            about = {"identity": who, "parameters": {}, "sources": {}, "expected": ids}
            with ArtifactWriter(path, kind, **about) as writer:
                for image_id in ids:
                    array, attributes = record(image_id)
                    writer.write(image_id, array, **attributes)
        return paths

    def predictions(self, image_id):
        maps = self.maps[image_id]
        arrays = {kind: maps[kind] for kind in ("unrefined", "refined", "probabilities")}
        return arrays, {"keys": [0, 1, 2, 3], "size": list(self.truths[image_id].shape)}

    def crf(self, image_id):
        return self.maps[image_id]["crf"], sure(image_id)

    def pseudo_labels(self, image_id):
        label = self.maps[image_id]["crf"]
        return {"segmentation": label, "saliency": label}, {}


def sure(image_id):
    """How sure the label map of an image is, said at random."""
    confidence, uncertain = np.random.default_rng(sum(map(ord, image_id))).random(2)
    return {"confidence": confidence, "uncertain": uncertain}


def made(folder, names="abcdef"):
    """A run; the masks and maps of an image depend on its name alone."""
    truths, maps, records = {}, {}, []
    for split, name in [(split, f"{split}_{name}") for split in ("train", "val") for name in names]:
        seed = sum(map(ord, name))
        truths[name], crf = pair(seed)
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.ones(4) / 2, GRID).transpose(2, 0, 1).astype(np.float16)
        single = {kind: np.roll(crf, i, 0) for i, kind in enumerate(("unrefined", "refined"), 1)}
        single = {kind: np.where(label == 255, 0, label) for kind, label in single.items()}
        maps[name] = single | {"probabilities": probabilities, "crf": crf}
        write_palette_png(folder / "masks" / f"{name}.png", truths[name])
        size = truths[name].shape[::-1]
        mask = f"masks/{name}.png"
        records.append(ImageRecord(name, split, True, "x.jpg", mask, *size, ("cat",)))
    index = DatasetIndex(folder, CLASSES, (1, 2, 3), tuple(records))
    write_dataset(index, folder / "data")
    return Run(folder, index, truths, maps)


def evaluated(run, command, threads=1, ignored="miss", **artifacts):
    """The tables of a command, as they are written."""
    names = ("output", "images", "sizes", "overlaps", "confusion")
    files = {name: run.folder / f"{name}.csv" for name in names}
    words = ["--data", run.folder / "data", "--threads", threads]
    words += ["--settings", json.dumps({"ignore_prediction": ignored})]
    for name, value in {**WHO, **files}.items():
        words += [f"--{name}", value]
    for name, paths in artifacts.items():
        words += [f"--{name.replace('_', '-')}", *paths]
    command.main([str(word) for word in words])
    return {name: path.read_text() for name, path in files.items()}


def segmentation_scores(run, shards=1, backwards=False, **options):
    order = -1 if backwards else 1
    return evaluated(
        run,
        evaluate_segmentation,
        uncertainty=[run.folder / "uncertainty.csv"],
        predictions=run.artifacts("predictions", "val", run.predictions, shards)[::order],
        predictions_crf=run.artifacts("predictions_crf", "val", run.crf, shards)[::order],
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("run"))


def label_maps(run, kind):
    """Ground truth and label map of every image of val."""
    for name, truth in run.truths.items():
        if name.startswith("val"):
            probabilities = torch.from_numpy(run.maps[name]["probabilities"]).float()[None]
            larger = F.interpolate(probabilities, truth.shape, mode="bilinear")[0]
            merged = larger.argmax(dim=0).numpy().astype(np.uint8)
            yield name, truth, merged if kind == "merged" else run.maps[name][kind]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_run_equal_independent_ones(run, kind):
    segmentation_scores(run)
    table, images, sizes = (
        [row for row in cells(run.folder / f"{name}.csv") if row["prediction"] == kind]
        for name in ("output", "images", "sizes")
    )
    overlaps, objects = np.zeros((4, 2)), []
    for row, (name, truth, label) in zip(images, label_maps(run, kind), strict=True):
        known = truth != 255
        present = set(np.unique(truth[known])) | set(np.unique(label[known])) - {255}
        labels = sorted(present)  # without 255, which only misses
        expected = jaccard_score(truth[known], label[known], average="macro", labels=labels)
        assert row == {"prediction": kind, "image_id": name, "iou": f"{100 * expected:.2f}"}
        for class_id in range(4):
            p, t = (boundary(m, 2) for m in masks(truth, label, class_id, "miss"))
            overlaps[class_id] += (p & t).sum(), (p | t).sum()
        objects += objects_by_hand(truth, label, "miss")
    expected = 100 * overlaps[:, 0] / overlaps[:, 1]
    found = [row["boundary_iou"] for row in table]
    assert found == [f"{iou:.2f}" for iou in (*expected, expected.mean())]
    ious = [[iou for c, _, iou in objects if c == class_id] for class_id in (1, 2, 3)]
    of_all = [row for row in sizes if row["size"] == "all"]
    assert [int(row["instances"]) for row in of_all] == [*map(len, ious), len(objects)]
    means = [100 * np.mean(of_class) for of_class in ious]
    expected = [f"{iou:.2f}" for iou in (*means, np.mean(means))]
    assert [row["iou"] for row in of_all] == expected


def test_confusions_and_overlaps_equal_independent_ones(run):
    """scikit-learn's confusion matrix, and the scores of single images."""
    segmentation_scores(run)
    pairs = list(label_maps(run, "crf"))
    truth, label = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (1, 2))
    ids = [0, 1, 2, 3, 255]
    expected = confusion_matrix(truth[truth != 255], label[truth != 255], labels=ids)
    found = np.zeros((5, 5), int)
    for row in cells(run.folder / "confusion.csv"):
        if row["prediction"] == "crf":
            names = {**dict(enumerate(("background", *CLASSES))), 255: "ignored"}
            true, predicted = int(row["truth_id"]), int(row["predicted_id"])
            assert (row["truth"], row["predicted"]) == (names[true], names[predicted])
            found[ids.index(true), ids.index(predicted)] = row["pixels"]
    np.testing.assert_array_equal(found, expected)
    (overlaps,) = read_overlaps([(run.folder / "overlaps.csv", "crf")], len(CLASSES))
    for overlap, (_, truth, label) in zip(overlaps, pairs, strict=True):
        by_class = [masks(truth, label, class_id, "miss") for class_id in range(4)]
        assert overlap[0].tolist() == [(p & t).sum() for p, t in by_class]
        assert overlap[1].tolist() == [(p | t).sum() for p, t in by_class]


def test_the_worth_of_the_order_is_that_of_the_images_table(run):
    """Without equal ones an order is a sort: here by pandas, and each beginning by itself."""
    segmentation_scores(run)
    images = pd.read_csv(run.folder / "images.csv").query("prediction == 'crf'")
    images = images.join(pd.DataFrame([sure(i) for i in images["image_id"]], index=images.index))
    rows = {row["order"]: row for row in cells(run.folder / "uncertainty.csv")}
    assert list(rows) == ["confidence", "uncertain"]
    for order, row in rows.items():
        most_certain_first = images.sort_values(order, ascending=order == "uncertain")
        ious = most_certain_first["iou"].to_numpy()
        assert int(row["images"]) == len(ious) == 6
        assert float(row["worst_tenth"]) == ious[-1] and row["rest"] == f"{ious[:-1].mean():.2f}"
        area = np.mean([100 - ious[:k].mean() for k in range(1, 7)])
        assert float(row["area"]) == pytest.approx(area, abs=0.011)
        assert float(row["area_random"]) == pytest.approx(100 - ious.mean(), abs=0.011)
        assert float(row["area_best"]) <= float(row["area"])


def test_label_maps_of_an_earlier_version_are_refused_before_a_table_is_written(tmp_path):
    run = made(tmp_path, "ab")
    run.crf = lambda image_id: (run.maps[image_id]["crf"], {})
    with pytest.raises(InputError, match=r"image val_a without 'confidence'.*remake it"):
        segmentation_scores(run)
    assert not list(tmp_path.glob("*.csv"))


def test_old_columns_stay_where_they_were(run):
    header = segmentation_scores(run)["output"].splitlines()[0].split(",")
    assert header[:6] == ["prediction", "class_id", "class", "iou", "precision", "recall"]
    assert header[6:] == ["boundary_iou", "images", "of", "ground_truth", "ignore_prediction"]
    kinds = list(dict.fromkeys(row["prediction"] for row in cells(run.folder / "output.csv")))
    assert kinds == KINDS


@pytest.mark.parametrize(("shards", "threads"), [(3, 1), (4, 2)])
def test_scores_do_not_depend_on_shards_and_processes(run, shards, threads):
    expected = segmentation_scores(run)
    assert segmentation_scores(run, shards, backwards=True, threads=threads) == expected


def test_scores_do_not_depend_on_the_order_of_images(run, tmp_path):
    expected = segmentation_scores(run)
    found = segmentation_scores(made(tmp_path, "fbdaec"))
    for name in ("output", "sizes", "confusion"):
        assert found[name] == expected[name]
    for name in ("images", "overlaps"):
        assert sorted(found[name].splitlines()) == sorted(expected[name].splitlines())


def test_runs_compare_as_they_were_scored(tmp_path):
    run = made(tmp_path, "abc")
    segmentation_scores(run, shards=2)
    means = [row for row in cells(tmp_path / "output.csv") if row["class_id"] == ""]
    names = [f"auxsegnet/stage1/{kind}" for kind in KINDS]
    words = [tmp_path / "data", "--runs", *names, "--seeds", 0, "--output", tmp_path / "table.csv"]
    compare_runs.main([str(word) for word in words])
    compared = [(row["run"], row["miou"]) for row in cells(tmp_path / "table.csv")]
    assert compared == [(n, row["iou"]) for n, row in zip(names, means, strict=True)]


@pytest.mark.parametrize("ignored", ["miss", "drop", "background"])
def test_pseudo_labels_have_the_same_tables(run, ignored):
    paths = run.artifacts("pseudo_labels", "train", run.pseudo_labels, 2)
    found = evaluated(run, evaluate_pseudo_labels, ignored=ignored, pseudo_labels=paths)
    scores = Scores(3, ignored)
    for name, truth in run.truths.items():
        if name.startswith("train"):
            scores.add(name, score_image(run.maps[name]["crf"], truth, 3, ignored))
    write_table(run.folder / "expected.csv", image_table(scores.images))
    assert found["images"] == (run.folder / "expected.csv").read_text()
    write_table(run.folder / "expected.csv", size_table(scores.objects, CLASSES))
    assert found["sizes"] == (run.folder / "expected.csv").read_text()
    ious = 100 * scores.boundary[0] / scores.boundary[1]
    rows = cells(run.folder / "output.csv")
    assert [row["boundary_iou"] for row in rows] == [f"{i:.2f}" for i in (*ious, ious.mean())]
    assert "prediction" not in rows[0]
