"""Each part of the work the plain way and as it is done here: the table of docs/BENCHMARKS.md.

On one thread, in turns, by the seconds of the processor. Needs this checkout and nothing else.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from importlib import metadata
from pathlib import Path

import cv2
import torch

from benchmarks import jobs, labelling, loading, network
from benchmarks.material import TINY, Bench, Size
from benchmarks.timing import Row
from wsss.compute.devices import make_repeatable
from wsss.storage.files import atomic_path, write_csv

PARTS = {"loading": loading, "labelling": labelling, "network": network, "jobs": jobs}
BEGIN, END = "<!-- made by make bench -->\n", "<!-- end of what make bench makes -->\n"
HEADINGS = "| part | the plain way | here | unit | plain | here | times as fast |"
PACKAGES = ("torch", "opencv-python-headless", "pillow", "h5py")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="little of each, to see that it runs")
    parser.add_argument("--page", type=Path, help="Markdown whose table is replaced")
    parser.add_argument("--csv", type=Path, help="the table for programs")
    args = parser.parse_args(argv)
    rows = []
    for row in measured(TINY if args.tiny else Size(), args.only):
        print(cells(row), flush=True)
        rows.append(row)
    if args.csv:
        write_csv(args.csv, [field.name for field in fields(Row)], map(astuple, rows))
    if args.page:
        table = "\n".join([HEADINGS, "|---|---|---|---|--:|--:|--:|", *map(cells, rows)])
        write_between(args.page, f"\n{machine()}\n\n{table}\n\n")


def measured(size: Size, parts: Iterable[str]) -> Iterator[Row]:
    """The rows of these parts; files lie in a folder that is removed afterwards."""
    make_repeatable(0, torch.device("cpu"), threads=1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        bench = Bench(Path(folder), size)
        for name in parts:
            yield from PARTS[name].rows(bench)


def cells(row: Row) -> str:
    """A line of the table."""
    figures = (f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in (row.plain, row.ours))
    words = (row.part, row.plain_way, row.our_way, row.unit, *figures, f"{row.ratio:.2f}")
    return f"| {' | '.join(words)} |"


def machine() -> str:
    """What the figures were taken on."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    python = platform.python_version()
    return f"One thread of {os.cpu_count()}, {processor()}; Python {python}, {versions}."


def processor() -> str:
    """Its name, where the system is Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def write_between(page: Path, made: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    with atomic_path(page) as temporary:
        temporary.write_text(f"{before}{begin}{made}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
