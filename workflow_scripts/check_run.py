"""Before hours of compute: are all files there and readable, which device, how much disk?"""

import argparse
import json
import sys
from pathlib import Path

from workflow_scripts.command import run
from wsss.check import check_run
from wsss.datasets.formats import build_index
from wsss.datasets.index import read_index
from wsss.errors import InputError


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-json", required=True, help="merged configuration: JSON or file")
    parser.add_argument("--root", help="folder of the data set, instead of dataset.root")
    parser.add_argument("--index", help="index.csv to use (default: index the data set anew)")
    parser.add_argument("--classes", help="classes.csv that belongs to --index")
    parser.add_argument("--results", default="results", help="folder that the run will write to")
    options = parser.parse_args(arguments)
    config = read_config(options.config_json)
    if options.index:
        root = options.root or config["dataset"]["root"]
        index = read_index(options.index, options.classes, root)
    else:
        index = build_index(config["dataset"], options.root)
    return report(check_run(config, index, options.results))


def read_config(text):
    """The configuration from a JSON string, or from the file that it names."""
    try:
        is_json = text.lstrip().startswith("{")
        return json.loads(text if is_json else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--config-json cannot be read: {error}") from error


def report(findings, stream=None):
    """Print a table and return the exit code: 1 if there is a problem."""
    stream = stream or sys.stdout
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.level:8}{finding.subject:{width}}  {finding.message}", file=stream)
    problems = sum(finding.level == "problem" for finding in findings)
    print(f"{problems} problem(s)" if problems else "ready to run", file=stream)
    return 1 if problems else 0


if __name__ == "__main__":
    run(main)
