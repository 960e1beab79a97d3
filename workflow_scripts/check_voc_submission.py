"""Would VOC's evaluation server take an archive? One line per kind of problem, or `ok`.

python -m workflow_scripts.check_voc_submission ARCHIVE --list TEST_LIST --images JPEGImages

Another list than VOC 2012's 1,456 ids is a problem too, but for --any-count.
"""

from collections import Counter
from pathlib import Path

from workflow_scripts.jobs.command import documented_parser, run
from wsss.datasets.voc import read_list
from wsss.errors import InputError, listed
from wsss.reports.voc_submission import TEST_IMAGES, check_submission, photograph_sizes


def main(argv: list[str] | None = None) -> int:
    parser = documented_parser(__doc__)
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a .tar.gz")
    parser.add_argument("--list", required=True, metavar="TEST_LIST", help="ids that it must hold")
    parser.add_argument("--images", required=True, type=Path, help="the folder of the photographs")
    parser.add_argument("--any-count", action="store_true", help="allow a list of another length")
    args = parser.parse_args(argv)
    if not args.archive.is_file():
        raise InputError(f"{args.archive}: no such file")
    ids = _ids(args.list)
    problems = check_submission(args.archive, photograph_sizes(ids, args.images))
    note = "" if len(ids) == TEST_IMAGES else f" (VOC 2012's test list has {TEST_IMAGES})"
    if note and not args.any_count:
        problems.append(f"{len(ids)} images in {args.list}{note}: give that one, or --any-count")
    for line in problems or [f"ok: {len(ids)} masks{note}"]:
        print(line)
    return 1 if problems else 0


def _ids(path):
    ids = read_list(path)
    repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if not ids or repeated:
        problem = f"names {listed(repeated)} twice" if ids else "names no image"
        raise InputError(f"--list {path} {problem}: give the test list of VOC 2012")
    return ids


if __name__ == "__main__":
    run(main)
