"""What a network takes for similar: the affinity of a point of a photograph to all others."""

from dataclasses import dataclass

import numpy as np
import torch

from model.affinity import BlockAffinity
from wsss.errors import InputError
from wsss.method.inference import Viewer, label_map


@dataclass(frozen=True)
class Look:
    """A photograph as a network sees it.

    `affinity` is one image's, of h x w tokens on `grid`; `labels` is the network's own
    segmentation, uint8 on the grid.
    """

    affinity: torch.Tensor | BlockAffinity
    grid: tuple[int, int]
    labels: np.ndarray

    @torch.inference_mode()
    def affinity_of(self, point: tuple[float, float]) -> np.ndarray:
        """The row of the affinity of a point (x, y) in widths and heights; divided by its maximum.

        That is A(i, j, :, :) of the paper's equations 6 and 7.

        Returns:
            float32 (h, w) in [0, 1].
        """
        height, width = self.grid
        x, y = min(int(point[0] * width), width - 1), min(int(point[1] * height), height - 1)
        token = y * width + x
        if isinstance(self.affinity, BlockAffinity):
            row = self.affinity.rows(token, token + 1)[0, 0]
        else:
            row = self.affinity[0, token]
        values = row.float().cpu().numpy().reshape(self.grid)
        return values / max(values.max(), np.finfo(np.float32).tiny)


@torch.inference_mode()
def look(viewer: Viewer, image: np.ndarray) -> Look:
    """Run a network on a photograph, uint8 RGB (H, W, 3).

    Raises:
        InputError: the network has no affinity.
    """
    output = viewer.run(image)
    if output.affinity is None:
        raise InputError("this network has no affinity (network.affinity: none): nothing to draw")
    grid = tuple(output.segmentation.shape[-2:])
    return Look(output.affinity, grid, label_map(output.segmentation, grid))
