"""Stage-0 CAMs of a shard of the training images, from the classifier."""

from workflow_scripts import arguments
from workflow_scripts.command import run
from workflow_scripts.network_job import load_viewer
from wsss.artifacts import ArtifactWriter
from wsss.inference import initial_cams
from wsss.progress import progress


def main(argv=None):
    made = arguments.parser(__doc__)
    arguments.add_run(made, "seed", "shard", "shards")
    arguments.add_hardware(made)
    made.add_argument("--model", required=True)
    made.add_argument("--output", required=True)
    args = made.parse_args(argv)
    index = arguments.dataset_index(args)
    who = arguments.identity(args, index, "seed")
    viewer, digest = load_viewer(args, **who)
    records = index.shard("train", args.shard, args.shards)
    with ArtifactWriter(
        args.output,
        "cams",
        identity=who | {"split": "train", "stage": 0},
        parameters=args.settings,
        sources={"model": digest},
        expected=[record.image_id for record in records],
    ) as artifact:
        for record in progress(records, desc="CAMs", unit="image"):
            keys = arguments.class_keys(index, record)
            image = index.read_image(record)
            cams = initial_cams(viewer, image, keys, args.settings["scales"], args.settings["flip"])
            artifact.write(record.image_id, cams, keys=keys, size=list(image.shape[:2]))


if __name__ == "__main__":
    run(main)
