"""Refined CAMs and refined saliency of a shard: the seeds of the next stage's pseudo labels."""

from contextlib import ExitStack

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.network import Views, load_viewer
from wsss.compute.progress import progress
from wsss.method.inference import refined_maps
from wsss.storage.artifacts import ArtifactWriter


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Views)
    arguments.add_run(parser, "variant", "seed", "stage", "shard", "shards")
    arguments.add_hardware(parser)
    parser.add_argument("--model", required=True, help="the model of the stage before")
    parser.add_argument("--output-cams", required=True)
    parser.add_argument("--output-saliency", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage")
    viewer, digest = load_viewer(args, **(identity | {"stage": args.stage - 1}))
    records = index.shard("train", args.shard, args.shards)
    common = {
        "identity": identity | {"split": "train"},
        "parameters": arguments.given(args.settings),
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
                viewer, image, keys, args.settings.scales, args.settings.flip
            )
            size = list(image.shape[:2])
            cams_out.write(record.image_id, cams, keys=keys, size=size)
            saliency_out.write(record.image_id, saliency, size=size)


if __name__ == "__main__":
    run(main)
