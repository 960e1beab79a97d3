"""Export a network of design `official` under the names of the released code.

python -m workflow_scripts.export_weights results/.../train/model.pt --output released.pth

A classifier is exported under the names of PSA's (`res38_cls.pth`). The backbone must be resnet38.
"""

import logging

import torch

from model.weights import released_state
from workflow_scripts.jobs.command import documented_parser, run
from wsss.errors import InputError
from wsss.storage.checkpoint import load_network
from wsss.storage.files import QuietFile, atomic_path

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = documented_parser(__doc__)
    parser.add_argument("model", help="a checkpoint of this workflow")
    parser.add_argument("--output", required=True, help="the PyTorch file to write")
    args = parser.parse_args(argv)
    network, _ = load_network(args.model, "cpu")
    try:
        state = released_state(network)
    except ValueError as error:
        raise InputError(f"{args.model}: cannot be exported: {error}") from error
    with atomic_path(args.output) as temporary, QuietFile(temporary, "w+") as file:
        torch.save(state, file)
    log.info("%s: %d tensors", args.output, len(state))


if __name__ == "__main__":
    run(main)
