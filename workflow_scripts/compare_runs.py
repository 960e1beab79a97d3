"""Compare runs that exist, as in tables of ablations: a row a run, all against the first.

A run is VARIANT/stageN/KIND; KIND is unrefined, refined, merged or crf. Its row has the mIoU on val
over seeds, and the difference to the first run, paired by seed, with a 95 % bootstrap interval over
images. Nothing is trained or predicted. A seed that a run does not have is left out.

  python -m workflow_scripts.compare_runs results/voc2012 --seeds 0 1 2 --output table.csv \\
      --runs baseline/stage0/unrefined multi_task/stage0/unrefined auxsegnet/stage0/refined
"""

import re
from functools import partial
from pathlib import Path

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import documented_parser, run
from wsss.compute.progress import progress
from wsss.errors import InputError, listed
from wsss.method.comparison import compare, count
from wsss.method.evaluation import write_table
from wsss.method.label_maps import merged_label_map
from wsss.storage.artifacts import ArtifactReader

ARTIFACTS = {
    "unrefined": "predictions",
    "refined": "predictions",
    "merged": "predictions",
    "crf": "predictions_crf",
}
RUN = re.compile(rf"([\w-]+)/stage(\d+)/({'|'.join(ARTIFACTS)})")


def main(argv: list[str] | None = None) -> None:
    args = _parse(argv)
    index = arguments.dataset_index(args)
    runs = {name: _open_run(args, index, name) for name in args.runs}
    scored = [record for record in index.split("val") if record.scored and record.mask]
    if not scored:
        raise InputError(
            f"{args.data}: no image of val has a mask; give masks in the configuration"
        )
    truths = (
        (record.image_id, index.read_mask(record))
        for record in progress(scored, desc="comparing", unit="image")
    )
    table = compare(count(truths, runs, len(index.classes)))
    write_table(args.output, table)
    print(table.to_string(index=False, float_format="%.2f", na_rep=""))


def _parse(argv):
    parser = documented_parser(__doc__)
    parser.add_argument("data", metavar="FOLDER", help="results/NAME of the data set")
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, metavar="SEED")
    parser.add_argument("--output", required=True, metavar="CSV")
    parser.add_argument("--root", help="folder of the photographs, if they have moved")
    return parser.parse_args(argv)


def _open_run(args, index, name):
    """Seed -> what gives the label map of an image id, for the seeds that the run has."""
    variant, stage, kind = _parts(name)
    identity = arguments.identity(args, index) | {
        "variant": variant,
        "stage": stage,
        "split": "val",
    }
    pattern = f"{variant}/seed{{}}/stage{stage}/{ARTIFACTS[kind]}/val/shard*.h5"
    label_maps = {}
    for seed in args.seeds:
        shards = sorted(Path(args.data).glob(pattern.format(seed)))
        if shards:
            reader = ArtifactReader(shards, ARTIFACTS[kind], **identity, seed=seed)
            label_maps[seed] = partial(_label_map, reader, name, kind)
    if not label_maps:
        raise InputError(
            f"--runs: {name}: no {args.data}/{pattern.format('*')} of seed {listed(args.seeds)};"
            " make them with snakemake FILE, or name another run"
        )
    return label_maps


def _parts(name):
    """Variant, stage and kind of a run."""
    match = RUN.fullmatch(name)
    if not match:
        raise InputError(
            f"--runs: {name} is not VARIANT/stageN/KIND with KIND one of {', '.join(ARTIFACTS)}"
        )
    variant, stage, kind = match.groups()
    return variant, int(stage), kind


def _label_map(reader, name, kind, image_id):
    if kind == "crf":
        return reader.read(image_id).array
    if kind == "merged":
        prediction = reader.read(image_id, ["probabilities"])
        keys, size = (prediction.attributes[key] for key in ("keys", "size"))
        return merged_label_map(prediction.array["probabilities"], keys, size)
    if kind not in reader.names(image_id):
        raise InputError(f"--runs: {name}: a network without affinity; name its unrefined maps")
    return reader.read(image_id, [kind]).array[kind]


if __name__ == "__main__":
    run(main)
