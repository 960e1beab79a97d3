"""Finished files for people: a palette PNG and an overlay per image, and a table of them.

Those that an earlier run left of photographs which are gone are removed.
"""

from pathlib import Path

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.export import run_of
from wsss.compute.progress import progress
from wsss.datasets.index import TEST, DatasetIndex, ImageRecord
from wsss.errors import InputError
from wsss.method.uncertainty import stored_uncertainty
from wsss.reports.mask_files import MaskRow, remove_others, write_mask_files, write_mask_table
from wsss.storage.artifacts import ArtifactReader


def export_image(
    folder: Path, index: DatasetIndex, record: ImageRecord, label: np.ndarray, alpha: float
) -> dict[str, float]:
    """Write both files of an image; returns the share of each class."""
    image = index.read_image(record)
    if label.shape != image.shape[:2]:
        raise InputError(
            f"image {record.image_id}: its label map is {label.shape[1]}x{label.shape[0]}, the"
            f" image {image.shape[1]}x{image.shape[0]}; remake the predictions"
        )
    return write_mask_files(folder, record.image_id, image, label, index.classes, alpha)


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__)
    parser.add_argument("--labels", nargs="+", required=True, help="predictions_crf of all splits")
    parser.add_argument("--alpha", type=float, default=0.5, help="opacity of the colours, 0..1")
    parser.add_argument("--output", required=True, help="masks.csv; the pictures go beside it")
    args = parser.parse_args(argv)
    if not 0 <= args.alpha <= 1:
        raise InputError(f"--alpha {args.alpha}: the opacity lies in 0..1")
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index) | run_of(args.labels[0])
    labels = ArtifactReader(args.labels, "predictions_crf", **identity)
    if any(header.get("split") == TEST for header in labels.headers.values()):
        index = arguments.dataset_index(args, test=True)
    records = [record for record in index.records if record.image_id in labels]
    folder = Path(args.output).parent
    rows = []
    for record in progress(records, desc="masks", unit="image"):
        uncertainty = stored_uncertainty(labels, record.image_id)
        label = labels.read(record.image_id).array
        shares = export_image(folder, index, record, label, args.alpha)
        rows.append(MaskRow(record.image_id, shares, uncertainty))
    remove_others(folder, {record.image_id for record in records})
    write_mask_table(args.output, rows)


if __name__ == "__main__":
    run(main)
