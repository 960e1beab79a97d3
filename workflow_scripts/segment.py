"""Predictions of a shard: label maps unrefined and refined, and merged probabilities."""

from typing import Literal

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.network import Views, load_viewer
from wsss.compute.progress import progress
from wsss.method.inference import predict
from wsss.storage.artifacts import ArtifactWriter


class PredictionViews(Views):
    """How the views of a photograph are merged, too."""

    merge: Literal["max", "mean"]


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, PredictionViews)
    arguments.add_run(parser, "variant", "seed", "stage", "split", "shard", "shards")
    arguments.add_hardware(parser)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage")
    viewer, digest = load_viewer(args, **identity)
    views = args.settings
    records = index.shard(args.split, args.shard, args.shards)
    with ArtifactWriter(
        args.output,
        "predictions",
        identity=identity | {"split": args.split},
        parameters=arguments.given(args.settings),
        sources={"model": digest},
        expected=[record.image_id for record in records],
    ) as artifact:
        for record in progress(records, desc="segmenting", unit="image"):
            image = index.read_image(record)
            arrays, labels = predict(viewer, image, views.scales, views.flip, views.merge)
            artifact.write(record.image_id, arrays, keys=labels, size=list(image.shape[:2]))


if __name__ == "__main__":
    run(main)
