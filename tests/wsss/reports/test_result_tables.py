"""Tables of results from tables of overlaps, against means, deviations and draws by hand."""

import csv
import json

import numpy as np
import pytest

from workflow_scripts import make_table
from wsss.configuration.experiments import Cell, ResultTable, Row, Run
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.method.comparison import image_weights
from wsss.method.evaluation import overlap_table, write_table

CLASSES = ("cat", "dog")
IMAGES = 9
BASE = Run(variant="base", stage=0, kind="unrefined")
BEST = Run(variant="best", stage=1, kind="crf")


def random_overlaps(seed):
    """Intersections and unions of images by id: (2, C + 1) each."""
    rng = np.random.default_rng(seed)
    unions = rng.integers(50, 100, (IMAGES, 3))
    hits = (unions * rng.random((IMAGES, 3))).astype(int)
    return {f"2007_00{i}": np.stack([hits[i], unions[i]]) for i in range(IMAGES)}


@pytest.fixture
def overlaps(tmp_path):
    """Overlaps of two runs and three seeds, as evaluate_segmentation leaves them."""
    records = tuple(
        ImageRecord(f"2007_00{i}", "val", True, "x.jpg", "m.png", 9, 9, ()) for i in range(IMAGES)
    )
    write_dataset(DatasetIndex(tmp_path, CLASSES, (1, 2), records), tmp_path / "set")
    found = {}
    for number, run in enumerate((BASE, BEST)):
        for seed in range(3):
            found[run, seed] = random_overlaps(10 * number + seed)
            file = tmp_path / "set" / run.variant / f"seed{seed}/stage{run.stage}/evaluation"
            rows = overlap_table(
                dict(reversed(found[run, seed].items())) if number else found[run, seed]
            )
            write_table(file / "overlaps.csv", rows.assign(prediction=run.kind))
    return found


def table(*cells, by_class=False):
    columns = tuple("abcd"[: len(cells)])
    rows = (Row(heads=("row",), cells=cells),)
    return ResultTable(
        title="A table", heads=("name",), columns=columns, rows=rows, notes=("A note.",),
        by_class=by_class,
    )  # fmt: skip


def made(tmp_path, settings, seeds=(0, 1, 2)):
    """Rows of the CSV, and the Markdown."""
    words = ["--data", tmp_path / "set", "--settings", settings.model_dump_json()]
    words += ["--seeds", *seeds, "--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md"]
    make_table.main([str(word) for word in words])
    with open(tmp_path / "t.csv", newline="") as file:
        return list(csv.DictReader(file)), (tmp_path / "t.md").read_text()


def class_ious(of_images, drawn=None):
    """IoU of each class over images, or some of them several times; in plain sums."""
    images = list(of_images.values())
    images = images if drawn is None else [images[i] for i in drawn]
    hits, unions = sum(images)
    return 100 * hits / unions


def test_scores_and_paired_differences_with_their_interval(tmp_path, overlaps):
    (row,), text = made(tmp_path, table(Cell(run=BEST), Cell(run=BEST, minus=BASE)))
    best, base = (
        [class_ious(overlaps[run, seed]).mean() for seed in range(3)] for run in (BEST, BASE)
    )
    differences = np.subtract(best, base)
    draws = []
    for weights in image_weights(IMAGES)[1:].astype(int):
        drawn = np.repeat(np.arange(IMAGES), weights)
        of_seeds = [
            class_ious(overlaps[BEST, s], drawn).mean()
            - class_ious(overlaps[BASE, s], drawn).mean()
            for s in range(3)
        ]
        draws.append(np.mean(of_seeds))
    low, high = np.percentile(draws, [2.5, 97.5])
    expected = {
        "a": np.mean(best),
        "a_std": np.std(best, ddof=1),
        "b": differences.mean(),
        "b_std": differences.std(ddof=1),
        "b_low": low,
        "b_high": high,
    }
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=0.006)
    assert (row["name"], row["a_runs"], row["b_runs"]) == ("row", "3", "3")
    score = f"{np.mean(best):.1f} ± {np.std(best, ddof=1):.1f} (3)"
    assert text.startswith("# A table\n\n| name | a | b |\n| --- | --- | --- |\n")
    change = f"{differences.mean():+.1f} ± {differences.std(ddof=1):.1f} (3)"
    assert f"| row | {score} | {change} [{low:+.1f}, {high:+.1f}] |" in text
    assert "- A note." in text and "set: 9 validation images are scored" in text


def test_classes_are_rows_and_the_last_one_their_mean(tmp_path, overlaps):
    paper = {"background": 91.7, "mIoU": 69.0}
    settings = table(Cell(run=BEST, paper=paper), Cell(run=BEST, minus=BASE), by_class=True)
    rows, text = made(tmp_path, settings)
    assert [row["name"] for row in rows] == ["background", "cat", "dog", "mIoU"]
    best, base = (
        np.mean([class_ious(overlaps[run, s]) for s in range(3)], axis=0) for run in (BEST, BASE)
    )
    found = np.array([[float(row["a"]), float(row["b"])] for row in rows])
    expected = np.stack([best, best - base], axis=1)
    np.testing.assert_allclose(found[:3], expected, atol=0.006)
    np.testing.assert_allclose(found[3], expected.mean(axis=0), atol=0.006)
    assert [row["a_paper"] for row in rows] == ["91.70", "", "", "69.00"]
    assert "| name | a | paper | b |" in text and "paper: Xu et al." in text


def test_one_run_has_no_deviation_and_an_empty_cell_nothing(tmp_path, overlaps):
    (row,), text = made(tmp_path, table(Cell(run=BASE), Cell(), Cell(paper={"mIoU": 56.9})), [1])
    value = class_ious(overlaps[BASE, 1]).mean()
    assert (row["a_std"], row["a_runs"], row["c_paper"]) == ("", "1", "56.90")
    assert f"| row | {value:.1f} (1) |  |  | 56.9 |" in text


def test_without_scored_images_the_cells_are_empty(tmp_path, overlaps):
    for file in (tmp_path / "set").rglob("overlaps.csv"):
        write_table(file, overlap_table({}).assign(prediction=""))
    (row,), text = made(tmp_path, table(Cell(run=BASE), Cell(run=BEST, minus=BASE)))
    assert (row["a"], row["b"]) == ("", "") and "| row |  |  |" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("prediction,image_id\ncrf,a\n", "a table without the column class_id"),
        ("prediction,image_id,class_id,intersection,union\nmerged,a,0,1,2\n", "no prediction crf"),
    ],
)
def test_a_wrong_table_is_refused_by_name(tmp_path, overlaps, content, message):
    file = tmp_path / "set/best/seed1/stage1/evaluation/overlaps.csv"
    file.unlink()
    if content:
        file.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        made(tmp_path, table(Cell(run=BEST)))
    assert str(file) in str(error.value) and not (tmp_path / "t.csv").exists()


def test_the_settings_of_a_rule_can_be_read_back():
    """Rules hand tables over as JSON."""
    settings = table(Cell(run=BEST, minus=BASE, paper={"mIoU": 1.0}))
    text = json.dumps(settings.model_dump(mode="json"))
    assert ResultTable.model_validate_json(text) == settings
