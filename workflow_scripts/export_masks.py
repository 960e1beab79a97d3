"""Finished files for people: a palette PNG and an overlay per image, and a table of them."""

import csv
from pathlib import Path

import numpy as np

from workflow_scripts import arguments
from workflow_scripts.command import run
from workflow_scripts.export_job import run_of
from wsss.artifacts import ArtifactReader
from wsss.datasets.index import check_id
from wsss.drawing import class_name, overlay, save_picture
from wsss.errors import InputError
from wsss.files import atomic_path
from wsss.palette import write_palette_png
from wsss.progress import progress

COLUMNS = ("image_id", "mask", "overlay", "classes", "shares")


def class_shares(label, classes):
    """Name -> share of the pixels, for the object classes in a label map (H, W)."""
    ids, counts = np.unique(label, return_counts=True)
    return {
        class_name(int(i), classes): count / label.size
        for i, count in zip(ids, counts, strict=True)
        if i != 0
    }


def export_image(folder, index, record, label, alpha):
    """Write both files of an image; returns its row of the table."""
    image = index.read_image(record)
    if label.shape != image.shape[:2]:
        raise InputError(
            f"image {record.image_id}: its label map is {label.shape[1]}x{label.shape[0]}, the"
            f" image {image.shape[1]}x{image.shape[0]}; remake the predictions"
        )
    mask = _inside(folder, f"{record.image_id}.png")
    # Another suffix than the mask's: an image may be called like another one's overlay.
    tinted = _inside(folder, f"{record.image_id}_overlay.jpg")
    write_palette_png(mask, label)
    save_picture(tinted, overlay(image, label, alpha))
    shares = class_shares(label, index.classes)
    text = ";".join(f"{name}={share:.4g}" for name, share in shares.items())
    return (record.image_id, mask.name, tinted.name, ";".join(shares), text)


def _inside(folder, name):
    check_id(name, "masks")
    path = folder / name
    if path.parent.resolve() != folder.resolve() or path.name != name:
        raise InputError(f"{name!r} leads out of {folder}")
    return path


def main(argv=None):
    made = arguments.parser(__doc__)
    made.add_argument("--labels", nargs="+", required=True, help="predictions_crf of all splits")
    made.add_argument("--alpha", type=float, default=0.5, help="opacity of the colours, 0..1")
    made.add_argument("--output", required=True, help="masks.csv; the pictures go beside it")
    args = made.parse_args(argv)
    if not 0 <= args.alpha <= 1:
        raise InputError(f"--alpha {args.alpha}: the opacity lies in 0..1")
    index = arguments.dataset_index(args)
    who = arguments.identity(args, index) | run_of(args.labels[0])
    labels = ArtifactReader(args.labels, "predictions_crf", **who)
    records = [record for record in index.records if record.image_id in labels]
    folder = Path(args.output).parent
    rows = [
        export_image(folder, index, record, labels.read(record.image_id).array, args.alpha)
        for record in progress(records, desc="masks", unit="image")
    ]
    with (
        atomic_path(args.output) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


if __name__ == "__main__":
    run(main)
