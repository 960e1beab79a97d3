"""The true masks of a random share of the training images, as if people had corrected these.

python -m workflow_scripts.sample_masks results/voc2012-animals --share 0.05 --out DIR

Of the same data set and seed, a larger share holds the images of a smaller one.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.jobs.command import documented_parser, run
from wsss.datasets.index import ImageRecord, read_dataset
from wsss.errors import InputError
from wsss.storage.files import atomic_path

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = documented_parser(__doc__)
    parser.add_argument("results", type=Path, help="results of a data set, with its index.csv")
    parser.add_argument("--share", type=float, required=True, help="of the training images, 0..1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the PNGs")
    args = parser.parse_args(argv)
    if not 0 < args.share <= 1:
        parser.error(f"--share {args.share} is no share, 0..1")
    index = read_dataset(args.results)
    records = sample(index.split("train"), args.share, args.seed)
    names = {f"{record.image_id}.png" for record in records}
    others = {path.name for path in args.out.glob("*.png")} - names
    if others:
        raise InputError(f"{args.out} holds other masks, such as {min(others)}: name a new folder")
    for record in records:
        with atomic_path(args.out / f"{record.image_id}.png") as temporary:
            shutil.copyfile(index.root / record.mask, temporary)
    log.info("%d true masks: %s", len(records), args.out)


def sample(train: Sequence[ImageRecord], share: float, seed: int) -> list[ImageRecord]:
    """A share of the training images, rounded, drawn among those that have a mask.

    Raises:
        InputError: so many have no mask, or it would be none.
    """
    masked = [record for record in train if record.mask]
    count = round(share * len(train))
    if not 0 < count <= len(masked):
        raise InputError(
            f"{share} of {len(train)} training images are {count}, and {len(masked)} have a mask:"
            " choose another share"
        )
    order = np.random.default_rng(seed).permutation(len(masked))
    return [masked[place] for place in sorted(order[:count])]


if __name__ == "__main__":
    run(main)
