"""Classification pre-training (paper, section 3.3): the source of the CAMs of stage 0."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from typing import Literal

from model.auxsegnet import AuxSegNet
from model.weights import WeightsReport, load_weights
from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.import_closure import code_digest
from workflow_scripts.jobs.training import run_training
from wsss.configuration.key_types import Section
from wsss.configuration.training_sections import Backbone, Classifier, Images
from wsss.errors import InputError
from wsss.storage.checkpoint import network_arguments, save_checkpoint
from wsss.storage.files import sha256_of
from wsss.training.loop import Hardware
from wsss.training.run import run_key, train, write_log

log = logging.getLogger(__name__)

MODULE = "workflow_scripts.train_classifier"  # __name__ is another where it is run by its name
CLASSIFIER_ALONE = {"branches": "cls", "affinity": "none"}


class ClassifierNetwork(Section):
    """What counts of the network: variants with other branches share a classifier."""

    design: Literal["paper", "official"]


class ClassifierTraining(Section):
    """What the classifier is trained with."""

    backbone: Backbone
    network: ClassifierNetwork
    classifier: Classifier
    images: Images


def main(argv: list[str] | None = None) -> int | None:
    parser = arguments.command_parser(__doc__, ClassifierTraining)
    arguments.add_run(parser, "seed")
    parser.add_argument("--weights", required=True, help="weights that the training starts from")
    return run_training(parser, MODULE, train_classifier, argv)


def train_classifier(args: Namespace, hardware: Hardware) -> None:
    """Train, and write the model and its log."""
    settings, parameters = args.settings, arguments.given(args.settings)
    index = arguments.dataset_index(args)
    network_args = network_arguments(
        len(index.classes),
        settings.backbone,
        **arguments.given(settings.network),
        **CLASSIFIER_ALONE,
    )
    network = AuxSegNet(**network_args)
    report = start_from(network, args.weights)
    log.info("%s", report)
    if settings.classifier.epochs == 0:
        require_classifier(report, index.classes)
    identity = arguments.identity(args, index, "seed")
    sources = {args.weights: sha256_of(args.weights)}
    key = run_key(
        parameters, identity, sources[args.weights], hardware.kind, code=code_digest(MODULE)
    )
    rows, clean_up = train(
        network,
        settings.classifier,
        index,
        args.seed,
        hardware,
        long_side=settings.images.long_side,
        output=args.output,
        key=key,
    )
    if hardware.ranks.leads:
        write_log(args.log_csv, rows)
        save_checkpoint(args.output, network, network_args, identity, parameters, sources=sources)
        clean_up()


def start_from(network: AuxSegNet, path: str) -> WeightsReport:
    """`load_weights`; what is wrong with them is an error of the configuration."""
    try:
        return load_weights(network, path)
    except ValueError as error:
        raise InputError(f"backbone.weights: {error}") from error


def require_classifier(report: WeightsReport, classes: Sequence[str]) -> None:
    """InputError unless the weights can do without training."""
    if "fc8.weight" not in report.loaded:
        raise InputError(
            "classifier.epochs: 0 takes the classifier of backbone.weights as it is, but "
            f"{report.path} has none for {len(classes)} classes; set classifier.epochs to 1 or "
            "more, or backbone.weights to a file with a classifier for the classes of the data set"
        )


if __name__ == "__main__":
    run(main)
