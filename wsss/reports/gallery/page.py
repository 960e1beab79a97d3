"""The page of the gallery: a folder that opens in a browser from disk, without a server."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wsss.reports.drawing import IGNORED_COLOURS, class_palette
from wsss.reports.gallery.layers import Run
from wsss.reports.gallery.pictures import picture_names
from wsss.storage.files import atomic_path

SOURCES = Path(__file__).parent
PICTURES = "images"  # the folder of photographs and maps
STYLE, SCRIPTS = "style.css", ("layers.js", "view.js", "page.js", "controls.js")


def write_page(
    index_html: str | Path,
    dataset: str,
    classes: Sequence[str],
    runs: Sequence[Run],
    images: Sequence[dict[str, Any]],
    of: dict[str, int],
) -> None:
    """Write the page and what it loads; the pictures lie in `images` beside it.

    Pictures of other images, of an earlier page, are removed. The page itself comes last, so
    that it is not there before all that it shows.

    Args:
        index_html: the page.
        dataset: its name.
        classes: names of the object classes, without background.
        runs: what can be looked at, the first of them at first.
        images: a row of `Pictures` for each image.
        of: split -> number of its images, of which some may not be shown.
    """
    folder = Path(index_html).parent
    _remove_others(folder / PICTURES, images)
    data = {
        "dataset": dataset,
        "classes": ["background", *classes],
        "colours": class_palette()[: len(classes) + 1].tolist(),
        "ignored": IGNORED_COLOURS,
        "heat": np.rint(255 * matplotlib.colormaps["turbo"](np.arange(256))[:, :3]).tolist(),
        "runs": [asdict(run) for run in runs],
        "of": of,
        "images": list(images),
    }
    _write(folder / "data.js", f"const data = {json.dumps(data, separators=(',', ':'))};\n")
    for name in (STYLE, *SCRIPTS):
        _write(folder / name, (SOURCES / name).read_text(encoding="utf-8"))
    environment = Environment(
        loader=FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("template.html")
    _write(Path(index_html), template.render(dataset=dataset, splits=of, scripts=SCRIPTS))


def _write(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove_others(folder, images):
    named = {name for image in images for name in picture_names(image["id"])}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in named:
            path.unlink()
