"""Whether an order of images by doubt is worth something: risk and coverage.

Who trusts only the images of least doubt takes a risk, the mean of what is wrong with them. The
curve of that risk over the share that is trusted, and the area under it, are those of El-Yaniv and
Wiener (JMLR 2010) and Geifman and El-Yaniv (NeurIPS 2017). The risk of an image is 1 - IoU.
"""

import math

import numpy as np

WORST = 0.1  # the share of images that a person would look at first


def risk_curve(risks: np.ndarray, doubts: np.ndarray) -> np.ndarray:
    """Mean risk of the k images of least doubt, for k = 1..N.

    Args:
        risks: float (N,), of each image.
        doubts: float (N,), what orders them. Images of equal doubt have no order: the curve is
            the mean over all orders of them.

    Returns:
        float64 (N,).
    """
    return np.cumsum(_by_doubt(risks, doubts)) / np.arange(1, len(risks) + 1)


def order_scores(ious: np.ndarray, doubts: np.ndarray) -> dict[str, float]:
    """What an order is worth, as fractions; NaN where there is no image.

    Args:
        ious: float (N,), IoU of each image.
        doubts: as in `risk_curve`.

    Returns:
        `worst_tenth` and `rest`: mean IoU of the tenth (rounded up) of most doubt, and of the
        others. `area`: the mean of `risk_curve`, 1 - IoU being the risk; `area_random`: what a
        random order has in the mean, at any coverage the risk of all images; `area_best`: that of
        the order by IoU itself, below which there is none.
    """
    risks = 1 - np.asarray(ious, np.float64)
    ordered = 1 - _by_doubt(risks, doubts)
    trusted = len(ordered) - math.ceil(WORST * len(ordered))
    return {
        "worst_tenth": _mean(ordered[trusted:]),
        "rest": _mean(ordered[:trusted]),
        "area": _mean(risk_curve(risks, doubts)),
        "area_random": _mean(risks),
        "area_best": _mean(risk_curve(risks, risks)),
    }


def _by_doubt(risks, doubts):
    """Risks by ascending doubt, of which equal doubt has each time the mean."""
    _, group, sizes = np.unique(doubts, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(group, risks) / sizes, sizes)


def _mean(values):
    return float(values.mean()) if len(values) else math.nan
