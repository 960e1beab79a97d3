"""Which tables of the paper a configuration has, and which runs stand in their cells.

A table is made of variants by name, those of `config/ablations.yaml` and
`config/saliency-sources.yaml`; what the networks of these are is read from their settings. Nothing
is read of a run here: the rules ask for what the cells name, and the tables are filled from that.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from pydantic import Field

from wsss.configuration.key_types import Section
from wsss.configuration.paper_numbers import paper_numbers
from wsss.configuration.resolve import variant_config
from wsss.configuration.sections import Configuration
from wsss.errors import listed

METHOD, BASELINE, MULTI_TASK = "auxsegnet", "baseline", "multi_task"
OF_BASELINE = "_baseline"  # NAME_baseline is the baseline of the variant NAME
MEAN = "mIoU"
# The paper's words for the variants of Tables 3 and 4.
TASKS = {
    BASELINE: "Baseline",
    "seg_cls": "AuxSegNet (w/ seg., cls.)",
    "seg_sal": "AuxSegNet (w/ seg., sal.)",
    MULTI_TASK: "AuxSegNet (w/ seg., cls., sal.)",
}
AFFINITIES = {
    MULTI_TASK: "AuxSegNet (multi-task baseline)",
    "seg_affinity": "+ Seg. affinity with seg. constraint",
    "cross_task_seg_constraint": "+ CT affinity with seg. constraint",
    METHOD: "+ CT affinity with seg. and sal. constraints",
}
BRANCHES = {"seg": (), "seg_cls": ("Cls.",), "seg_sal": ("Sal.",), "all": ("Cls.", "Sal.")}
SOURCES_OF_THE_PAPER = {
    "scribble": "Zhang et al. (CVPR20)",
    "poolnet": "PoolNet (CVPR19)",
    "minet": "MINet (CVPR20)",
    "dss": "DSS, the paper's own",
}
ONE_VIEW = "One view of each photograph, without post-processing; without affinity the unrefined"
POST = "*: one view, without post-processing. Final: all views merged, and the CRF."


class Run(Section):
    """A network after a stage, and which of its predictions is scored."""

    variant: str
    stage: int
    kind: Literal["unrefined", "refined", "merged", "crf"]


class Cell(Section):
    """A score over seeds, or the difference of two; beside it what the paper reports.

    Where classes are rows, `paper` has a value for each.
    """

    run: Run | None = None
    minus: Run | None = None
    paper: dict[str, float] = Field({})


class Row(Section):
    """A line of a table: texts, then a cell a column."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]


class ResultTable(Section):
    """A table in the structure of one of the paper's.

    With `by_class` its one row stands for many: one for each class, and their mean.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    by_class: bool = False

    def runs(self) -> list[Run]:
        """All runs of the cells, each once."""
        cells = (cell for row in self.rows for cell in row.cells)
        return [*dict.fromkeys(run for cell in cells for run in (cell.run, cell.minus) if run)]


class Variants(NamedTuple):
    """The resolved variants by name, and how many stages they have."""

    by_name: dict[str, Configuration]

    def score(self, name: str, stage: int = 0) -> Run:
        """Without post-processing: refined, or without affinity unrefined."""
        has_affinity = self.by_name[name].network.affinity != "none"
        return Run(variant=name, stage=stage, kind="refined" if has_affinity else "unrefined")

    def last(self, name: str) -> int:
        """The number of its last stage."""
        return self.by_name[name].stages - 1

    def final(self, name: str) -> Run:
        """After the last stage, with all views and the CRF."""
        return Run(variant=name, stage=self.last(name), kind="crf")

    def methods(self) -> list[str]:
        """The variants of several stages, which are methods and no ablations; all, if none."""
        several = [name for name in self.by_name if self.last(name)]
        return several or [*self.by_name]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those that are not configured."""
        return [name for name in names if name not in self.by_name]


def variants_of(config: Configuration) -> Variants:
    """All variants of a configuration."""
    return Variants({name: variant_config(config, name) for name in config.variants})


def result_tables(config: Configuration) -> dict[str, ResultTable]:
    """The tables whose variants are configured, by the name of their file."""
    variants, paper = variants_of(config), paper_numbers(config)
    tables = {
        "final": _final(variants, paper),
        "final_classes": _final_classes(variants, paper),
        "table3_tasks": _tasks(variants, paper),
        "table4_affinity": _affinities(variants, paper),
        "table5_stages": _stages(variants, paper),
        "table6_saliency": _sources(variants, paper),
        "supplement_table3_classes": _classes(variants, paper),
    }
    return {name: table for name, table in tables.items() if table}


def tables_not_made(config: Configuration) -> list[str]:
    """A line for each table of the paper whose variants are not configured."""
    variants = variants_of(config)
    ablations = "lay config/ablations.yaml over the configuration"
    needed = {
        "table3_tasks": (TASKS, ablations),
        "table4_affinity": (AFFINITIES, ablations),
        "supplement_table3_classes": ((BASELINE, MULTI_TASK, METHOD), ablations),
    }
    lines = [
        f"{table}: not made without the variants {listed(missing)}; {remedy}"
        for table, (names, remedy) in needed.items()
        if (missing := variants.missing(names))
    ]
    if not _pairs(variants):
        lines.append(
            "table6_saliency: not made without a method and its baseline; "
            "lay config/saliency-sources.yaml over the configuration"
        )
    if not any(map(variants.last, variants.by_name)):
        lines.append("table5_stages: not made without a variant of several stages")
    return lines


# --- one function a table -------------------------------------------------------------------------


def _of_paper(paper, table, row, column=MEAN):
    """What the paper reports for a cell of a table whose columns are no classes."""
    value = paper.get((table, row), {}).get(column)
    return {} if value is None else {MEAN: value}


def _tasks(variants, paper):
    if variants.missing(TASKS):
        return None
    rows = []
    for name, label in TASKS.items():
        branches = ("Seg.", *BRANCHES[variants.by_name[name].network.branches])
        marks = tuple("x" if task in branches else "" for task in ("Seg.", "Cls.", "Sal."))
        own = _of_paper(paper, "table3_tasks", name)
        rows.append(Row(heads=(label, *marks), cells=_against(variants, name, BASELINE, own)))
    return ResultTable(
        title="Table 3: tasks learnt together, after stage 0",
        heads=("config", "Seg.", "Cls.", "Sal."),
        columns=(MEAN, "Δ baseline"),
        rows=tuple(rows),
        notes=(f"{ONE_VIEW} score.",),
    )


def _affinities(variants, paper):
    if variants.missing(AFFINITIES):
        return None
    rows = [
        Row(
            heads=(label,),
            cells=_against(variants, name, MULTI_TASK, _of_paper(paper, "table4_affinity", name)),
        )
        for name, label in AFFINITIES.items()
    ]
    return ResultTable(
        title="Table 4: affinity learning, after stage 0",
        heads=("config",),
        columns=(MEAN, "Δ multi-task baseline"),
        rows=tuple(rows),
        notes=(f"{ONE_VIEW} score.",),
    )


def _against(variants, name, other, of_paper):
    """The score of a variant after stage 0, and its difference to another."""
    run = variants.score(name)
    difference = Cell() if name == other else Cell(run=run, minus=variants.score(other))
    return (Cell(run=run, paper=of_paper), difference)


def _stages(variants, paper):
    several = [name for name in variants.by_name if variants.last(name)]
    if not several:
        return None
    most = 1 + max(map(variants.last, several))
    rows = [row for name in several for row in _rows_of_stages(variants, name, most, paper)]
    return ResultTable(
        title="Table 5: stages",
        heads=("variant", "score"),
        columns=tuple(f"Stage{stage}" for stage in range(most)),
        rows=tuple(rows),
        notes=("One view of each photograph, without post-processing.",),
    )


def _rows_of_stages(variants, name, most, paper) -> Iterator[Row]:
    first = variants.score(name)
    runs = [variants.score(name, stage) for stage in range(variants.last(name) + 1)]
    empty = [Cell()] * (most - len(runs))
    cells = [
        Cell(run=run, paper=_of_paper(paper, "table5_stages", name, f"Stage{run.stage}"))
        for run in runs
    ]
    yield Row(heads=(name, MEAN), cells=(*cells, *empty))
    steps = [Cell(run=run, minus=first) for run in runs[1:]]
    yield Row(heads=(name, "Δ Stage0"), cells=(Cell(), *steps, *empty))


def _pairs(variants):
    """Variant -> its baseline, where both are configured."""
    named = {BASELINE: METHOD} | {
        name: name.removesuffix(OF_BASELINE)
        for name in variants.by_name
        if name.endswith(OF_BASELINE)
    }
    return {
        method: baseline
        for baseline, method in named.items()
        if not variants.missing((baseline, method))
    }


def _sources(variants, paper):
    pairs = _pairs(variants)
    if not pairs:
        return None
    rows = [
        Row(
            heads=(variants.by_name[name].saliency.source,),
            cells=_cells_of_source(variants, name, baseline),
        )
        for name, baseline in pairs.items()
    ]
    columns = ("Baseline", "Final*", "Δ", "Final")
    for source, label in SOURCES_OF_THE_PAPER.items():
        own = [_of_paper(paper, "table6_saliency", source, column) for column in columns]
        if any(own):
            rows.append(Row(heads=(label,), cells=tuple(Cell(paper=value) for value in own)))
    return ResultTable(
        title="Table 6: sources of saliency",
        heads=("saliency",),
        columns=columns,
        rows=tuple(rows),
        notes=(POST, "Baseline: segmentation alone, after stage 0."),
    )


def _cells_of_source(variants, name, baseline):
    plain, first = variants.score(name, variants.last(name)), variants.score(baseline)
    runs = ((first, None), (plain, None), (plain, first), (variants.final(name), None))
    return tuple(Cell(run=run, minus=minus) for run, minus in runs)


def _final(variants, paper):
    rows = []
    for name in variants.methods():
        plain, final = variants.score(name, variants.last(name)), variants.final(name)
        of_paper = [_of_paper(paper, "final", name, column) for column in ("Final*", "Final")]
        cells = (
            Cell(run=plain, paper=of_paper[0]),
            Cell(run=final, paper=of_paper[1]),
            Cell(run=final, minus=plain),
        )
        rows.append(Row(heads=(name, str(plain.stage)), cells=cells))
    return ResultTable(
        title="Tables 1 and 2: results on the validation images",
        heads=("variant", "stage"),
        columns=("Final*", "Final", "Δ"),
        rows=tuple(rows),
        notes=(POST,),
    )


def _final_classes(variants, paper):
    names = variants.methods()
    cells = [
        Cell(run=variants.final(name), paper=paper.get(("final_classes", name), {}))
        for name in names
    ]
    return ResultTable(
        title="The supplement's Tables 1 and 4: classes, with post-processing",
        heads=("class",),
        columns=tuple(names),
        rows=(Row(heads=("",), cells=tuple(cells)),),
        notes=("After the last stage, with all views and the CRF.",),
        by_class=True,
    )


def _classes(variants, paper):
    if variants.missing((BASELINE, MULTI_TASK, METHOD)):
        return None
    first = variants.score(BASELINE)
    last = variants.score(METHOD, variants.last(METHOD))
    cells = {
        "Baseline": Cell(run=first),
        "MT": Cell(run=variants.score(MULTI_TASK)),
        "MT+CT": Cell(run=variants.score(METHOD)),
        "MT+CT+IL": Cell(run=last),
        "Overall improvement": Cell(run=last, minus=first),
    }
    own = [
        cell.model_copy(update={"paper": paper.get(("supplement_table3_classes", column), {})})
        for column, cell in cells.items()
    ]
    return ResultTable(
        title="The supplement's Table 3: ablations by class",
        heads=("class",),
        columns=tuple(cells),
        rows=(Row(heads=("",), cells=tuple(own)),),
        notes=(
            "MT: multi-task learning. CT: cross-task affinity. IL: iterative learning, after"
            f" stage {last.stage}; the others after stage 0.",
            f"{ONE_VIEW} score.",
        ),
        by_class=True,
    )
