"""Pseudo labels: fusing CAMs and saliency (paper, section 3.1; released step/gen_pgt.py).

The paper asks of every pixel by itself whether CAM and saliency agree. A classifier's CAM covers
the telling part of an object and a rim around it: the rest of the object and its surroundings are
then left out. `spread_over_objects` asks of every salient object instead whether a CAM touches it.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from model.labels import IGNORE
from wsss.configuration.method_sections import Crf, PseudoLabels
from wsss.method.crf import refine_saliency
from wsss.storage.pixels import Size, resize_map, resize_maps


def fuse(
    cams: np.ndarray,
    keys: Sequence[int],
    saliency: np.ndarray,
    cam_threshold: float,
    saliency_threshold: float,
) -> np.ndarray:
    """Segmentation pseudo label of an image.

    A pixel where the largest CAM exceeds `cam_threshold` is an object pixel; one where the saliency
    exceeds `saliency_threshold` is salient. Both: the class of the largest CAM (ties to the lower
    id); neither: background 0; exactly one: 255, ignored in training. Comparisons are strict and
    in float32.

    Args:
        cams: (K, H, W), CAMs of the classes that the image holds.
        keys: their K ids 0..C-1, ascending.
        saliency: (H, W) in [0, 1].

    Returns:
        uint8 (H, W): 0, 255, and key + 1 for a class.

    Raises:
        ValueError: shapes that do not belong together.
    """
    cams, saliency = np.asarray(cams, np.float32), np.asarray(saliency, np.float32)
    if cams.shape != (len(keys), *saliency.shape):
        raise ValueError(
            f"CAMs of {cams.shape} do not fit {len(keys)} labels and saliency of {saliency.shape}"
        )
    salient = saliency > np.float32(saliency_threshold)
    label = np.where(salient, IGNORE, 0).astype(np.uint8)
    if len(keys) == 0:
        return label
    is_object = cams.max(axis=0) > np.float32(cam_threshold)
    winner = (np.asarray(keys) + 1).astype(np.uint8)[cams.argmax(axis=0)]
    label[is_object & salient] = winner[is_object & salient]
    label[is_object & ~salient] = IGNORE
    return label


def spread_over_objects(
    cams: np.ndarray, saliency: np.ndarray, object_threshold: float, doubt_threshold: float
) -> np.ndarray:
    """CAMs that reach as far as the salient objects that they touch.

    A salient object is a connected component of the pixels whose saliency exceeds
    `object_threshold`. Its strongest CAM counts for all of it; which class a pixel has stays as it
    is, and where all CAMs are 0 each class has its largest value in the object. Elsewhere CAMs
    are 0, so that what is not salient is background close to objects, too; but where a CAM exceeds
    `doubt_threshold`, it stays as it is: there the saliency may have missed an object. Such a pixel
    is of the class if it is a little salient, and unknown if it is not.

    Args:
        cams: float32 (K, H, W) in [0, 1].
        saliency: (H, W) in [0, 1].

    Returns:
        float32 (K, H, W), for `fuse`.
    """
    largest = cams.max(axis=0)
    salient = saliency > np.float32(object_threshold)
    count, objects = cv2.connectedComponents(salient.astype(np.uint8))
    peaks = np.zeros((len(cams), count), np.float32)
    for peak, cam in zip(peaks, cams, strict=True):
        np.maximum.at(peak, objects.ravel(), cam.ravel())
    scale = peaks.max(axis=0)[objects] / np.where(largest > 0, largest, 1)
    spread = np.where(largest > 0, cams * scale, peaks[:, objects])
    kept = np.where(largest > np.float32(doubt_threshold), cams, 0)
    return np.where(salient, spread, kept)


def updated_saliency(
    image: np.ndarray, refined: np.ndarray, off_the_shelf: np.ndarray, crf: Crf
) -> np.ndarray:
    """Saliency pseudo label of stage s >= 1 (paper, equation 1).

    CRF_d of the mean of the refined prediction of the stage before and, at every stage, the
    original off-the-shelf map. All maps (H, W) in [0, 1]; returns float32 (H, W).
    """
    return refine_saliency(image, (refined + off_the_shelf) / 2, crf)


def cams_to_fuse(cams: np.ndarray, saliency: np.ndarray, settings: PseudoLabels) -> np.ndarray:
    """CAMs (K, H, W) as they are compared with the threshold, by `pseudo_labels.regions`."""
    if settings.regions == "pixels" or len(cams) == 0:
        return cams
    return spread_over_objects(cams, saliency, settings.object_threshold, settings.doubt_threshold)


def quantise(saliency: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8, value / 255 being the probability."""
    return np.rint(np.clip(saliency, 0.0, 1.0) * 255).astype(np.uint8)


def negative_labels(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Both pseudo labels, uint8 of `size`, of an image that holds no class: all background.

    The paper has no such images. What a network finds salient in one is none of the classes, so
    that neither the map nor what a stage makes of it counts.
    """
    return np.zeros(size, np.uint8), np.zeros(size, np.uint8)


def pseudo_labels_of_mask(saliency: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both pseudo labels of an image whose mask is known.

    Objects of the classes are salient and nothing else is, as the segmentation branch learns it,
    too: the two tasks share their affinity. Where the mask is 255, the saliency stays.

    Args:
        saliency: uint8 (H, W), what it is otherwise.
        mask: uint8 (H, W) class ids, 255 where nobody knows.

    Returns:
        saliency uint8 (H, W), segmentation uint8 (H, W).
    """
    salient = np.where(mask == 0, 0, 255).astype(np.uint8)
    return np.where(mask == IGNORE, saliency, salient), mask


def make_pseudo_labels(
    image: np.ndarray,
    cams: np.ndarray,
    keys: Sequence[int],
    off_the_shelf: np.ndarray,
    refined: np.ndarray | None,
    settings: PseudoLabels,
) -> tuple[np.ndarray, np.ndarray]:
    """Both pseudo labels of an image; without CAMs it is a negative, and all background.

    Args:
        image: uint8 RGB (H, W, 3).
        cams: (K, h, w) float, refined CAMs (stage >= 1) or normalised CAMs (stage 0).
        keys: class ids of the CAMs.
        off_the_shelf: uint8 (H, W).
        refined: (h, w) float in [0, 1], refined saliency of the stage before; None at stage 0,
            where the off-the-shelf map is the saliency pseudo label as it is.
        settings: thresholds, background, saliency_crf.

    Returns:
        saliency uint8 (H, W), segmentation uint8 (H, W).
    """
    size = off_the_shelf.shape
    if len(keys) == 0:
        return negative_labels(size)
    original = off_the_shelf.astype(np.float32) / 255
    saliency = original
    if refined is not None:
        refined = resize_map(refined, size)
        saliency = updated_saliency(image, refined, original, settings.saliency_crf)
    background = saliency if settings.background == "updated" else original
    segmentation = fuse(
        cams_to_fuse(resize_maps(cams, size), background, settings),
        keys,
        background,
        settings.cam_threshold,
        settings.saliency_threshold,
    )
    return quantise(saliency), segmentation
