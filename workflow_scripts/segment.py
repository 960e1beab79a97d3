"""Predictions of a shard: label maps unrefined and refined, and merged probabilities."""

from workflow_scripts import arguments
from workflow_scripts.command import run
from workflow_scripts.network_job import load_viewer
from wsss.artifacts import ArtifactWriter
from wsss.inference import predict
from wsss.progress import progress


def main(argv=None):
    made = arguments.parser(__doc__)
    arguments.add_run(made, "variant", "seed", "stage", "split", "shard", "shards")
    arguments.add_hardware(made)
    made.add_argument("--model", required=True)
    made.add_argument("--output", required=True)
    args = made.parse_args(argv)
    index = arguments.dataset_index(args)
    who = arguments.identity(args, index, "variant", "seed", "stage")
    viewer, digest = load_viewer(args, **who)
    records = index.shard(args.split, args.shard, args.shards)
    with ArtifactWriter(
        args.output,
        "predictions",
        identity=who | {"split": args.split},
        parameters=args.settings,
        sources={"model": digest},
        expected=[record.image_id for record in records],
    ) as artifact:
        for record in progress(records, desc="segmenting", unit="image"):
            image = index.read_image(record)
            arrays, keys = predict(viewer, image, args.settings)
            artifact.write(record.image_id, arrays, keys=keys, size=list(image.shape[:2]))


if __name__ == "__main__":
    run(main)
