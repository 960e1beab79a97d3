"""A trained network with all that makes a label map of a photograph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from wsss.configuration.method_sections import Crf
from wsss.errors import InputError
from wsss.method.inference import Viewer, predict
from wsss.method.label_maps import label_map_of
from wsss.method.uncertainty import Uncertainty, uncertainty_of
from wsss.storage.checkpoint import load_network


@dataclass(frozen=True)
class Segmenter:
    """Photograph -> label map, and how sure it is."""

    viewer: Viewer  # of a network that segments
    classes: Sequence[str]  # names of its object classes
    views: dict[str, Any]  # scales, flip and merge, as in section `prediction`
    crf: Crf  # section `prediction.crf`; 0 iterations: none

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, Uncertainty]:
        """uint8 RGB (H, W, 3) -> uint8 class ids (H, W); what `segment` and `segment_crf` give.

        Raises:
            InputError: there is not memory enough.
        """
        try:
            arrays, labels = predict(self.viewer, image, **self.views)
            label_map = label_map_of(image, arrays["probabilities"], labels, self.crf)
            return label_map, uncertainty_of(label_map, arrays["probabilities"], labels)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            height, width = image.shape[:2]
            raise InputError(
                f"{width}x{height} pixels need more memory than there is; "
                "give --long-side, or a smaller one"
            ) from error


def _is_out_of_memory(error):
    # PyTorch's allocator for the CPU raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error)


def load_segmenter(
    path: str | Path,
    device: torch.device,
    views: dict[str, Any],
    crf: Crf,
    *,
    long_side: int | Literal["trained"] | None = "trained",
    precision: str = "fp32",
) -> Segmenter:
    """A `Segmenter` from a checkpoint of a stage; no other file is needed.

    Args:
        views, crf: see `Segmenter`.
        long_side: photographs are shrunk to this long side for the network; None: not;
            "trained": as in the training.
        precision: a key of `wsss.compute.devices.PRECISIONS`.

    Raises:
        InputError: no checkpoint of this workflow, or one of a network that segments nothing.
    """
    network, checkpoint = load_network(path, device)
    if "seg" not in network.branches:
        raise InputError(
            f"{path}: a classifier, which segments nothing; "
            "give the checkpoint of a stage: .../stage<number>/train/model.pt"
        )
    try:
        classes = checkpoint["identity"]["classes"]
        trained = checkpoint["parameters"]["images"]["long_side"]
    except KeyError as error:
        raise InputError(
            f"{path}: without class names or settings ({error}); make it with this version"
        ) from error
    long_side = trained if long_side == "trained" else long_side
    return Segmenter(Viewer(network, device, long_side, precision), classes, views, crf)
