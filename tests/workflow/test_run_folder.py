"""A run in a folder of its own: `snakemake -s CLONE/Snakefile --directory RUN`."""

import json
import os

from expected_jobs import RUN
from tiny_run import TINY_DEMO, TINY_RUN
from workspace import Workspace

MODEL = f"{RUN}/stage0/train/model.pt"
TINY = TINY_RUN | {
    "recipe": "demo",
    "stages": 1,
    "dataset": TINY_DEMO | {"name": "demo", "format": "demo"},
}


def run_beside(clone, folder, configuration=None):
    """A folder for a run, with its config.yaml if it has one; the code is in `clone`."""
    folder.mkdir()
    if configuration:
        (folder / "config.yaml").write_text(json.dumps(configuration))  # JSON is YAML
    return Workspace(folder, clone=clone)


def test_an_empty_folder_plans_what_the_clone_plans(fresh_workspace, tmp_path):
    run = run_beside(fresh_workspace.folder, tmp_path / "run")
    assert set(run.plan()) == set(fresh_workspace.plan())


def test_the_folder_s_own_configuration_counts_on_slurm_too(fresh_workspace, tmp_path):
    run = run_beside(fresh_workspace.folder, tmp_path / "run", TINY)
    planned = run.plan("--profile", f"{fresh_workspace.folder}/slurm")
    assert set(planned) == set(fresh_workspace.plan(overlays=[TINY]))


def files_of(clone):
    """All that lies in a clone, but for the bytecode of what was imported from it."""
    return {path for path in clone.rglob("*") if "__pycache__" not in path.parts}


def test_a_real_run_beside_a_clone_that_moves_and_is_edited(tmp_path):
    """Blanks in both paths come to the jobs as they are, and a `wsss` in the folder does not."""
    clone = Workspace.create(tmp_path / "the clone").folder
    before = files_of(clone)
    run = run_beside(clone, tmp_path / "the run", TINY)
    (run.folder / "wsss.py").write_text("raise SystemExit('not the code of the clone')")
    run.make(MODEL)
    assert (run.folder / MODEL).is_file() and (run.folder / "results/demo/data").is_dir()
    assert files_of(clone) == before

    moved = clone.rename(tmp_path / "another clone")
    for path in files_of(moved):
        os.utime(path)  # as after an update that changed nothing here
    run = Workspace(run.folder, clone=moved)
    assert run.counts("--", MODEL) == {}

    with open(moved / "wsss/method/crf.py", "a") as file:
        file.write("\n# an edit that Snakemake must take for one\n")
    assert run.counts("--", MODEL) == {"make_pseudo_labels": 1, "train_stage": 1}
