"""Look into an artifact (.h5), a checkpoint (.pt) or a folder of results of this workflow.

Without ID: what the file is, what it was made with and from, and what its arrays hold.
With ID: the arrays of that image; with --png, a picture of the image and its maps.
With --ids: every image id, one a line.
With --compare: how an artifact differs from another one of its kind, and in which images.
Of a folder: whether all artifacts and checkpoints in it are whole and belong together.

  python -m workflow_scripts.inspect_artifact results/demo/classifier/default/seed0/cams/shard0.h5
  python -m workflow_scripts.inspect_artifact FILE train_0007 --png train_0007.png
  python -m workflow_scripts.inspect_artifact FILE --compare OTHER
  python -m workflow_scripts.inspect_artifact results/demo

Exit status: 0 if all is well, 1 if something could not be read, or a folder has a problem.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from workflow_scripts.jobs.command import documented_parser, run
from wsss.datasets.index import TEST, data_above, read_dataset
from wsss.errors import InputError
from wsss.reports.artifact_comparison import compare_artifacts
from wsss.reports.artifact_pictures import draw_image
from wsss.reports.drawing import save_picture
from wsss.reports.inspection import Artifact, describe_artifact, describe_checkpoint, describe_image
from wsss.reports.results_tree import check_tree


def find_photograph(
    args: Namespace, artifact: Artifact, image_id: str
) -> tuple[np.ndarray | None, np.ndarray | None, str | None]:
    """The photograph and the ground truth of an image, as far as they can be found.

    Returns:
        uint8 RGB (H, W, 3), uint8 class ids (H, W), and a line to tell if something is amiss.
    """
    folder = args.data or data_above(args.file)
    if folder is None:
        return None, None, "no index.csv above the file (give --data): drawing the maps alone"
    try:
        index = read_dataset(folder, args.root, test=artifact.header.get("split") == TEST)
        record = index.record(image_id)
        image = index.read_image(record)
        mask = index.read_mask(record) if record.mask else None
    except InputError as error:
        return None, None, f"{error}: drawing the maps alone"
    changed = index.digest != artifact.header.get("index_digest", index.digest)
    note = f"{folder}/index.csv is not the index that the file was made with" if changed else None
    return image, mask, note


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    _check_arguments(args)
    if Path(args.file).is_dir():
        return look_through(args.file)
    text, picture = look(args)
    if picture is not None:
        save_picture(args.png, picture)
        text.append(f"\n{args.png} written")
    print_quietly(text)
    return 0


def look_through(folder: str) -> int:
    """Say what lies in a folder of results; the exit status."""
    text, problems = check_tree(folder)
    found = f"{len(problems)} problem(s)" if problems else "all is well"
    print_quietly([*text, "", *(f"problem: {line}" for line in problems), found])
    return 1 if problems else 0


def _parse(argv):
    parser = documented_parser(__doc__)
    parser.add_argument("file", help="an artifact (.h5), a checkpoint (model.pt) or a folder")
    parser.add_argument("id", nargs="?", help="an image id")
    parser.add_argument("--ids", action="store_true", help="list every image id, and nothing else")
    parser.add_argument("--compare", metavar="OTHER", help="another artifact of the same kind")
    parser.add_argument("--png", help="draw the image with its maps to this file")
    parser.add_argument("--data", help="folder with index.csv; default: the nearest above the file")
    parser.add_argument("--root", help="folder of the photographs, if they have moved")
    return parser.parse_args(argv)


def _check_arguments(args):
    if Path(args.file).is_dir() and (args.id or args.ids or args.compare or args.png):
        raise InputError(f"{args.file}: a folder; leave ID and options out, or name a file in it")
    if (args.id or args.ids or args.compare) and _is_checkpoint(args.file):
        raise InputError(f"{args.file}: a checkpoint holds no images; leave ID and options out")
    if args.compare and (args.id or args.ids or args.png):
        raise InputError("--compare takes all images of both files: leave ID, --ids and --png out")
    if args.ids and (args.id or args.png):
        raise InputError("--ids lists every image, and nothing else: leave ID and --png out")
    if args.png and not args.id:
        raise InputError("--png draws one image: give its id after the file")
    if args.png and not Path(args.png).absolute().parent.is_dir():
        raise InputError(f"--png {args.png}: the folder does not exist; make it first")


def _is_checkpoint(path):
    return Path(path).suffix in (".pt", ".pth")


def look(args: Namespace) -> tuple[list[str], np.ndarray | None]:
    """Lines of text, and the picture."""
    if _is_checkpoint(args.file):
        return describe_checkpoint(args.file), None
    artifact = Artifact(args.file)
    if args.compare:
        return compare_artifacts(artifact, Artifact(args.compare)), None
    if args.ids:
        return list(artifact.ids), None
    if args.id is None:
        return describe_artifact(artifact, args.file), None
    text = describe_image(artifact, args.id)
    if not args.png:
        return text, None
    image, mask, note = find_photograph(args, artifact, args.id)
    text += [f"\n{note}"] if note else []
    return text, draw_image(artifact, args.id, image, mask)


def print_quietly(lines: Iterable[str]) -> None:
    """Print lines without control characters; a reader that stops early (head) is no error."""
    text = "".join(f"{line}\n" for line in lines)
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run(main)
