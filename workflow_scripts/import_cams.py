"""Stage-0 CAMs of a shard of the training images, from files of another tool."""

import logging

from workflow_scripts import arguments
from workflow_scripts.command import run
from wsss.artifacts import ArtifactWriter
from wsss.cam_files import ImportedCams
from wsss.parallel import map_images

log = logging.getLogger(__name__)


def main(argv=None):
    made = arguments.parser(__doc__)
    arguments.add_run(made, "seed", "shard", "shards")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--output", required=True)
    args = made.parse_args(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    work = ImportedCams.of_settings(index, args.settings)
    work.check(records)
    kept_as_they_are, surplus = [], 0
    with ArtifactWriter(
        args.output,
        "cams",
        identity=arguments.identity(args, index, "seed") | {"split": "train", "stage": 0},
        parameters=args.settings,
        sources={"index": index.digest},
        expected=[record.image_id for record in records],
    ) as artifact:
        imported = map_images(work, records, args.threads, "importing CAMs")
        for record, (keys, cams, divided, others) in zip(records, imported, strict=True):
            artifact.write(record.image_id, cams, keys=keys, size=[record.height, record.width])
            surplus += others
            if keys:
                kept_as_they_are.append(not divided)
    report(kept_as_they_are, surplus)


def report(kept_as_they_are, surplus):
    """Say what was done with the maps; a mixture may mean that they are not normalised at all."""
    if surplus:
        log.info("%d maps of classes that are no labels of their images: left out", surplus)
    kept, images = sum(kept_as_they_are), len(kept_as_they_are)
    log.info("the maps of %d images lie in [0, 1]: taken as they are", kept)
    if 0 < kept < images:
        log.warning(
            "those of the other %d images do not: divided by their maxima; if the tool normalises"
            " nothing, divide all maps by their maxima before",
            images - kept,
        )
    elif images:
        log.info("those of the other %d images: divided by their maxima", images - kept)


if __name__ == "__main__":
    run(main)
