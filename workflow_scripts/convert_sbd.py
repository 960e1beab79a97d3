"""SegmentationClassAug: masks of SBD as palette PNGs, and VOC's own where there are any.

  python -m workflow_scripts.convert_sbd benchmark_RELEASE/dataset --voc VOCdevkit/VOC2012

Masks that are there already stay, so that an interrupted run goes on; --force makes them again.
"""

import logging
import os
from pathlib import Path

from workflow_scripts.jobs.command import documented_parser, run
from wsss.compute.parallel import map_images
from wsss.datasets.sbd import MaskMaker, sbd_files, voc_masks
from wsss.errors import InputError, listed
from wsss.storage.files import make_folder

log = logging.getLogger(__name__)
SHOWN = 3  # images named in the error line


def main(argv: list[str] | None = None) -> None:
    args = _parse(argv)
    sbd, own = sbd_files(args.sbd), voc_masks(args.voc)
    out = args.out or args.voc / "SegmentationClassAug"
    _check_out(out, args.voc, sbd)
    ids = sorted(sbd.keys() | own.keys())
    todo = [image_id for image_id in ids if args.force or not (out / f"{image_id}.png").exists()]
    make_folder(out, "--out")
    work = MaskMaker(args.voc, own, sbd, out)
    complaints = [text for text in map_images(work, todo, args.threads, "masks") if text]
    if complaints:
        shown = listed(complaints, SHOWN, "; ")
        raise InputError(f"{len(complaints)} of {len(ids)} masks not made: {shown}")
    there = len(ids) - len(todo)
    log.info(
        "%d masks in %s: %d of VOC, %d of SBD; %d were there already",
        *(len(ids), out, len(own), len(sbd.keys() - own.keys()), there),
    )


def _parse(argv):
    parser = documented_parser(__doc__)
    parser.add_argument("sbd", type=Path, metavar="SBD_FOLDER", help="the folder that holds cls/")
    parser.add_argument("--voc", type=Path, required=True, help="the folder VOCdevkit/VOC2012")
    parser.add_argument("--out", type=Path, help="default: SegmentationClassAug below --voc")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--force", action="store_true", help="also make masks that are there")
    return parser.parse_args(argv)


def _check_out(out, devkit, sbd):
    """Never over the sources."""
    sources = {(devkit / "SegmentationClass").resolve(), next(iter(sbd.values())).parent.resolve()}
    if out.resolve() in sources:
        raise InputError(f"--out {out} holds what the masks are made from: name another folder")


if __name__ == "__main__":
    run(main)
