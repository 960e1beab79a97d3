"""Dense conditional random fields (Krähenbühl and Koltun, 2011) over whole images."""

import numpy as np
import pydensecrf.densecrf as densecrf


def dense_crf(image, unary, settings):
    """Marginals of a fully connected CRF after mean-field iterations.

    Args:
        image: uint8 RGB (H, W, 3), as it was read: never mean-subtracted.
        unary: float32 (L, H, W), negative log-probabilities of L labels.
        settings: iterations; gaussian_sxy, gaussian_compat (smoothness); bilateral_sxy (pixels),
            bilateral_srgb (grey levels), bilateral_compat (appearance).

    Returns:
        float32 (L, H, W), summing to 1 over the labels.
    """
    labels, height, width = unary.shape
    field = densecrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1), dtype=np.float32))
    field.addPairwiseGaussian(sxy=settings["gaussian_sxy"], compat=settings["gaussian_compat"])
    field.addPairwiseBilateral(
        sxy=settings["bilateral_sxy"],
        srgb=settings["bilateral_srgb"],
        rgbim=np.ascontiguousarray(image),
        compat=settings["bilateral_compat"],
    )
    marginals = np.asarray(field.inference(settings["iterations"]), dtype=np.float32)
    return marginals.reshape(labels, height, width)


def saliency_unary(saliency):
    """Energies of background and foreground for a saliency map.

    As in the CRF of DSS (Hou et al., TPAMI 2019), on which the paper's CRF_d rests: the sigmoid
    in the denominator softens confident pixels.

    Args:
        saliency: (H, W), probability of the foreground.

    Returns:
        float32 (2, H, W).
    """
    probability = np.stack([1.0 - saliency, saliency]).astype(np.float32)
    sigmoid = 1.0 / (1.0 + np.exp(-probability))
    return -np.log(probability + 1e-8) / (1.05 * sigmoid)


def saliency_crf(image, saliency, settings):
    """CRF_d of the paper's equation 1: soft foreground marginal, float32 (H, W)."""
    return dense_crf(image, saliency_unary(saliency), settings)[1]


def label_crf(image, probabilities, settings):
    """Test CRF (Chen et al., ICLR 2015): marginals for class probabilities (L, H, W)."""
    unary = -np.log(np.clip(probabilities, 1e-5, 1.0).astype(np.float32))
    return dense_crf(image, unary, settings)
