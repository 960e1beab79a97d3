"""Stage-0 CAMs of a shard of the training images, from the classifier."""

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.network import Views, load_viewer
from wsss.compute.progress import progress
from wsss.method.inference import initial_cams
from wsss.storage.artifacts import ArtifactWriter


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Views)
    arguments.add_run(parser, "seed", "shard", "shards")
    arguments.add_hardware(parser)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "seed")
    viewer, digest = load_viewer(args, **identity)
    records = index.shard("train", args.shard, args.shards)
    with ArtifactWriter(
        args.output,
        "cams",
        identity=identity | {"split": "train", "stage": 0},
        parameters=arguments.given(args.settings),
        sources={"model": digest},
        expected=[record.image_id for record in records],
    ) as artifact:
        for record in progress(records, desc="CAMs", unit="image"):
            keys = arguments.class_keys(index, record)
            image = index.read_image(record)
            cams = initial_cams(viewer, image, keys, args.settings.scales, args.settings.flip)
            artifact.write(record.image_id, cams, keys=keys, size=list(image.shape[:2]))


if __name__ == "__main__":
    run(main)
