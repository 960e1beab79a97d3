"""Snakemake's report of a finished run: one file with all in it, that needs no network."""

import base64
import csv
import json
import re
from html.parser import HTMLParser

import pytest
from expected_jobs import DEMO, RUN

NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
TABLES = {
    "pseudo_labels": "pseudo labels",
    "segmentation": "predictions",
    "sizes": "predictions by size",
    "uncertainty": "worth of the order",
}


@pytest.fixture(scope="module")
def report(finished_workspace, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    style = "rules/report/report.css"
    words = ["all", "tables", "figures", "--report", str(path), "--report-stylesheet", style]
    status, said = finished_workspace.snakemake(*words, **NO_NETWORK)
    assert status == 0, said[-3000:]
    return path


@pytest.fixture(scope="module")
def page(report):
    return report.read_text(encoding="utf-8")


def variable(page, name):
    """What the page says of one of its variables, after all the libraries, which have some, too."""
    return json.loads(re.findall(rf"^\s*var {name} = (.*);$", page, re.M)[-1])


class Parts(HTMLParser):
    """Attributes that name other files, and the cells of tables."""

    def __init__(self, text):
        super().__init__()
        self.named, self.cells, self._cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.named += [value for key, value in attributes if key in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.cells[-1] += data.strip()


def test_the_page_names_no_other_file(page):
    assert Parts(page).named == []


def test_every_table_and_picture_is_in_it_as_it_lies_on_disk(page, finished_workspace):
    results = variable(page, "results")
    folder = finished_workspace.folder
    drawn = [*(folder / DEMO).glob("figures/*.png"), *(folder / DEMO).glob("tables/*.csv")]
    assert len(drawn) > 10
    tables = [f"{RUN}/stage{s}/evaluation/{name}.csv" for s in (0, 1) for name in TABLES]
    others = [*tables, f"{DEMO}/auxsegnet/summary.csv"]
    assert sorted(results) == sorted([*(str(p.relative_to(folder)) for p in drawn), *others])
    for path, result in results.items():
        content = base64.b64decode(result["data_uri"].partition("base64,")[2])
        assert content == (finished_workspace.folder / path).read_bytes()
        assert "<p>" in result["caption"]


def test_labels_are_by_stage_variant_and_seed(page):
    results = variable(page, "results")
    for stage in "01":
        for name, table in TABLES.items():
            labels = results[f"{RUN}/stage{stage}/evaluation/{name}.csv"]["labels"]
            assert labels == {"table": table, "variant": "auxsegnet", "seed": "0", "stage": stage}


def test_captions_show_their_tables(page, finished_workspace):
    path = f"{RUN}/stage1/evaluation/segmentation.csv"
    with open(finished_workspace.folder / path, newline="") as file:
        expected = [cell for row in csv.reader(file) for cell in row]
    assert Parts(variable(page, "results")[path]["caption"]).cells == expected


def test_the_first_page_says_what_was_run_and_the_scores(page, finished_workspace):
    text = variable(page, "workflow_desc")
    with open(finished_workspace.folder / DEMO / "auxsegnet/summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["stage", "pseudo_precision", "pseudo_recall", "pseudo_miou"]
    columns += ["val_miou_unrefined", "val_miou_refined", "val_miou_crf", "runs"]
    expected = [row[column] for row in rows for column in columns]
    assert Parts(text).cells[len(columns) :] == expected
    assert "AuxSegNet on demo" in text and "<tt" in text
    assert "&quot;learning_rate&quot;: 0.01" in text  # as the overlay of this run says
    assert "system-message" not in text  # nor any error of docutils
