"""A look at config.yaml; overlays of --configfile are read by Snakemake before any rule."""

import sys
from pathlib import Path

from wsss.errors import InputError
from wsss.configuration.yaml_files import read_yaml

try:
    if Path("config.yaml").is_file():
        read_yaml("config.yaml")
except InputError as error:
    sys.exit(f"error: configuration: {error}")
