"""Tables of scores: per class and mean, and the summary over stages and seeds. In percent."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from model.labels import IGNORE
from wsss.datasets.index import ImageRecord
from wsss.errors import InputError, reason_of
from wsss.method.metrics import ConfusionMatrix, iou_of, mean_defined
from wsss.method.object_sizes import SIZES
from wsss.method.risk_coverage import order_scores
from wsss.method.scores import Scores
from wsss.method.uncertainty import Uncertainty
from wsss.storage.files import atomic_path

MEAN = "mean"
SCORES = ("iou", "precision", "recall")
ALL_SIZES = "all"
OVERLAP_COLUMNS = ("image_id", "class_id", "intersection", "union")
OBJECTS = "connected components"  # and no instance masks: what the sizes are of


def score_table(matrix: ConfusionMatrix, classes: Sequence[str]) -> pd.DataFrame:
    """What a confusion matrix says, a row a class and their mean.

    Args:
        matrix: of all images that are scored.
        classes: names of the object classes, without background.

    Returns:
        DataFrame: class_id, class, iou, precision, recall (percent), images (scored ones),
        ignore_prediction. Without any image the scores are NaN.
    """
    scores, means = matrix.scores(), matrix.means()
    rows = [
        {"class_id": i, "class": name, **{s: 100 * scores[s][i] for s in SCORES}}
        for i, name in enumerate(["background", *classes])
    ]
    rows.append({"class_id": None, "class": MEAN, **{s: 100 * means[s] for s in SCORES}})
    table = pd.DataFrame(rows).astype({"class_id": "Int64"})
    return table.assign(images=matrix.images, ignore_prediction=matrix.ignore_prediction)


def with_ground_truth(table: pd.DataFrame, scored: Sequence[ImageRecord], of: int) -> pd.DataFrame:
    """The table with columns on what it was scored against, behind that of `images`.

    Args:
        table: a `score_table`.
        scored: the records whose masks were compared.
        of: number of images in their split.

    Returns:
        DataFrame with `of`, and `ground_truth`: the folders of the masks as in the index.
    """
    folders = sorted({PurePosixPath(record.mask).parent.as_posix() for record in scored})
    place = table.columns.get_loc("images") + 1
    table = table.copy()
    table.insert(place, "of", of)
    table.insert(place + 1, "ground_truth", ";".join(folders))
    return table


def with_boundary_iou(table: pd.DataFrame, overlap: np.ndarray) -> pd.DataFrame:
    """The table with a column `boundary_iou`, in percent, behind that of `recall`.

    Args:
        table: a `score_table`.
        overlap: pixels (2, C + 1), the sum of `boundary_overlap` over the same images.
    """
    ious = iou_of(overlap)
    table = table.copy()
    table.insert(
        table.columns.get_loc("recall") + 1, "boundary_iou", 100 * np.r_[ious, mean_defined(ious)]
    )
    return table


def image_table(images: Mapping[str, float]) -> pd.DataFrame:
    """IoU of each image, by which images can be sorted and runs compared.

    Args:
        images: as in `Scores`.

    Returns:
        DataFrame: image_id, iou (percent; NaN where nothing of the ground truth is known).
    """
    ious = [100 * iou for iou in images.values()]
    return pd.DataFrame({"image_id": list(images), "iou": ious})


def size_table(
    objects: Mapping[tuple[int, str], Sequence[float]], classes: Sequence[str]
) -> pd.DataFrame:
    """IoU of objects by class and size, and the mean over classes: the IA-mIoU of `object_sizes`.

    Args:
        objects: as in `Scores`.
        classes: names of the object classes, without background.

    Returns:
        DataFrame: class_id, class, size (small, medium, large, all), instances, iou (percent; NaN
        without any), instances_are. A mean is over the classes that have objects of that size.
    """
    rows = [row for i, name in enumerate(classes, 1) for row in _sizes_of(objects, i, name)]
    table = pd.DataFrame(rows, columns=["class_id", "class", "size", "instances", "iou"])
    for size in (*SIZES, ALL_SIZES):
        of_size = table[table["size"] == size]
        mean = [None, MEAN, size, of_size["instances"].sum(), mean_defined(of_size["iou"])]
        rows.append(dict(zip(table.columns, mean, strict=True)))
    table = pd.DataFrame(rows).astype({"class_id": "Int64"})
    return table.assign(instances_are=OBJECTS)


def _sizes_of(objects, class_id, name):
    """The rows of a class."""
    by_size = {size: objects.get((class_id, size), ()) for size in SIZES}
    by_size[ALL_SIZES] = [iou for ious in by_size.values() for iou in ious]
    for size, ious in by_size.items():
        # A sum that is exact does not depend on the order.
        iou = 100 * math.fsum(ious) / len(ious) if ious else math.nan
        head = {"class_id": class_id, "class": name, "size": size}
        yield head | {"instances": len(ious), "iou": iou}


def order_table(images: Mapping[str, float], sure: Mapping[str, Uncertainty]) -> pd.DataFrame:
    """Whether those images score low that most need a look.

    Args:
        images: as in `Scores`; images of which nothing is known do not count.
        sure: the `Uncertainty` of each.

    Returns:
        DataFrame, a row for each order (by confidence, ascending; by uncertain, descending):
        order, images, and the `order_scores` in percent.
    """
    known = [image_id for image_id, iou in images.items() if not math.isnan(iou)]
    ious = np.array([images[image_id] for image_id in known])
    doubts = {
        "confidence": np.array([-sure[image_id].confidence for image_id in known]),
        "uncertain": np.array([sure[image_id].uncertain for image_id in known]),
    }
    rows = []
    for order, doubt in doubts.items():
        scores = {name: 100 * score for name, score in order_scores(ious, doubt).items()}
        rows.append({"order": order, "images": len(known)} | scores)
    return pd.DataFrame(rows)


def tables_of(
    scores: Scores, classes: Sequence[str], scored: Sequence[ImageRecord], of: int
) -> dict[str, pd.DataFrame]:
    """All tables of some label maps: `classes`, `images`, `sizes`, `overlaps`, `confusion`.

    Args:
        scores: of all images that are scored.
        classes: names of the object classes, without background.
        scored, of: as in `with_ground_truth`.
    """
    table = with_boundary_iou(score_table(scores.matrix, classes), scores.boundary)
    return {
        "classes": with_ground_truth(table, scored, of),
        "images": image_table(scores.images),
        "sizes": size_table(scores.objects, classes),
        "overlaps": overlap_table(scores.overlaps),
        "confusion": confusion_table(scores.matrix, classes),
    }


def confusion_table(matrix: ConfusionMatrix, classes: Sequence[str]) -> pd.DataFrame:
    """What is taken for what: a row for each pair of a true and a predicted class that occurs.

    Args:
        matrix: of all images that are scored.
        classes: names of the object classes, without background.

    Returns:
        DataFrame: truth, predicted (names), truth_id, predicted_id, pixels. A prediction of 255
        that only misses is `ignored` with the id 255.
    """
    counts = np.column_stack([matrix.matrix, matrix.missed])
    truth, predicted = np.nonzero(counts)
    names = np.array(["background", *classes, "ignored"])
    ids = np.append(np.arange(matrix.labels), IGNORE)
    return pd.DataFrame(
        {
            "truth": names[truth],
            "predicted": names[predicted],
            "truth_id": truth,
            "predicted_id": ids[predicted],
            "pixels": counts[truth, predicted],
        }
    )


def overlap_table(overlaps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A row for each image and class that is in its ground truth or its prediction.

    Args:
        overlaps: int64 (2, C + 1) by image id.

    Returns:
        DataFrame: image_id, class_id, intersection, union (pixels).
    """
    if not overlaps:
        return pd.DataFrame(columns=OVERLAP_COLUMNS)
    stacked = np.stack([*overlaps.values()])
    image, class_id = np.nonzero(stacked[:, 1])
    pixels = stacked[image, :, class_id].T
    values = (np.array([*overlaps], object)[image], class_id, *pixels)
    return pd.DataFrame(dict(zip(OVERLAP_COLUMNS, values, strict=True)))


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """CSV with two decimals; NaN is an empty cell."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.2f")


def read_table(path: str | Path, of: str = "pseudo labels") -> pd.DataFrame:
    """A table of `write_table`.

    Args:
        path: of the table.
        of: "pseudo labels", or "segmentation": those tables tell kinds of predictions apart.

    Raises:
        InputError: it is missing, damaged, or another table.
    """
    try:
        table = pd.read_csv(path)
        means = table[table["class_id"].isna()]
        table[[*SCORES, "images"]].astype(float)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)}); remake it") from error
    except (ValueError, LookupError) as error:
        raise InputError(f"{path}: no table of scores ({reason_of(error)}); remake it") from error
    if means.empty:
        raise InputError(f"{path}: a table of scores without a mean; remake it")
    if ("prediction" in table) != (of == "segmentation"):
        raise InputError(f"{path}: a table of scores, but not of {of}; give another file")
    if means.duplicated("prediction" if of == "segmentation" else "class_id").any():
        raise InputError(f"{path}: a table of scores with a mean twice; remake it")
    return table


def read_columns(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of `write_table` that has these columns; more may stand beside them.

    Raises:
        InputError: it is missing, damaged, or another table.
    """
    try:
        texts = {"image_id": str, "prediction": str}
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)}); remake it") from error
    except ValueError as error:
        raise InputError(f"{path}: no table of scores ({reason_of(error)}); remake it") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path}: a table without the column {missing[0]}; remake it")
    return table


def read_rows(path: str | Path, kind: str, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of one kind of prediction in a table of `evaluate_segmentation`.

    Raises:
        InputError: as `read_columns`, or it has other kinds only.
    """
    table = read_columns(path, ["prediction", *columns])
    rows = table[table["prediction"] == kind].drop(columns="prediction")
    if rows.empty and not table.empty:
        raise InputError(f"{path}: has no prediction {kind}; remake it")
    return rows


SUMMARY_COLUMNS = (
    "pseudo_precision",
    "pseudo_recall",
    "pseudo_miou",
    "val_miou_unrefined",
    "val_miou_refined",
    "val_miou_crf",
)


def stage_scores(pseudo_labels: pd.DataFrame, segmentation: pd.DataFrame) -> dict[str, float]:
    """The summary's columns of one run and stage, from its two evaluation tables."""
    # The row of the mean is the one without a class id: a class may be named "mean".
    pseudo = pseudo_labels[pseudo_labels["class_id"].isna()].iloc[0]
    means = segmentation[segmentation["class_id"].isna()].set_index("prediction")["iou"]
    return {
        "pseudo_precision": pseudo["precision"],
        "pseudo_recall": pseudo["recall"],
        "pseudo_miou": pseudo["iou"],
        **{f"val_miou_{kind}": means.get(kind) for kind in ("unrefined", "refined", "crf")},
    }


def summarise(runs: dict[int, list[dict[str, float]]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds.

    Args:
        runs: stage -> list of `stage_scores`, one a seed.

    Returns:
        DataFrame, a row a stage: the mean of each column and, beside it, `_std` (ddof 1; empty
        for one run), and the number of runs.
    """
    rows = []
    for stage in sorted(runs):
        table = pd.DataFrame(runs[stage], columns=SUMMARY_COLUMNS).astype(float)
        row = {"stage": stage}
        for column in SUMMARY_COLUMNS:
            row[column] = table[column].mean()
            row[f"{column}_std"] = table[column].std(ddof=1) if len(table) > 1 else math.nan
        rows.append(row | {"runs": len(table)})
    return pd.DataFrame(rows)
