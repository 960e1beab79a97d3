"""The embedded default shows refinement at work: its first stage, run for real (3 minutes).

Seen with data seeds 0, 1 and 2 (docs/RESULTS.md): pseudo labels +2.0, +1.7 and +2.0 points of
mIoU from stage 0 to stage 1, refined over unrefined predictions of stage 0 +1.4, +0.4 and +1.7.
The default is seed 0; asserted is about half, since another processor rounds differently.
"""

import pandas as pd
import pytest
from workspace import Workspace

pytestmark = pytest.mark.slow
RUN = "results/demo/auxsegnet/seed0"
TABLES = (
    f"{RUN}/stage0/evaluation/pseudo_labels.csv",
    f"{RUN}/stage0/evaluation/segmentation.csv",
    f"{RUN}/stage1/evaluation/pseudo_labels.csv",
)


@pytest.fixture(scope="module")
def means(tmp_path_factory):
    """The rows of means of `TABLES`, by table."""
    workspace = Workspace.create(tmp_path_factory.mktemp("demo"))
    workspace.make(*TABLES)
    tables = {name: pd.read_csv(workspace.folder / name) for name in TABLES}
    return {name: table[table["class_id"].isna()] for name, table in tables.items()}


def test_refined_cams_make_better_pseudo_labels(means):
    before, after = (means[TABLES[i]].iloc[0] for i in (0, 2))
    assert after["iou"] > before["iou"] + 0.9
    assert after["recall"] > before["recall"]
    assert after["precision"] > before["precision"] - 3  # held


def test_the_affinity_refines_predictions(means):
    iou = means[TABLES[1]].set_index("prediction")["iou"]
    assert iou["refined"] > iou["unrefined"] + 0.6
    assert iou["crf"] > iou["refined"]
