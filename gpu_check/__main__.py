"""Does the workflow compute rightly on this GPU, how fast, and what survives a kill?

Some five minutes on one GPU; without one, a miniature of the same on the CPU. Needs nothing but
what runs the jobs: PyTorch 2, NumPy, h5py, OpenCV, Pillow, PyYAML, pydantic, tqdm.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpu_check import arithmetic, inference, parity, resuming, sharing, speed
from gpu_check.answers import Answer, table, write_answers
from gpu_check.material import Material
from gpu_check.size import FULL, MINIATURE
from wsss.compute.devices import choose_device, make_repeatable
from wsss.errors import reason_of

QUESTIONS = {
    module.__name__.rpartition(".")[2]: module
    for module in (arithmetic, parity, speed, inference, resuming, sharing)
}


def main(argv: list[str] | None = None) -> int:
    """Ask the questions; 0 if all that can be wrong is right."""
    args = parse(argv)
    device = choose_device(args.device)
    on_gpu = device.type == "cuda"
    make_repeatable(0, device, os.cpu_count() if on_gpu else 1)
    size = FULL if on_gpu else MINIATURE
    found = []
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as folder:
        material = Material(device, size, Path(folder), args.photographs)
        material.prepare()
        for answer in _all_answers(material, args.only):
            print(answer, flush=True)
            found.append(answer)
            write_answers(args.output, found)
    print(f"\n{table(found)}\n{args.output} and .txt")
    return int(any(answer.ok is False for answer in found))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--photographs", type=Path, help="folder of images; else they are drawn")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--output", type=Path, default=Path("results/gpu_check.json"))
    return parser.parse_args(argv)


def _all_answers(material: Material, names: Iterable[str]) -> Iterator[Answer]:
    """Of each module; what goes wrong in one does not keep the next from answering."""
    for name in names:
        start = time.perf_counter()
        yield from _answers_of(name, material)
        seconds = time.perf_counter() - start
        yield Answer(f"time for {name}", f"{seconds:.0f} s")


def _answers_of(name: str, material: Material) -> Iterator[Answer]:
    try:
        yield from QUESTIONS[name].answers(material)
    except Exception as error:
        what = f"{type(error).__name__}: {reason_of(error)}"
        yield Answer(f"{name}: broke off", what, ok=False)


if __name__ == "__main__":
    sys.exit(main())
