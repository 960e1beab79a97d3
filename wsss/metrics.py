"""Segmentation metrics from a streamed confusion matrix.

Rows are ground truth, columns predictions, both over background and C object classes; a last
column counts pixels that the prediction leaves unlabelled (255). Fractions throughout.
"""

import numpy as np

from wsss.errors import InputError

IGNORE = 255
UNLABELLED = ("miss", "drop", "background")


class ConfusionMatrix:
    """64-bit counters of (ground truth, prediction) pairs of pixels.

    Args:
        num_classes: C, object classes without background; the matrix is (C + 1) x (C + 1).
        unlabelled: what a prediction of 255 counts as. `miss`: an extra class that only misses
            (lowers recall and IoU, not precision; what the paper's figures fit); `drop`: the
            pixel is left out; `background`: class 0.
    """

    def __init__(self, num_classes, unlabelled="miss"):
        if unlabelled not in UNLABELLED:
            raise InputError(f"evaluation.unlabelled: {unlabelled!r} is none of {UNLABELLED}")
        self.labels = num_classes + 1
        self.unlabelled = unlabelled
        self._counts = np.zeros((self.labels, self.labels + 1), dtype=np.int64)

    def update(self, truth, prediction):
        """Add an image; integer arrays of one shape with values 0..C and 255.

        Raises:
            InputError: shapes differ or a value is out of range.
        """
        if truth.shape != prediction.shape:
            raise InputError(f"ground truth is {truth.shape}, prediction {prediction.shape}")
        known = truth != IGNORE
        truth = truth[known].astype(np.int64)
        prediction = prediction[known].astype(np.int64)
        unlabelled = prediction == IGNORE
        self._check_range(truth, "ground truth")
        self._check_range(prediction[~unlabelled], "prediction")
        prediction[unlabelled] = self.labels
        cells = truth * (self.labels + 1) + prediction
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)

    def _check_range(self, values, name):
        wrong = values[(values < 0) | (values >= self.labels)]
        if wrong.size:
            raise InputError(
                f"{name} holds class {wrong[0]}, but there are only {self.labels} "
                "with background; do class list and masks belong together?"
            )

    @property
    def matrix(self):
        """(C + 1) x (C + 1) int64 counters, unlabelled predictions dealt with."""
        matrix = self._counts[:, :-1].copy()
        if self.unlabelled == "background":
            matrix[:, 0] += self._counts[:, -1]
        return matrix

    @property
    def missed(self):
        """Per class, ground-truth pixels that only miss (unlabelled predictions)."""
        return self._counts[:, -1] if self.unlabelled == "miss" else np.zeros(self.labels, np.int64)

    def scores(self):
        """Per class `iou`, `precision`, `recall`; 0/0 is NaN."""
        hits = np.diag(self.matrix)
        predicted = self.matrix.sum(axis=0)
        present = self.matrix.sum(axis=1) + self.missed
        return {
            "iou": _ratio(hits, present + predicted - hits),
            "precision": _ratio(hits, predicted),
            "recall": _ratio(hits, present),
        }

    def means(self):
        """Mean of each score over the classes where it is defined (NaN where it never is)."""
        return {name: mean_defined(values) for name, values in self.scores().items()}


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def mean_defined(values):
    """Mean over what is not NaN; NaN when there is nothing."""
    values = np.asarray(values, dtype=float)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
