"""Stage-0 CAMs of a shard of the training images, from files of another tool."""

import logging
from collections.abc import Sequence

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration.method_sections import CamFiles
from wsss.datasets.cam_files import ImportedCams
from wsss.storage.artifacts import ArtifactWriter

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, CamFiles)
    arguments.add_run(parser, "seed", "shard", "shards")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    work = ImportedCams.of_settings(index, args.settings)
    work.check(records)
    kept_as_they_are, surplus = [], 0
    with ArtifactWriter(
        args.output,
        "cams",
        identity=arguments.identity(args, index, "seed") | {"split": "train", "stage": 0},
        parameters=arguments.given(args.settings),
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


def report(kept_as_they_are: Sequence[bool], surplus: int) -> None:
    """Say what was done with the maps; a mixture may mean that they are not normalised at all."""
    kept = sum(kept_as_they_are)
    divided = len(kept_as_they_are) - kept
    log.info("maps left out, their classes being no labels of their images: %d", surplus)
    log.info("images whose maps are taken as they are: %d", kept)
    log.info("images whose maps are divided by their maxima: %d", divided)
    if kept and divided:
        log.warning(
            "cam.files: some images have maps within [0, 1] and some have not; set"
            " cam.files.normalise to always if the tool normalises none, to never if all are"
            " refined ones"
        )


if __name__ == "__main__":
    run(main)
