"""Dense conditional random fields (Krähenbühl and Koltun, 2011) over whole images."""

import numpy as np

from wsss.configuration.sections import SALIENCY_CRF, SEGMENTATION_CRF, Crf


def dense_crf(image: np.ndarray, unary: np.ndarray, crf: Crf) -> np.ndarray:
    """Marginals of a fully connected CRF after mean-field iterations.

    Args:
        image: uint8 RGB (H, W, 3), as it was read: never mean-subtracted.
        unary: float32 (L, H, W), negative log-probabilities of L labels.
        crf: iterations and the two pairwise terms, smoothness and appearance.

    Returns:
        float32 (L, H, W), summing to 1 over the labels.

    Raises:
        ValueError: the image is not uint8 RGB of the size of the unary.
    """
    # Here, so that GPU machines without pydensecrf can make the pseudo labels of stage 0.
    from pydensecrf import densecrf

    labels, height, width = unary.shape
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise ValueError(
            f"a CRF over maps of {height}x{width} needs a uint8 image of {(height, width, 3)}, not"
            f" {image.dtype} of {image.shape}"
        )
    field = densecrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1), dtype=np.float32))
    field.addPairwiseGaussian(sxy=crf.gaussian_sxy, compat=crf.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=crf.bilateral_sxy,
        srgb=crf.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=crf.bilateral_compat,
    )
    marginals = np.asarray(field.inference(crf.iterations), dtype=np.float32)
    return marginals.reshape(labels, height, width)


def saliency_unary(saliency: np.ndarray) -> np.ndarray:
    """Energies of background and foreground for a saliency map.

    As in the CRF of DSS (Hou et al., TPAMI 2019), on which the paper's CRF_d rests: the sigmoid
    in the denominator softens confident pixels.

    Args:
        saliency: (H, W), probability of the foreground; what rounding put beyond 0 or 1 is cut off.

    Returns:
        float32 (2, H, W).
    """
    saliency = np.clip(np.asarray(saliency, np.float32), 0.0, 1.0)
    probability = np.stack([1.0 - saliency, saliency])
    sigmoid = 1.0 / (1.0 + np.exp(-probability))
    return -np.log(probability + 1e-8) / (1.05 * sigmoid)


def refine_saliency(
    image: np.ndarray, probability: np.ndarray, crf: Crf = SALIENCY_CRF
) -> np.ndarray:
    """CRF_d of the paper's equation 1.

    Args:
        image: uint8 RGB (H, W, 3).
        probability: (H, W), probability of the foreground.
        crf: of `pseudo_labels.saliency_crf`.

    Returns:
        float32 (H, W), the soft marginal of the foreground.
    """
    return dense_crf(image, saliency_unary(probability), crf)[1]


def refine_segmentation(
    image: np.ndarray, probabilities: np.ndarray, crf: Crf = SEGMENTATION_CRF
) -> np.ndarray:
    """The test CRF, over all labels that are given.

    Args:
        image: uint8 RGB (H, W, 3).
        probabilities: (C + 1, H, W), of background and the object classes.
        crf: of `prediction.crf`.

    Returns:
        float32 (C + 1, H, W), marginals that sum to 1.
    """
    # In float32, as pydensecrf's own unary_from_softmax; a zero would have infinite energy.
    unary = -np.log(np.clip(np.asarray(probabilities, np.float32), 1e-5, 1.0))
    return dense_crf(image, unary, crf)
