"""Index the images of a data set that are only predicted: `test_images.csv` beside `index.csv`.

A file of its own, so that images which come later train nothing again.
"""

import logging

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.configuration.data_sections import UnnamedDataset
from wsss.datasets.formats import with_test_images
from wsss.datasets.index import TEST, write_test_images

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    args = arguments.command_parser(__doc__, UnnamedDataset).parse_args(argv)
    index = with_test_images(arguments.dataset_index(args), args.settings)
    write_test_images(index, args.data)
    for line in index.notes:
        log.warning("note: %s", line)
    log.info("%d images to predict", len(index.split(TEST)))


if __name__ == "__main__":
    run(main)
