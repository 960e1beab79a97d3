"""Run a command with the tiny backbone as its ResNet38: its exit status is that of the command.

  PYTHONPATH=. python tests/support/peak_memory.py MODULE ARGUMENTS ...

The last line on stdout is the largest memory that the process had, in MB.
"""

import re
import sys
from importlib import import_module
from pathlib import Path


def register():
    from tiny_network import TinyBackbone

    from model.backbones import BACKBONES

    BACKBONES["resnet38"] = TinyBackbone


def main():
    # The others do without PyTorch, and so with less memory.
    if {"--model", "--weights"} & set(sys.argv):
        register()
    import_module(f"workflow_scripts.{sys.argv[1]}").main(sys.argv[2:])
    # ru_maxrss would begin with what the parent had.
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)


if __name__ == "__main__":
    main()
