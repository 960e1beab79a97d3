"""Runs side by side: the mIoU of each, and its distance to the first one's.

Overlaps are those of `ConfusionMatrix`: per class, pixels of the intersection and of the union of
prediction and ground truth. They add up over images, so that a run is an array with one per image,
and any choice of images a weighted sum.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wsss.method.metrics import ConfusionMatrix, iou_of, mean_defined

RESAMPLES = 1000
DRAWN_FROM = 0  # the seed of the resamples: the same runs give the same table
INTERVAL = (0.025, 0.975)


def count(
    truths: Iterable[tuple[str, np.ndarray]],
    label_maps: dict[str, dict[int, Callable[[str], np.ndarray]]],
    num_classes: int,
) -> dict[str, dict[int, np.ndarray]]:
    """Overlaps of all runs with the ground truth, of which each mask is asked for once.

    Args:
        truths: N pairs of image id and mask, uint8 (H, W): class ids 0..C and 255 to ignore.
        label_maps: run -> seed -> what gives the label map of an image id, uint8 (H, W).
        num_classes: C, object classes without background.

    Returns:
        run -> seed -> overlap per image in pixels, int64 (N, 2, C + 1).

    Raises:
        InputError: a label map does not fit its mask, or holds a class that there is not.
    """
    counted = {run: {seed: [] for seed in seeds} for run, seeds in label_maps.items()}
    for image_id, truth in truths:
        for run, seeds in label_maps.items():
            for seed, label_map in seeds.items():
                matrix = ConfusionMatrix(num_classes)
                matrix.update(label_map(image_id), truth)
                counted[run][seed].append(matrix.overlap())
    return {
        run: {seed: np.stack(overlaps) for seed, overlaps in seeds.items()}
        for run, seeds in counted.items()
    }


def compare(runs: dict[str, dict[int, np.ndarray]]) -> pd.DataFrame:
    """The table of `count`'s runs, a row each; scores and differences in percent.

    Differences are to the first run, paired by the seeds that both have. Their interval is the
    percentile bootstrap's (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
    13) of the mean difference over images: how much hangs on the images that happened to be
    scored. What hangs on the seed of the training is `difference_std`.

    Args:
        runs: run -> seed -> overlap per image, (N, 2, C + 1), of the same images in one order.

    Returns:
        DataFrame: run, miou, miou_std (ddof 1), runs (number of seeds), difference,
        difference_std (ddof 1), pairs (number of seeds that both have), low, high (95 %). NaN
        where there are too few seeds.
    """
    (images,) = {len(overlaps) for seeds in runs.values() for overlaps in seeds.values()}
    weights = image_weights(images)
    scores = {
        run: pd.DataFrame({seed: miou(overlaps, weights) for seed, overlaps in seeds.items()})
        for run, seeds in runs.items()
    }
    first = next(iter(scores.values()))
    rows = [{"run": run} | _row(own, first) for run, own in scores.items()]
    return pd.DataFrame(rows)


def image_weights(images: int) -> np.ndarray:
    """How often each image counts, float64 (1 + RESAMPLES, images).

    Row 0 has each image once; the others are resamples with replacement, of as many images.
    """
    if not images:
        return np.ones((1 + RESAMPLES, 0))
    rng = np.random.default_rng(DRAWN_FROM)
    drawn = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES)
    return np.vstack([np.ones(images), drawn])


def miou(overlaps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean IoU of weighted images in percent, as `ConfusionMatrix.means` has it.

    Args:
        overlaps: overlap per image in pixels, int64 (N, 2, C + 1).
        weights: how often each image counts, float64 (R, N).

    Returns:
        float64 (R,).
    """
    return np.apply_along_axis(mean_defined, -1, class_ious(overlaps, weights))


def class_ious(overlaps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, float64 (R, C + 1); arguments as in `miou`."""
    # Exact in spite of floats, whose product is the fast one: no sum of pixels comes near 2^53.
    return 100 * iou_of(np.tensordot(weights, overlaps, axes=1))


@dataclass(frozen=True)
class Summary:
    """A score, or a difference of two, over seeds; NaN where there are too few.

    `std` has ddof 1. `low` and `high` are the 95 % interval over resampled images, of the mean.
    """

    mean: float
    std: float
    runs: int
    low: float
    high: float


def summary_of(scores: pd.DataFrame) -> Summary:
    """What scores are over seeds; a column a seed, and the rows of `image_weights`."""
    values, resampled = scores.iloc[0], scores.iloc[1:].mean(axis=1)
    low, high = resampled.quantile(INTERVAL)
    return Summary(values.mean(), values.std(ddof=1), int(values.notna().sum()), low, high)


def difference_of(scores: pd.DataFrame, first: pd.DataFrame) -> Summary:
    """`summary_of` the differences of the seeds that both have."""
    shared = scores.columns.intersection(first.columns)
    return summary_of(scores[shared] - first[shared])


def _row(scores, first):
    """Columns of a run, alone and against the first one."""
    own, difference = summary_of(scores), difference_of(scores, first)
    return {
        "miou": own.mean,
        "miou_std": own.std,
        "runs": own.runs,
        "difference": difference.mean,
        "difference_std": difference.std,
        "pairs": difference.runs,
        "low": difference.low,
        "high": difference.high,
    }
