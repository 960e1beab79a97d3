"""Index a data set: `index.csv`, `classes.csv`, `ground_truth.json` and `root.txt`.

Masks are compared with the labels: those that contradict them would score nothing.
Images that are only predicted are left to `index_test_images`: some may come later.
COCO's masks are painted first, below the root of the data set.
"""

import logging

from workflow_scripts.jobs.arguments import command_parser
from workflow_scripts.jobs.command import run
from wsss.configuration.data_sections import UnnamedDataset
from wsss.datasets.formats import build_index, paints_masks
from wsss.datasets.ground_truth import Verdict, check_masks, write_ground_truth
from wsss.datasets.index import write_dataset

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = command_parser(__doc__, UnnamedDataset)
    parser.add_argument("--threads", type=int, default=1, help="processes that paint masks")
    args = parser.parse_args(argv)
    index = build_index(args.settings, args.root, processes=args.threads)
    if not paints_masks(args.settings):  # those that are painted have their labels' classes
        tell(check_masks(index, args.threads))
    write_dataset(index, args.data)
    write_ground_truth(index, args.data)
    for line in index.notes:
        log.warning("note: %s", line)
    train, val = (len(index.split(name)) for name in ("train", "val"))
    log.info("%d classes; images: %d train, %d val", len(index.classes), train, val)


def tell(verdict: Verdict | None) -> None:
    """Say what is odd about the masks."""
    if verdict:
        log.warning("masks: %s", verdict.message)


if __name__ == "__main__":
    run(main)
