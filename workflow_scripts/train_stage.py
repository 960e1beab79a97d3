"""Train all branches of AuxSegNet on the pseudo labels of a stage."""

from argparse import Namespace

from model.auxsegnet import AuxSegNet
from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.import_closure import code_digest
from workflow_scripts.jobs.training import run_training
from wsss.configuration.key_types import Section
from wsss.configuration.training_sections import Backbone, Images, Network, Stage
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.checkpoint import load_shared_weights, network_arguments, save_checkpoint
from wsss.training.loop import Hardware
from wsss.training.run import run_key, train, write_log

MODULE = "workflow_scripts.train_stage"  # __name__ is another where it is run by its name


class StageTraining(Section):
    """What a stage is trained with."""

    backbone: Backbone
    network: Network
    stage: Stage
    images: Images


def main(argv: list[str] | None = None) -> int | None:
    parser = arguments.command_parser(__doc__, StageTraining)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--pseudo-labels", nargs="+", required=True)
    parser.add_argument("--model", required=True, help="the model that the training starts from")
    return run_training(parser, MODULE, train_stage, argv)


def train_stage(args: Namespace, hardware: Hardware) -> None:
    """Train, and write the model and its log."""
    settings, parameters = args.settings, arguments.given(args.settings)
    index = arguments.dataset_index(args)
    network_args = network_arguments(
        len(index.classes), settings.backbone, **arguments.given(settings.network)
    )
    network = AuxSegNet(**network_args)
    identity = arguments.identity(args, index, "variant", "seed", "stage")
    start = load_shared_weights(network, args.model, **arguments.identity(args, index, "seed"))
    labels = ArtifactReader(args.pseudo_labels, "pseudo_labels", **identity)
    key = run_key(
        parameters,
        identity,
        start["digest"],
        labels.sources,
        hardware.kind,
        code=code_digest(MODULE),
    )
    rows, clean_up = train(
        network,
        settings_of_stage(settings.stage, args.stage),
        index,
        args.seed + 1000 * (args.stage + 1),  # every stage sees other crops
        hardware,
        long_side=settings.images.long_side,
        output=args.output,
        key=key,
        pseudo_labels=labels,
    )
    if hardware.ranks.leads:
        write_log(args.log_csv, rows)
        sources = {args.model: start["digest"], **labels.sources}
        save_checkpoint(args.output, network, network_args, identity, parameters, sources=sources)
        clean_up()


def settings_of_stage(settings: Stage, stage: int) -> Stage:
    """The section with the learning rate of this stage."""
    later = settings.later_learning_rate
    if stage > 0 and later is not None:
        return settings.model_copy(update={"learning_rate": later})
    return settings


if __name__ == "__main__":
    run(main)
