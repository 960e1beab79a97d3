"""Tables of scores: per class and mean, and the summary over stages and seeds. In percent."""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from wsss.datasets.index import ImageRecord
from wsss.errors import InputError, reason_of
from wsss.method.metrics import ConfusionMatrix
from wsss.storage.files import atomic_path

MEAN = "mean"
SCORES = ("iou", "precision", "recall")


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
