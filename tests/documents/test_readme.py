"""The commands, targets, paths and pictures of README and docs exist."""

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from drawn_masks import write_results
from repository import ROOT

from wsss.configuration.reference import keys
from wsss.configuration.resolve import load
from wsss.configuration.sections import Configuration

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
README = TEXT[ROOT / "README.md"]
# Those in capitals tell what was seen; what they say of commands is for people who look closely.
GUIDES = "\n".join(text for page, text in TEXT.items() if page in PAGES[:3] or page.stem.islower())


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDES, re.M | re.S)


SHELL = list(dict.fromkeys(line for block in blocks("bash") for line in block.splitlines()))
SNAKEMAKE = [line for line in SHELL if line.startswith(".venv/bin/snakemake ")]
PYTHON = [line for line in SHELL if line.startswith(".venv/bin/python ")]
MAKE = [line for line in SHELL if line.startswith("make ")]
EXPORT = [line for line in SHELL if line.startswith("export ")]


def test_the_readme_is_short():
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", README, flags=re.M | re.S)
    assert len(prose.split()) <= 1000


def test_every_command_is_looked_at():
    assert len(SNAKEMAKE) > 5 and PYTHON and MAKE and EXPORT
    assert sorted(SNAKEMAKE + PYTHON + MAKE + EXPORT) == sorted(SHELL)


def test_make_targets_and_overlays_exist():
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in MAKE + re.findall(r"`(make [^`]*)`", GUIDES):
        for word in shlex.split(line)[1:]:
            name, is_variable, value = word.partition("=")
            assert is_variable or name in rules, line
            assert name != "CONFIG" or (ROOT / value).is_file(), line


@pytest.mark.parametrize(
    ("names", "given"),
    [(["a folder/with blanks.yaml"], 1), (["one.yaml", "two.yaml"], 2), (["none.yaml"], 1)],
)
def test_make_check_takes_overlays_with_blanks_in_their_paths(tmp_path, names, given):
    (tmp_path / "a folder").mkdir()
    for name in names[: 0 if names == ["none.yaml"] else None]:
        (tmp_path / name).touch()
    config = " ".join(str(tmp_path / name) for name in names)
    line = ["make", "--no-print-directory", "-n", "check", f"CONFIG={config}"]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(said.splitlines()[-1])
    assert words[-given - 1 :] == ["--configfile", *(str(tmp_path / name) for name in names)]


@pytest.fixture(scope="module")
def workspace(fresh_workspace, tmp_path_factory):
    """Without results; with weights that a user of VOC brings, or at least a file of that name."""
    made = fresh_workspace.copy(tmp_path_factory.mktemp("readme"))
    for name in re.findall(r"`(weights/\S+)`", GUIDES):
        (made.folder / name).touch()
    return made


@pytest.mark.parametrize("line", SNAKEMAKE)
def test_snakemake_commands_have_a_plan(workspace, tmp_path, line):
    variables = dict(word.split("=") for export in EXPORT for word in export.split()[1:])
    environment = {name: str(tmp_path) for name in variables}
    if "apptainer" in line:  # a plan needs no more of it than that it is there
        (tmp_path / "apptainer").write_text("#!/bin/sh\necho apptainer version 1.4.0\n")
        (tmp_path / "apptainer").chmod(0o755)
        environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    status, said = workspace.snakemake("-n", *shlex.split(line)[1:], **environment)
    expected = "Unlocked working directory" if "--unlock" in line else "Job stats"
    assert status == 0 and expected in said, said[-3000:]


@pytest.fixture(scope="module")
def with_photographs(finished_workspace, tmp_path_factory):
    """The tiny run, and the finished masks of one's own photographs."""
    made = finished_workspace.copy(tmp_path_factory.mktemp("photographs"))
    write_results(made.folder / "results/photos")
    return made


@pytest.mark.parametrize("line", PYTHON)
def test_python_commands_run(with_photographs, tmp_path, line):
    _, *words = shlex.split(line)
    options = ("--out", "--output", "--saliency")
    written = {word for option, word in pairwise(words) if option in options}
    words = [
        str(tmp_path / Path(word).name) if word in written or word.endswith(".png") else word
        for word in words
    ]
    done = subprocess.run(
        [sys.executable, *words], cwd=with_photographs.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or list(tmp_path.iterdir())


def test_python_snippets_run(finished_workspace):
    assert blocks("python")
    for snippet in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", snippet],
            cwd=finished_workspace.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("text", blocks("yaml"))
def test_overlays_in_it_are_valid(tmp_path, text):
    (tmp_path / "overlay.yaml").write_text(text)
    set_there = load([ROOT / "config.yaml", tmp_path / "overlay.yaml"])
    assert set_there != load([ROOT / "config.yaml"])


def test_artifacts_that_it_names_are_made(finished_workspace):
    """The tiny run has the layout of the demo, with stages 0 and 1."""
    for path in re.findall(r"\bresults/demo/[\w/.]+\.(?:h5|pt|csv|png)\b", GUIDES):
        assert (finished_workspace.folder / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", TEXT[page])
    for path, heading in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        if heading:
            assert heading in headings(target), f"{path}#{heading}"


def headings(page):
    """The anchors that GitHub makes of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_graph_is_true(workspace, tmp_path):
    """Its arrows are among Snakemake's, and no rule is missing."""
    drawn = "".join(blocks("mermaid"))
    arrows = set(re.findall(r"(\w+) --(?: \"[^\"]*\" --)?> (\w+)", drawn))
    overlay = ROOT / "config/folder.yaml"
    words, targets = ["--rulegraph", "--"], ["all", "tables", "figures"]
    status, said = workspace.snakemake(*words, *targets, overlays=[overlay], PHOTOS=str(tmp_path))
    assert status == 0, said
    names = dict(re.findall(r"(\d+)\[label = \"(\w+)\"", said))
    real = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", said)}
    assert arrows and arrows <= real
    rules = {name for arrow in arrows for name in arrow}
    assert rules == set(names.values()) - set(targets)


@pytest.mark.parametrize("key", re.findall(r"^\| `([a-z_.]+)`", TEXT[ROOT / "docs/rerun.md"], re.M))
def test_keys_of_the_table_are_keys(key):
    assert key in {known for known, *_ in keys(Configuration)}
