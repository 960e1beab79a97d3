"""Off-the-shelf saliency of a shard of the training images."""

from workflow_scripts import arguments
from workflow_scripts.command import run
from wsss.artifacts import ArtifactWriter
from wsss.progress import progress
from wsss.saliency import create_source


def main(argv=None):
    made = arguments.parser(__doc__)
    arguments.add_run(made, "shard", "shards")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--output", required=True)
    args = made.parse_args(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    source = create_source(args.settings, ".", args.threads)
    source.check(records)
    with ArtifactWriter(
        args.output,
        "saliency",
        identity=arguments.identity(args, index) | {"split": "train"},
        parameters=args.settings,
        sources={"index": index.digest},
        expected=[record.image_id for record in records],
    ) as artifact:
        for record in progress(records, desc="saliency", unit="image"):
            artifact.write(record.image_id, source.predict(record, index.read_image(record)))


if __name__ == "__main__":
    run(main)
