"""The code that a rule is made again for: what its command imports, and nothing else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from repository import ROOT

from workflow_scripts import train_classifier, train_stage
from workflow_scripts.jobs.import_closure import PACKAGES, code_digest, files_of_module

# The command of a rule is the module of its name.
RULES = sorted(
    rule
    for file in (ROOT / "rules").glob("*.smk")
    for rule in re.findall(r"^ *rule (\w+):", file.read_text(encoding="utf-8"), re.M)
)
# Some files, and all rules that an edit of them reruns.
SCORING = {"evaluate_pseudo_labels", "evaluate_segmentation", "summarise", "sweep_thresholds"}
OF_STAGES = {"draw_costs", "draw_scores", "draw_stages", "draw_sweep"}
OF_SCORES = {"make_table", "draw_results", *OF_STAGES}
PICTURES = {"draw_affinity", "draw_cams", "draw_results", "draw_strip"}
USERS = {
    "wsss/method/crf.py": {
        "make_pseudo_labels",
        "segment_crf",
        "evaluate_segmentation",
        "sweep_thresholds",
        "make_gallery",
    },
    "wsss/reports/curves.py": {"draw_curves"},
    "wsss/reports/gallery/page.js": {"make_gallery"},
    "wsss/reports/score_figures.py": OF_STAGES,
    "wsss/reports/chosen_images.py": PICTURES,
    "wsss/reports/affinity_maps.py": {"draw_affinity"},
    "wsss/configuration/experiments.py": {"make_table", "measure_footprint"},
    "wsss/configuration/sections.py": {"make_table", "measure_footprint"},
    "wsss/configuration/output_sections.py": {
        "draw_affinity",
        "make_gallery",
        "make_table",
        "measure_footprint",
    },
    "wsss/configuration/training_sections.py": {
        "train_classifier",
        "extract_cams",
        "train_stage",
        "refine_cams",
        "segment",
        "draw_affinity",
        "make_table",
        "measure_footprint",
    },
    "wsss/reports/footprint.py": {"measure_footprint"},
    "wsss/reports/voc_submission.py": {"make_voc_submission"},
    "wsss/method/metrics.py": {*SCORING, *OF_SCORES, "measure_footprint", "make_gallery"},
    "wsss/training/loop.py": {"train_classifier", "train_stage"},
    "wsss/method/saliency.py": {"predict_saliency"},
}


def code_of(rule):
    return files_of_module(f"workflow_scripts.{rule}")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def imported_by(graph, module):
    """Files that running a module reads, as import-linter's library sees it.

    Importing a.b runs a/__init__.py too; empty ones say nothing.
    """
    known, waiting = set(), {module}
    while waiting:
        known |= waiting
        more = {upstream for name in waiting for upstream in graph.find_upstream_modules(name)}
        more |= {name.rpartition(".")[0] for name in known | more if "." in name}
        waiting = more - known
    candidates = [Path(*name.split(".")) for name in known]
    paths = [p.with_suffix(".py") for p in candidates] + [p / "__init__.py" for p in candidates]
    return {str(p) for p in paths if (ROOT / p).is_file() and (ROOT / p).stat().st_size}


@pytest.mark.parametrize("rule", RULES)
def test_the_code_of_a_rule_is_what_its_command_imports(graph, rule):
    code = [name for name in code_of(rule) if name.endswith(".py")]
    assert set(code) == imported_by(graph, f"workflow_scripts.{rule}")
    assert f"workflow_scripts/{rule}.py" in code


def test_an_edit_reruns_what_it_can_change():
    users = {path: {rule for rule in RULES if path in code_of(rule)} for path in USERS}
    assert users == USERS


def test_an_import_of_cams_starts_without_torch():
    program = "import sys, workflow_scripts.import_cams; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def edit(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


@pytest.mark.parametrize("module", [train_classifier.MODULE, train_stage.MODULE])
def test_the_digest_of_code_follows_what_a_training_uses(tmp_path, module):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    digest = code_digest(module, tmp_path)
    assert code_digest(module) == digest
    os.utime(tmp_path / "model/losses.py", (0, 0))
    edit(tmp_path / "wsss/reports/drawing.py", "Pictures for", "Pictures of")
    assert code_digest(module, tmp_path) == digest
    edit(tmp_path / "model/losses.py", "F.multilabel_soft", "3 * F.multilabel_soft")
    assert code_digest(module, tmp_path) != digest
