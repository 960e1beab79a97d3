"""Segmentation metrics from a streamed confusion matrix.

Rows are ground truth, columns predictions, both over background and C object classes; a last
column counts pixels that the prediction leaves unlabelled (255). Fractions throughout.
"""

import numpy as np

from model.labels import IGNORE
from wsss.errors import InputError

IGNORE_PREDICTION = ("miss", "drop", "background")


class ConfusionMatrix:
    """64-bit counters of (ground truth, prediction) pairs of pixels.

    Args:
        num_classes: C, object classes without background; the matrix is (C + 1) x (C + 1).
        ignore_prediction: what a prediction of 255 counts as. `miss`: an extra class that only
            misses (lowers recall and IoU, not precision; what the paper's figures fit); `drop`:
            the pixel is left out; `background`: class 0.
    """

    def __init__(self, num_classes: int, ignore_prediction: str = "miss"):
        if ignore_prediction not in IGNORE_PREDICTION:
            raise InputError(
                f"evaluation.ignore_prediction: {ignore_prediction!r} is none of"
                f" {', '.join(IGNORE_PREDICTION)}"
            )
        self.labels = num_classes + 1
        self.ignore_prediction = ignore_prediction
        self.images = 0
        self._counts = np.zeros((self.labels, self.labels + 1), dtype=np.int64)

    @classmethod
    def of_counts(
        cls, counts: np.ndarray, images: int, ignore_prediction: str
    ) -> "ConfusionMatrix":
        """What pixels of `images` images were counted elsewhere.

        Args:
            counts: int64 (C + 1, C + 2), ground truth by prediction; the last column is 255.
        """
        matrix = cls(len(counts) - 1, ignore_prediction)
        matrix._counts += counts
        matrix.images = images
        return matrix

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Add an image: predicted and true class of each pixel.

        Integer arrays of one shape with values 0..C and 255; a target of 255 does not count.

        Raises:
            InputError: shapes differ, values are no whole numbers, or one is out of range.
        """
        prediction, target = np.asarray(prediction), np.asarray(target)
        if prediction.shape != target.shape:
            raise InputError(f"prediction is {prediction.shape}, ground truth {target.shape}")
        if not all(np.issubdtype(array.dtype, np.integer) for array in (prediction, target)):
            raise InputError(
                f"prediction is {prediction.dtype}, ground truth {target.dtype}: give whole numbers"
            )
        known = target != IGNORE
        target = target[known].astype(np.int64)
        prediction = prediction[known].astype(np.int64)
        unlabelled = prediction == IGNORE
        self._check_range(target, "ground truth")
        self._check_range(prediction[~unlabelled], "prediction")
        prediction[unlabelled] = self.labels
        cells = target * (self.labels + 1) + prediction
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)
        self.images += 1

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Add the counters of another matrix, of other images say; returns self.

        Raises:
            ValueError: the other one has other classes or treats 255 otherwise.
        """
        mine, theirs = ((m.labels, m.ignore_prediction) for m in (self, other))
        if mine != theirs:
            raise ValueError(f"confusion matrices of {mine} and {theirs} do not add up")
        self._counts += other._counts
        self.images += other.images
        return self

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """A new matrix with the counters of both."""
        return ConfusionMatrix(self.labels - 1, self.ignore_prediction).merge(self).merge(other)

    def _check_range(self, values, name):
        wrong = values[(values < 0) | (values >= self.labels)]
        if wrong.size:
            raise InputError(
                f"{name} holds class {wrong[0]}, but there are only {self.labels} "
                "with background; do class list and masks belong together?"
            )

    @property
    def matrix(self) -> np.ndarray:
        """(C + 1) x (C + 1) int64 counters, unlabelled predictions dealt with."""
        matrix = self._counts[:, :-1].copy()
        if self.ignore_prediction == "background":
            matrix[:, 0] += self._counts[:, -1]
        return matrix

    @property
    def missed(self) -> np.ndarray:
        """Per class, ground-truth pixels that only miss (unlabelled predictions)."""
        return (
            self._counts[:, -1]
            if self.ignore_prediction == "miss"
            else np.zeros(self.labels, np.int64)
        )

    def overlap(self) -> np.ndarray:
        """Intersection and union per class in pixels, int64 (2, C + 1); both add up over images."""
        hits = np.diag(self.matrix)
        return np.stack([hits, self._present() + self.matrix.sum(axis=0) - hits])

    def iou(self) -> np.ndarray:
        """Intersection over union per class, float64 (C + 1,); 0/0 is NaN, as in all scores."""
        return iou_of(self.overlap())

    def precision(self) -> np.ndarray:
        """Per class, the share of its predicted pixels that are right; float64 (C + 1,)."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(axis=0))

    def recall(self) -> np.ndarray:
        """Per class, the share of its true pixels that are found; float64 (C + 1,)."""
        return _ratio(np.diag(self.matrix), self._present())

    def _present(self):
        return self.matrix.sum(axis=1) + self.missed

    def scores(self) -> dict[str, np.ndarray]:
        """`iou`, `precision` and `recall` by name."""
        return {"iou": self.iou(), "precision": self.precision(), "recall": self.recall()}

    def means(self) -> dict[str, float]:
        """Mean of each score over the classes where it is defined (NaN where it never is)."""
        return {name: mean_defined(values) for name, values in self.scores().items()}


def comparable(
    prediction: np.ndarray, truth: np.ndarray, ignore_prediction: str
) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and ground truth as masks of them are to be compared.

    Args:
        prediction, truth: uint8 (H, W), classes and 255, as in `ConfusionMatrix.update`.
        ignore_prediction: as in `ConfusionMatrix`, whose IoU these masks have.

    Returns:
        uint8 (H, W) each, with 255 where a pixel belongs to no mask: in the ground truth where it
        does not count, in the prediction there and where it only misses.
    """
    if ignore_prediction == "background":
        prediction = np.where(prediction == IGNORE, 0, prediction)
    if ignore_prediction == "drop":
        truth = np.where(prediction == IGNORE, IGNORE, truth)
    return np.where(truth == IGNORE, IGNORE, prediction), truth


def iou_of(overlap: np.ndarray) -> np.ndarray:
    """Intersection over union as PASCAL VOC defines it (Everingham et al., IJCV 2010).

    Args:
        overlap: pixels (..., 2, C + 1), a `ConfusionMatrix.overlap` or sums of several.

    Returns:
        float64 (..., C + 1), NaN for a class that is neither there nor predicted.
    """
    return _ratio(overlap[..., 0, :], overlap[..., 1, :])


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_defined(values: np.ndarray) -> float:
    """Mean over what is not NaN; NaN when there is nothing."""
    values = np.asarray(values, dtype=float)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
