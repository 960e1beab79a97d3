"""Pseudo labels: fusing CAMs and saliency (paper, section 3.1; released step/gen_pgt.py)."""

import cv2
import numpy as np

from model.labels import IGNORE
from wsss.crf import refine_saliency


def fuse(cams, saliency, labels, cam_threshold=0.2, saliency_threshold=0.06):
    """Segmentation pseudo label of an image.

    A pixel where the largest CAM of a labelled class exceeds `cam_threshold` is an object pixel;
    one where the saliency exceeds `saliency_threshold` is salient. Both: the class of the largest
    CAM (ties to the lower id); neither: background 0; exactly one: 255, ignored in training.
    Comparisons are strict and in float32.

    Args:
        cams: (C, H, W), CAMs of all classes or of any choice of them.
        saliency: (H, W) in [0, 1].
        labels: (C,), not 0 where the image holds the class; the CAMs of others do not count.

    Returns:
        uint8 (H, W) with 0, 255 and 1..C, class c of `cams` being c + 1.

    Raises:
        ValueError: shapes that do not belong together.
    """
    cams, saliency = np.asarray(cams, np.float32), np.asarray(saliency, np.float32)
    if cams.shape != (len(labels), *saliency.shape):
        raise ValueError(
            f"CAMs of {cams.shape} do not fit {len(labels)} labels and saliency of {saliency.shape}"
        )
    salient = saliency > np.float32(saliency_threshold)
    label = np.where(salient, IGNORE, 0).astype(np.uint8)
    present = np.flatnonzero(labels)
    if len(present) == 0:
        return label
    cams = cams[present]
    is_object = cams.max(axis=0) > np.float32(cam_threshold)
    winner = (present + 1).astype(np.uint8)[cams.argmax(axis=0)]
    label[is_object & salient] = winner[is_object & salient]
    label[is_object & ~salient] = IGNORE
    return label


def fuse_present(cams, keys, saliency, cam_threshold, saliency_threshold):
    """`fuse` for CAMs (K, H, W) of the classes `keys` alone (ids 0..C-1, ascending)."""
    label = fuse(cams, saliency, np.ones(len(keys)), cam_threshold, saliency_threshold)
    class_of = np.arange(256, dtype=np.uint8)  # 0 and 255 stay
    class_of[1 : len(keys) + 1] = np.asarray(keys, np.uint8) + 1
    return class_of[label]


def updated_saliency(image, refined, off_the_shelf, crf_settings):
    """Saliency pseudo label of stage s >= 1 (paper, equation 1).

    CRF_d of the mean of the refined prediction of the stage before and, at every stage, the
    original off-the-shelf map. All maps (H, W) in [0, 1]; returns float32 (H, W).
    """
    return refine_saliency(image, (refined + off_the_shelf) / 2, **crf_settings)


def quantise(saliency):
    """[0, 1] -> uint8, value / 255 being the probability."""
    return np.rint(np.clip(saliency, 0.0, 1.0) * 255).astype(np.uint8)


def upsample(maps, size):
    """Bilinear up-sampling of (K, h, w) to (K, height, width), align_corners=False, float32."""
    height, width = size
    resized = [
        cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        for m in maps
    ]
    return np.stack(resized) if resized else np.zeros((0, height, width), np.float32)


def make_pseudo_labels(image, cams, keys, off_the_shelf, refined, settings):
    """Both pseudo labels of an image.

    Args:
        image: uint8 RGB (H, W, 3).
        cams: (K, h, w) float, refined CAMs (stage >= 1) or normalised CAMs (stage 0).
        keys: class ids of the CAMs.
        off_the_shelf: uint8 (H, W).
        refined: (h, w) float in [0, 1], refined saliency of the stage before; None at stage 0,
            where the off-the-shelf map is the saliency pseudo label as it is.
        settings: cam_threshold, saliency_threshold, background, saliency_crf.

    Returns:
        saliency uint8 (H, W), segmentation uint8 (H, W).
    """
    size = off_the_shelf.shape
    original = off_the_shelf.astype(np.float32) / 255
    saliency = original
    if refined is not None:
        refined = upsample(refined[None], size)[0]
        saliency = updated_saliency(image, refined, original, settings["saliency_crf"])
    background = saliency if settings["background"] == "updated" else original
    segmentation = fuse_present(
        upsample(cams, size),
        keys,
        background,
        settings["cam_threshold"],
        settings["saliency_threshold"],
    )
    return quantise(saliency), segmentation
