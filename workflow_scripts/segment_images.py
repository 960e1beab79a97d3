"""Segment photographs with a trained model: a palette PNG and an overlay for each.

  python -m workflow_scripts.segment_images \\
      results/demo/auxsegnet/seed0/stage2/train/model.pt holiday/ cat.jpg --out segmented

MODEL is the checkpoint of a stage, and the only file that is needed. In DIR, then: <name>.png,
whose values are classes, <name>_overlay.jpg, classes.csv (value, name, colour) and masks.csv
(share of each class, and how sure the mask is: what most needs a look comes first). Scales, flip
and merge are those of the recipe `paper` unless you say otherwise; what a run of the workflow
uses, its section `prediction` says.

Exit status: 0 if all is well, 1 if a photograph could not be segmented (the others are), or
nothing could be done.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from workflow_scripts.jobs.command import documented_parser, run
from wsss.compute.devices import PRECISIONS, prepare_device
from wsss.compute.progress import note, progress
from wsss.configuration.method_sections import SEGMENTATION_CRF
from wsss.errors import InputError, printable, reason_of
from wsss.method.segmenter import Segmenter, load_segmenter
from wsss.reports.mask_files import (
    MaskRow,
    mask_names,
    write_class_table,
    write_mask_files,
    write_mask_table,
)
from wsss.reports.photographs import Inputs, find_photographs
from wsss.storage.files import make_folder
from wsss.storage.images import read_image

PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
TABLES = ("classes.csv", "masks.csv")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = documented_parser(__doc__)
    parser.add_argument("model", metavar="MODEL", help="checkpoint of a stage (model.pt)")
    parser.add_argument(
        "images", metavar="IMAGES", nargs="+", help="image files, and folders of them"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument("--scales", type=float, nargs="+", default=PAPER_SCALES, metavar="SCALE")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--merge", choices=["max", "mean"], default="max", help="over the views")
    parser.add_argument("--crf", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--long-side",
        type=int,
        metavar="PIXELS",
        help="the network sees photographs shrunk to this; 0: as they are; default: as trained",
    )
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32")
    parser.add_argument("--alpha", type=float, default=0.5, help="opacity of the overlay, 0..1")
    args = parser.parse_intermixed_args(argv)
    _check(args)
    return args


def available_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _check(args):
    if not 0 <= args.alpha <= 1:
        raise InputError(f"--alpha {args.alpha}: the opacity lies in 0..1")
    if not all(0.1 <= scale <= 4 for scale in args.scales):
        raise InputError(f"--scales {' '.join(map(str, args.scales))}: each lies in 0.1..4")
    if args.long_side is not None and not (args.long_side == 0 or args.long_side >= 8):
        raise InputError(f"--long-side {args.long_side}: at least 8 pixels, or 0 for as they are")
    if args.threads < 1:
        raise InputError(f"--threads {args.threads}: at least 1")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    folder = Path(args.out)
    photographs, refused, left_out = find_photographs(args.images, folder)
    inputs = Inputs([*photographs.values(), *(each.path for each in refused), args.model])
    names = [*TABLES, *(name for image_id in photographs for name in mask_names(image_id))]
    inputs.refuse_overwriting(folder / name for name in names)
    segmenter = segmenter_of(args)
    make_folder(folder, "--out")
    write_class_table(folder / "classes.csv", segmenter.classes)
    for line in left_out:
        note(f"note: {line}")
    for each in refused:
        note(f"error: {each.line}")
    rows = segment_all(segmenter, photographs, folder, args.alpha)
    known = {*photographs, *(each.image_id for each in refused if each.image_id)}
    for image_id in known - {row.image_id for row in rows}:
        inputs.remove_results(folder, image_id)
    write_mask_table(folder / "masks.csv", rows)
    failed = len(photographs) + len(refused) - len(rows)
    note(f"{len(rows)} segmented, {failed} not; {folder}")
    return 1 if failed else 0


def segmenter_of(args: argparse.Namespace) -> Segmenter:
    """The `Segmenter` of the arguments."""
    device = prepare_device(args.device, gpus=1, seed=0, threads=args.threads)
    return load_segmenter(
        args.model,
        device,
        {"scales": args.scales, "flip": args.flip, "merge": args.merge},
        SEGMENTATION_CRF if args.crf else SEGMENTATION_CRF.model_copy(update={"iterations": 0}),
        long_side="trained" if args.long_side is None else args.long_side or None,
        precision=args.precision,
    )


def segment_all(
    segmenter: Segmenter, photographs: dict[str, Path], folder: Path, alpha: float
) -> list[MaskRow]:
    """The rows of masks.csv; a photograph that cannot be segmented is one line, and no row."""
    rows = []
    for image_id, path in progress(photographs.items(), desc="segmenting", unit="image"):
        try:
            image = read_photograph(path)
            label, uncertainty = segmenter(image)
        except InputError as error:
            line = str(error) if str(path) in str(error) else f"{path}: {error}"
            note(f"error: {printable(line)}")
            continue
        shares = write_mask_files(folder, image_id, image, label, segmenter.classes, alpha)
        rows.append(MaskRow(image_id, shares, uncertainty))
    return rows


def read_photograph(path: Path) -> np.ndarray:
    """The photograph as `read_image` gives it; a path that leads nowhere is refused as such."""
    try:
        path.stat()
    except OSError as error:
        raise InputError(f"{path}: {reason_of(error).lower()}") from error
    return read_image(path)


if __name__ == "__main__":
    run(main)
