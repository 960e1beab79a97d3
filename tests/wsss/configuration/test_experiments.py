"""Which tables a configuration has, of which runs."""

from repository import ROOT

from wsss.configuration.experiments import Run, result_tables, tables_not_made
from wsss.configuration.resolve import load, merge, resolve
from wsss.configuration.yaml_files import read_yaml

CONFIG = ROOT / "config"


def configured(*overlays, **more):
    """The demo with overlays of `config/` by name."""
    user = read_yaml(ROOT / "config.yaml")
    for name in overlays:
        user = merge(user, read_yaml(CONFIG / f"{name}.yaml"))
    return resolve(merge(user, more))


def cells(table):
    """Texts of a row -> (run, minus) of its cells as `variant/stageN/kind`."""

    def name(run):
        return run and f"{run.variant}/stage{run.stage}/{run.kind}"

    return {
        row.heads: [(name(cell.run), name(cell.minus)) for cell in row.cells] for row in table.rows
    }


def test_the_tables_of_each_overlay():
    always = {"final", "final_classes", "table5_stages"}
    ablations = {"table3_tasks", "table4_affinity", "supplement_table3_classes"}
    assert result_tables(configured()).keys() == always
    sources = {"table6_saliency"}  # of the ablations it has the row of the one source
    assert result_tables(configured("ablations")).keys() == always | ablations | sources
    assert result_tables(configured("saliency-sources")).keys() == always | sources
    assert result_tables(configured(stages=1)).keys() == always - {"table5_stages"}


def test_what_is_not_made_is_said_with_a_remedy():
    lines = tables_not_made(configured(stages=1))
    assert [line.split(":")[0] for line in lines] == [
        *("table3_tasks", "table4_affinity", "supplement_table3_classes"),
        *("table6_saliency", "table5_stages"),
    ]
    assert "variants baseline, seg_cls" in lines[0] and "config/ablations.yaml" in lines[0]
    assert tables_not_made(configured("ablations", "saliency-sources")) == []


def test_ablations_are_scored_after_stage_0_without_post_processing():
    """Without affinity there are no refined maps."""
    tables = result_tables(configured("ablations"))
    first = "baseline/stage0/unrefined"
    assert cells(tables["table3_tasks"]) == {
        ("Baseline", "x", "", ""): [(first, None), (None, None)],
        ("AuxSegNet (w/ seg., cls.)", "x", "x", ""): [
            ("seg_cls/stage0/unrefined", None),
            ("seg_cls/stage0/unrefined", first),
        ],
        ("AuxSegNet (w/ seg., sal.)", "x", "", "x"): [
            ("seg_sal/stage0/unrefined", None),
            ("seg_sal/stage0/unrefined", first),
        ],
        ("AuxSegNet (w/ seg., cls., sal.)", "x", "x", "x"): [
            ("multi_task/stage0/unrefined", None),
            ("multi_task/stage0/unrefined", first),
        ],
    }
    scored = [row[0][0] for row in cells(tables["table4_affinity"]).values()]
    assert scored == [
        "multi_task/stage0/unrefined",
        "seg_affinity/stage0/refined",
        "cross_task_seg_constraint/stage0/refined",
        "auxsegnet/stage0/refined",
    ]
    (row,) = cells(tables["supplement_table3_classes"]).values()
    last = "auxsegnet/stage2/refined"
    assert row[-2:] == [(last, None), (last, first)]


def test_stages_and_sources():
    tables = result_tables(configured("saliency-sources"))
    stages = cells(tables["table5_stages"])
    assert [name for name, _ in stages] == [
        *["auxsegnet"] * 2,
        *["u2net"] * 2,
        *["centre_prior"] * 2,
    ]
    runs = [f"u2net/stage{stage}/refined" for stage in range(3)]
    assert [run for run, _ in stages["u2net", "mIoU"]] == runs
    assert stages["u2net", "Δ Stage0"] == [(None, None), *((run, runs[0]) for run in runs[1:])]
    sources = cells(tables["table6_saliency"])
    assert list(sources) == [("u2netp",), ("u2net",), ("centre_prior",)]
    assert sources["centre_prior",] == [
        ("centre_prior_baseline/stage0/unrefined", None),
        ("centre_prior/stage2/refined", None),
        ("centre_prior/stage2/refined", "centre_prior_baseline/stage0/unrefined"),
        ("centre_prior/stage2/crf", None),
    ]
    run = Run(variant="baseline", stage=0, kind="unrefined")
    assert tables["table6_saliency"].runs().count(run) == 1


def test_the_paper_s_numbers_stand_beside_the_results(monkeypatch):
    for name in ("VOC_ROOT", "VOC_SALIENCY"):
        monkeypatch.setenv(name, "/data")
    files = [ROOT / "config.yaml", CONFIG / "voc2012.yaml", CONFIG / "ablations.yaml"]
    table = result_tables(load(files))["table4_affinity"]
    beside = [row.cells[0].paper["mIoU"] for row in table.rows]
    assert beside == [60.8, 61.5, 62.6, 64.1]
