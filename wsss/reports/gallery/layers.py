"""What the gallery can lay over a photograph: maps of all runs, from their artifacts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss.method.label_maps import merged_label_map
from wsss.storage.artifacts import ArtifactReader

# What a layer holds: class ids of every pixel, one map, or a map for each class in `keys`.
LABELS, MAP, CLASS_MAPS = "labels", "map", "class maps"
FORMS = {
    "cam": CLASS_MAPS,
    "saliency": MAP,
    "refined_saliency": MAP,
    "saliency_target": MAP,
    "pseudo_label": LABELS,
    "unrefined": LABELS,
    "refined": LABELS,
    "merged": LABELS,
    "crf": LABELS,
}


@dataclass(frozen=True)
class Layer:
    """An array of an artifact.

    `name` is one of FORMS; `array` is the array's own, where a record has several;
    `ignore_prediction` says how 255 in it is scored, as in `ConfusionMatrix`.
    """

    name: str
    reader: ArtifactReader
    array: str | None
    ignore_prediction: str

    def read(self, image_id: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """The array of an image and the attributes of its record, or None where there is none.

        Label maps are uint8 (H, W); maps are uint8 of 255ths or float of 0..1, (h, w) or (K, h, w).
        """
        if image_id not in self.reader:
            return None
        if self.array is None:
            record = self.reader.read(image_id)
            return record.array, record.attributes
        if self.array not in self.reader.names(image_id):
            return None  # a network without affinity refines nothing
        record = self.reader.read(image_id, [self.array])
        array, attributes = record.array[self.array], record.attributes
        if self.name == "merged":
            array = merged_label_map(array, attributes["keys"], attributes["size"])
        return array, attributes


@dataclass(frozen=True)
class Run:
    """A variant, seed and stage; `layers` is name -> number of the layer in `Layers.all`."""

    variant: str
    seed: int
    stage: int
    layers: dict[str, int]


class Layers:
    """The layers of all runs below the folder of a data set; what runs share is there once.

    Args:
        folder: results/NAME.
        identity: data set, digest of its index and classes, which every artifact must have.
        shards: files of an artifact and split.
        intermediate: whether CAMs, refined saliency and predictions before the CRF are kept.
    """

    def __init__(
        self, folder: str | Path, identity: Mapping[str, Any], shards: int, intermediate: bool
    ):
        self.folder, self.identity = Path(folder), dict(identity)
        self.shards, self.intermediate = shards, intermediate
        self.all: list[Layer] = []
        self.runs: list[Run] = []
        self._readers: dict[tuple[str, ...], ArtifactReader] = {}

    def add_run(
        self,
        run: Mapping[str, Any],
        *,
        source: str,
        classifier: str | None,
        splits: Sequence[str],
        ignore_prediction: str,
    ) -> None:
        """Add the layers of a run.

        Args:
            run: its variant, seed and stage.
            source: of its off-the-shelf saliency.
            classifier: whose CAMs stage 0 begins with; None where it begins with given labels.
            splits: what was predicted at this stage.
            ignore_prediction: how 255 in its pseudo labels is scored.

        Raises:
            InputError: an artifact is missing, damaged, or another run's.
        """
        place = "{variant}/seed{seed}/stage{stage}".format(**run)
        layers = {"saliency": self._number("saliency", [f"saliency/{source}"], "saliency", {})}
        for name, folders, kind, array in self._of_stage(place, run["stage"], splits):
            layers[name] = self._number(name, folders, kind, run, array, ignore_prediction)
        if self.intermediate and run["stage"] == 0 and classifier:
            first = {"seed": run["seed"], "stage": 0}
            folder = f"classifier/{classifier}/seed{run['seed']}/cams"
            layers["cam"] = self._number("cam", [folder], "cams", first)
        self.runs.append(Run(**run, layers={n: layers[n] for n in FORMS if n in layers}))

    def _of_stage(
        self, place: str, stage: int, splits: Sequence[str]
    ) -> Iterator[tuple[str, list[str], str, str | None]]:
        """Name, folders, kind of artifact and array of the layers in the folder of a stage."""
        yield "pseudo_label", [f"{place}/pseudo_labels"], "pseudo_labels", "segmentation"
        if stage > 0:  # at stage 0 it is the off-the-shelf saliency
            yield "saliency_target", [f"{place}/pseudo_labels"], "pseudo_labels", "saliency"
        if stage > 0 and self.intermediate:
            yield "cam", [f"{place}/cams"], "cams", None
            yield "refined_saliency", [f"{place}/saliency"], "refined_saliency", None
        if self.intermediate:
            folders = [f"{place}/predictions/{split}" for split in splits]
            yield "unrefined", folders, "predictions", "unrefined"
            yield "refined", folders, "predictions", "refined"
            yield "merged", folders, "predictions", "probabilities"
        folders = [f"{place}/predictions_crf/{split}" for split in splits]
        yield "crf", folders, "predictions_crf", None

    def _number(self, name, folders, kind, who, array=None, ignore_prediction="miss"):
        """The number of a layer, which is new unless another run has it, too."""
        layer = Layer(name, self._reader(folders, kind, who), array, ignore_prediction)
        if layer not in self.all:
            self.all.append(layer)
        return self.all.index(layer)

    def _reader(self, folders, kind, who):
        if tuple(folders) not in self._readers:
            paths = [
                self.folder / folder / f"shard{shard}.h5"
                for folder in folders
                for shard in range(self.shards)
            ]
            self._readers[tuple(folders)] = ArtifactReader(paths, kind, **self.identity, **who)
        return self._readers[tuple(folders)]
