"""The finished masks of a run for an annotation tool, where people correct them.

python -m workflow_scripts.export_annotations results/photos --format coco --out annotations

coco: instances_default.json, an RLE for each connected component of a class.
cvat: segmentation_mask.zip, CVAT's "segmentation mask 1.1".
"""

import logging
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.jobs.command import documented_parser, run
from wsss.compute.progress import progress
from wsss.datasets.index import TEST_FILE, DatasetIndex, ImageRecord, read_dataset
from wsss.datasets.labels import read_lines
from wsss.errors import InputError, listed
from wsss.reports.annotation_files import ObjectMap, objects_of, write_coco, write_cvat
from wsss.reports.mask_files import read_mask_table
from wsss.storage.images import read_mask

log = logging.getLogger(__name__)

FORMATS = {
    "coco": ("instances_default.json", write_coco),
    "cvat": ("segmentation_mask.zip", write_cvat),
}


def main(argv: list[str] | None = None) -> None:
    parser = documented_parser(__doc__)
    parser.add_argument("results", type=Path, help="results of a data set, such as results/photos")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the file")
    parser.add_argument("--only", type=Path, metavar="TXT", help="ids or file names, one a line")
    parser.add_argument(
        "--smallest",
        type=_share,
        default=0.0005,
        metavar="SHARE",
        help="of the photograph; smaller components become background (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    test = (args.results / TEST_FILE).is_file()
    index = read_dataset(args.results, root=args.results, test=test)  # no photograph is read
    masks = read_mask_table(args.results / "masks" / "masks.csv")
    records = [index.record(image_id) for image_id in masks]
    if args.only:
        records = chosen(records, args.only)
    name, write = FORMATS[args.format]
    write(args.out / name, index.classes, objects(index, records, masks, args.smallest))
    log.info("%d photographs: %s", len(records), args.out / name)


def chosen(records: list[ImageRecord], file: Path) -> list[ImageRecord]:
    """The records that a list names, by id or file name, in its order.

    Raises:
        InputError: a line names none, or the list is empty.
    """
    by_name = {Path(record.image).name: record for record in records}
    by_name |= {record.image_id: record for record in records}
    lines = dict.fromkeys(line for _, line in read_lines(file))
    unknown = [line for line in lines if line not in by_name]
    if unknown or not lines:
        problem = f"no mask of {listed(unknown)}" if unknown else "names no image"
        raise InputError(f"--only {file}: {problem}: give ids of masks.csv, one a line")
    return list(dict.fromkeys(by_name[line] for line in lines))


def objects(
    index: DatasetIndex, records: list[ImageRecord], masks: dict[str, Path], smallest: float
) -> Iterator[tuple[ImageRecord, ObjectMap]]:
    """Each record with the objects in its mask.

    Raises:
        InputError: a mask is missing or damaged, or not of this data set.
    """
    for record in progress(records, desc="masks", unit="image"):
        path = masks[record.image_id]
        label = read_mask(path)
        if label.shape != (record.height, record.width) or label.max() > len(index.classes):
            raise InputError(f"mask {path} is of another image or run: make the masks again")
        yield record, objects_of(label, smallest)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{share} is no share, 0..1")
    return share


if __name__ == "__main__":
    run(main)
