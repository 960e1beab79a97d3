"""What Python and Snakemake take before any work is done."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.material import Bench
from benchmarks.timing import Row, Way, compare

ROOT = Path(__file__).resolve().parents[1]


def rows(bench: Bench) -> Iterator[Row]:
    """Starts of some commands; dry runs of the demo with many shards and with one."""
    bare = Way("a bare Python", lambda: run_python("-c", "pass"))
    for name in bench.size.commands:
        ours = Way(
            "with its imports", lambda m=f"workflow_scripts.{name}": run_python("-m", m, "-h")
        )
        yield compare(f"start of a job, {name}", "s", bare, ours, bench.size.rounds)
    many, few = (
        Way(f"{dry_run(bench.folder, n)} jobs, shards: {n}", lambda n=n: dry_run(bench.folder, n))
        for n in (bench.size.shards, 1)
    )
    yield compare("dry run of the demo", "s", many, few, bench.size.slow_rounds)


def dry_run(folder: Path, shards: int) -> int:
    """Plan the demo in a folder of its own; the number of jobs."""
    overlay = folder / f"{shards}.yaml"
    overlay.write_text(f"shards: {shards}\n")
    run = ["-s", ROOT / "Snakefile", "--directory", folder, "-n", "all", "--configfile", overlay]
    said = run_python("-m", "snakemake", *map(str, run))
    return int(re.search(r"^total\s+(\d+)", said, re.M).group(1))


def run_python(*arguments: str) -> str:
    """Run Python in this checkout; what it printed."""
    command, environment = [sys.executable, *arguments], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
