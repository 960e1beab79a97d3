"""Refined CAMs and refined saliency of a shard: the seeds of the next stage's pseudo labels."""

from contextlib import ExitStack

from workflow_scripts import arguments
from workflow_scripts.command import run
from workflow_scripts.network_job import load_viewer
from wsss.artifacts import ArtifactWriter
from wsss.inference import refined_maps
from wsss.progress import progress


def main(argv=None):
    made = arguments.parser(__doc__)
    arguments.add_run(made, "variant", "seed", "stage", "shard", "shards")
    arguments.add_hardware(made)
    made.add_argument("--model", required=True, help="the model of the stage before")
    made.add_argument("--output-cams", required=True)
    made.add_argument("--output-saliency", required=True)
    args = made.parse_args(argv)
    index = arguments.dataset_index(args)
    who = arguments.identity(args, index, "variant", "seed", "stage")
    viewer, digest = load_viewer(args, **(who | {"stage": args.stage - 1}))
    records = index.shard("train", args.shard, args.shards)
    common = {
        "identity": who | {"split": "train"},
        "parameters": args.settings,
        "sources": {"model": digest},
        "expected": [record.image_id for record in records],
    }
    with ExitStack() as stack:
        cams_out = stack.enter_context(ArtifactWriter(args.output_cams, "cams", **common))
        saliency_out = stack.enter_context(
            ArtifactWriter(args.output_saliency, "refined_saliency", **common)
        )
        for record in progress(records, desc="refining", unit="image"):
            keys = arguments.class_keys(index, record)
            image = index.read_image(record)
            cams, saliency = refined_maps(
                viewer, image, keys, args.settings["scales"], args.settings["flip"]
            )
            size = list(image.shape[:2])
            cams_out.write(record.image_id, cams, keys=keys, size=size)
            saliency_out.write(record.image_id, saliency, size=size)


if __name__ == "__main__":
    run(main)
