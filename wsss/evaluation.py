"""Tables of scores: per class and mean, and the summary over stages and seeds. In percent."""

import math
from pathlib import PurePosixPath

import pandas as pd

from wsss.errors import InputError
from wsss.files import atomic_path
from wsss.metrics import ConfusionMatrix

MEAN = "mean"
SCORES = ("iou", "precision", "recall")


def score(pairs, classes, ignore_prediction):
    """Scores of (ground truth, prediction) pairs as a table, a row a class and their mean.

    Args:
        pairs: iterable of two uint8 label maps.
        classes: names of the object classes, without background.
        ignore_prediction: see `ConfusionMatrix`.

    Returns:
        DataFrame: class_id, class, iou, precision, recall (percent), images (scored ones),
        ignore_prediction. Without any pair the scores are NaN.
    """
    matrix, images = ConfusionMatrix(len(classes), ignore_prediction), 0
    for truth, prediction in pairs:
        matrix.update(prediction, truth)
        images += 1
    names = ["background", *classes]
    scores, means = matrix.scores(), matrix.means()
    rows = [
        {"class_id": i, "class": name, **{s: 100 * scores[s][i] for s in SCORES}}
        for i, name in enumerate(names)
    ]
    rows.append({"class_id": None, "class": MEAN, **{s: 100 * means[s] for s in SCORES}})
    table = pd.DataFrame(rows).astype({"class_id": "Int64"})
    return table.assign(images=images, ignore_prediction=ignore_prediction)


def with_ground_truth(table, scored, of):
    """The table with columns on what it was scored against, behind that of `images`.

    Args:
        table: a table of `score`.
        scored: the records whose masks were compared.
        of: number of images in their split.

    Returns:
        DataFrame with `of`, and `ground_truth`: the folders of the masks as in the index.
    """
    folders = sorted({PurePosixPath(record.mask).parent.as_posix() for record in scored})
    place = table.columns.get_loc("images") + 1
    made = table.copy()
    made.insert(place, "of", of)
    made.insert(place + 1, "ground_truth", ";".join(folders))
    return made


def write_table(path, table):
    """CSV with two decimals; NaN is an empty cell."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.2f")


def read_table(path, of="pseudo labels"):
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
        raise InputError(f"{path}: cannot be read ({error.strerror}); remake it") from error
    except (ValueError, LookupError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: no table of scores ({reason}); remake it") from error
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


def stage_scores(pseudo_labels, segmentation):
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


def summarise(runs):
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
