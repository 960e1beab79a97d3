"""Figures as files: PNG to look at, PDF to print, and beside them the data as CSV."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wsss.reports.drawing import save_picture
from wsss.storage.files import atomic_path

MAX_BYTES = 1_400_000  # of a picture
DOTS = 150  # of a picture in print, an inch


def save_figure(path: str | Path, figure: Figure, data: pd.DataFrame) -> None:
    """Write a figure of matplotlib; the same figure gives the same files.

    Args:
        path: of the PNG. The others have its name and their own suffix.
        figure: what is shown.
        data: what it was drawn from.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    _save_pdf(path, figure)
    _save_data(path, data)


def save_page(path: str | Path, picture: np.ndarray, data: pd.DataFrame) -> None:
    """Write a picture, uint8 RGB (H, W, 3), like a figure; arguments as in `save_figure`."""
    save_picture(path, picture, MAX_BYTES)
    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS)
    figure.figimage(picture)
    _save_pdf(Path(path), figure)
    _save_data(Path(path), data)


def _save_pdf(path, figure):
    with atomic_path(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, metadata={"CreationDate": None})


def _save_data(path, data):
    with atomic_path(path.with_suffix(".csv")) as temporary:
        data.to_csv(temporary, index=False, float_format="%.6g")
