"""Pseudo labels of all pairs of thresholds at once, and their scores.

Of a pixel `fuse` compares two numbers with thresholds, its largest CAM and its saliency. So it is
enough to count, for each true class and class of the largest CAM, how many thresholds the two
exceed: the confusion matrix of a pair is then a sum over a corner of that table.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from model.labels import IGNORE
from wsss.method.metrics import ConfusionMatrix


class ThresholdSweep:
    """Counters of pixels for pairs of thresholds.

    Args:
        num_classes: C, object classes without background.
        cam_thresholds, saliency_thresholds: in any order; equal ones count once.
    """

    def __init__(
        self,
        num_classes: int,
        cam_thresholds: Sequence[float],
        saliency_thresholds: Sequence[float],
    ):
        self.labels = num_classes + 1
        self.cam_thresholds = sorted(set(cam_thresholds))
        self.saliency_thresholds = sorted(set(saliency_thresholds))
        steps = len(self.cam_thresholds) + 1, len(self.saliency_thresholds) + 1
        # By true class, class of the largest CAM, and thresholds that CAM and saliency exceed.
        self._counts = np.zeros((self.labels, self.labels, *steps), np.int64)
        self.images = 0

    def cells(
        self, cams: np.ndarray, keys: Sequence[int], saliency: np.ndarray, truth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where an image counts, and with how many pixels; for `add`.

        Args:
            cams, keys, saliency: as in `fuse`.
            truth: uint8 (H, W), ground truth; 255 does not count.
        """
        known = truth != IGNORE
        winner, largest = np.zeros((2, known.sum()), np.float32)
        if len(keys):
            of_known = cams[:, known]
            winner = np.asarray(keys)[of_known.argmax(axis=0)] + 1
            largest = of_known.max(axis=0)
        place = (
            truth[known].astype(np.intp),
            winner.astype(np.intp),
            exceeded(self.cam_thresholds, largest),
            exceeded(self.saliency_thresholds, saliency[known]),
        )
        pixels = np.bincount(np.ravel_multi_index(place, self._counts.shape))
        cells = np.flatnonzero(pixels)
        return cells, pixels[cells]

    def add(self, cells: np.ndarray, pixels: np.ndarray) -> None:
        """Count an image in."""
        self._counts.reshape(-1)[cells] += pixels
        self.images += 1

    def matrices(
        self, ignore_prediction: str = "miss"
    ) -> Iterator[tuple[float, float, ConfusionMatrix]]:
        """CAM threshold, saliency threshold and confusion matrix of `fuse`, for each pair."""
        up_to = self._counts.cumsum(axis=2).cumsum(axis=3)
        above = np.flip(np.flip(self._counts, (2, 3)).cumsum(axis=2).cumsum(axis=3), (2, 3))
        neither, total = up_to.sum(axis=1), self._counts.sum(axis=(1, 2, 3))
        for i, cam_threshold in enumerate(self.cam_thresholds):
            for j, saliency_threshold in enumerate(self.saliency_thresholds):
                counts = np.zeros((self.labels, self.labels + 1), np.int64)
                counts[:, :-1] = above[:, :, i + 1, j + 1]
                counts[:, 0] += neither[:, i, j]
                counts[:, -1] = total - counts.sum(axis=1)
                matrix = ConfusionMatrix.of_counts(counts, self.images, ignore_prediction)
                yield cam_threshold, saliency_threshold, matrix


def exceeded(thresholds: Sequence[float], values: np.ndarray) -> np.ndarray:
    """How many thresholds, ascending, each value exceeds; strictly and in float32, as in `fuse`."""
    return np.searchsorted(np.asarray(thresholds, np.float32), np.asarray(values, np.float32))


def sweep_table(sweep: ThresholdSweep, ignore_prediction: str = "miss") -> pd.DataFrame:
    """Scores of the pseudo labels of each pair of thresholds, all images together.

    Returns:
        DataFrame: cam_threshold, saliency_threshold (as text, in full), precision, recall, iou
        (percent, means over classes), images, ignore_prediction, tuned_on. Who chooses the best
        row has used the masks, which image-level supervision has not.
    """
    rows = []
    for cam, saliency, matrix in sweep.matrices(ignore_prediction):
        pair = {"cam_threshold": f"{cam:g}", "saliency_threshold": f"{saliency:g}"}
        means = matrix.means()
        rows.append(pair | {name: 100 * means[name] for name in ("precision", "recall", "iou")})
    return pd.DataFrame(rows).assign(
        images=sweep.images, ignore_prediction=ignore_prediction, tuned_on="ground truth"
    )
