"""Looking into artifacts and checkpoints: what is said, what is drawn, what is refused."""

import copy
import os
import subprocess
import sys
from importlib import metadata

import h5py
import numpy as np
import pytest
import torch
from called_here import called
from PIL import Image
from repository import ROOT

from workflow_scripts import inspect_artifact
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.reports.inspection import LABEL_MAPS
from wsss.storage.artifacts import SCHEMA_VERSION, ArtifactWriter
from wsss.storage.palette import write_palette_png

CLASSES = ("cat", "dog")
SIZE = (48, 64)


def label():
    made = np.zeros(SIZE, np.uint8)
    made[:12] = 2  # a quarter
    made[12:18] = 255  # an eighth
    return made


RECORDS = {
    "cams": (np.stack([np.full((6, 8), v, np.float16) for v in (0.25, 0.75)]), {"keys": [0, 1]}),
    "pseudo_labels": ({"saliency": np.full(SIZE, 51, np.uint8), "segmentation": label()}, {}),
    "predictions": (
        {
            "unrefined": label(),
            "refined": label(),
            "probabilities": np.full((2, 6, 8), 0.5, np.float16),
        },
        {"keys": [0, 2]},
    ),
    "predictions_crf": (label(), {}),
    "saliency": (np.full(SIZE, 51, np.uint8), {}),
    "refined_saliency": (np.full((6, 8), 0.5, np.float16), {}),
}


@pytest.fixture
def results(tmp_path):
    """A folder results/tiny as the workflow leaves it: index, photographs and artifacts."""
    folder = tmp_path / "results" / "tiny"
    (folder / "data").mkdir(parents=True)
    records = []
    for image_id in ("train_0001", "train_0002"):
        Image.new("RGB", SIZE[::-1], (10, 200, 30)).save(folder / "data" / f"{image_id}.png")
        write_palette_png(folder / "data" / f"{image_id}_mask.png", label())
        image, mask = f"{image_id}.png", f"{image_id}_mask.png"
        records.append(ImageRecord(image_id, "train", True, image, mask, *SIZE[::-1], CLASSES))
    index = DatasetIndex(folder / "data", CLASSES, (1, 2), tuple(records))
    write_dataset(index, folder)
    for kind, (array, attributes) in RECORDS.items():
        with ArtifactWriter(
            folder / kind / "shard0.h5",
            kind,
            identity={
                "dataset": "tiny",
                "index_digest": index.digest,
                "classes": list(CLASSES),
                "stage": 1,
            },
            parameters={"scales": [0.5, 1.0], "crf": {"iterations": 10}},
            sources={"model": "0123abcd"},
            expected=[record.image_id for record in records],
        ) as writer:
            for record in records:
                writer.write(record.image_id, array, **attributes, size=list(SIZE))
    return folder


def look(capsys, *arguments):
    assert not inspect_artifact.main([str(part) for part in arguments])
    return capsys.readouterr().out


def row_of(text, start):
    """The one line that starts so, with single spaces."""
    (row,) = [line for line in text.splitlines() if line.startswith(start)]
    return " ".join(row.split())


def saliency_of(path, ids):
    with ArtifactWriter(
        path, "saliency", identity={}, parameters={}, sources={}, expected=ids
    ) as writer:
        for image_id in ids:
            writer.write(image_id, np.zeros((2, 3), np.uint8))
    return path


def refused(*arguments):
    """The one line that the command ends with."""
    status, out, err = called(inspect_artifact, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


# --- text ----------------------------------------------------------------------------------------


def test_a_file_says_what_it_is_and_holds(results, capsys):
    path = results / "cams" / "shard0.h5"
    text = look(capsys, path)
    with h5py.File(path) as file:
        digest = file.attrs["content_digest"]
    for part in (
        f"cams, schema {SCHEMA_VERSION}",
        digest,
        "2: cat, dog",
        "tiny",
        "[0.5, 1.0]",
        '{"iterations": 10}',
        "0123abcd",
        f"h5py {h5py.__version__}",
        "2: train_0001, train_0002",
        "kB",
    ):
        assert part in text
    row = next(line for line in text.splitlines() if line.startswith("cams  "))
    assert " ".join(row.split()) == "cams float16 2 x 6 x 8 0.25 .. 0.75"
    assert f"torch {metadata.version('torch')}" in row_of(text, "versions")


def test_an_image_says_what_its_cams_hold(results, capsys):
    text = look(capsys, results / "cams" / "shard0.h5", "train_0002")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "cams float16 2 x 6 x 8 0.25 0.5 0.75" in rows
    assert "cat 0.25 0.25 0.25" in rows and "dog 0.75 0.75 0.75" in rows
    assert "size [48, 64]" in rows


@pytest.mark.parametrize("kind", ["pseudo_labels", "predictions", "predictions_crf"])
def test_an_image_says_which_classes_its_label_maps_hold(results, capsys, kind):
    text = look(capsys, results / kind / "shard0.h5", "train_0001")
    rows = [line.split() for line in text.splitlines()]
    assert ["dog", "2", "25.0", "%"] in rows
    assert ["ignored", "255", "12.5", "%"] in rows
    assert ["background", "0", "62.5", "%"] in rows
    if kind == "predictions":  # keys of probabilities count the background
        assert ["dog", "0.5", "0.5", "0.5"] in rows


def test_names_from_the_file_reach_the_terminal_without_control_characters(tmp_path, capsys):
    with ArtifactWriter(
        tmp_path / "a.h5",
        "saliency",
        identity={"dataset": "\x1b[31mred"},
        parameters={},
        sources={},
        expected=[],
    ):
        pass
    assert "\x1b" not in look(capsys, tmp_path / "a.h5")


def test_output_may_end_early(results):
    """As with `| head`: the reader is gone before a line is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    arguments = ["-m", "workflow_scripts.inspect_artifact", str(results / "cams" / "shard0.h5")]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_checkpoint_says_what_it_is(tmp_path, capsys):
    from wsss.storage.checkpoint import FORMAT, state_digest

    model = {"weight": torch.zeros(1000, 2), "bias": torch.zeros(2)}
    digest = state_digest(model)
    content = {
        "format": FORMAT,
        "arguments": {"num_classes": 2, "backbone": "resnet38"},
        "identity": {"dataset": "tiny", "seed": 0},
        "parameters": {"epochs": 7},
        "digest": digest,
        "model": model,
    }
    torch.save(content, tmp_path / "model.pt")
    text = look(capsys, tmp_path / "model.pt")
    for part in ("resnet38", "tiny", "epochs", digest, "2,002 in 2 tensors"):
        assert part in text
    assert row_of(text, "made from") == "made from not recorded"  # as files of old have it
    torch.save(content | {"sources": {"classifier/model.pt": "45cd"}}, tmp_path / "model.pt")
    text = look(capsys, tmp_path / "model.pt")
    assert row_of(text, "made from") == "made from classifier/model.pt 45cd"


def test_ids_are_listed_one_a_line_and_nothing_else(tmp_path, capsys):
    ids = [f"im{number}" for number in range(9)]
    assert look(capsys, saliency_of(tmp_path / "a.h5", ids), "--ids").splitlines() == ids
    assert look(capsys, saliency_of(tmp_path / "none.h5", []), "--ids") == ""


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RECORDS)
def test_every_kind_is_drawn_with_its_photograph(results, tmp_path, capsys, kind):
    output = tmp_path / "out.png"
    text = look(capsys, results / kind / "shard0.h5", "train_0001", "--png", output)
    assert "alone" not in text
    picture = np.array(Image.open(output)).reshape(-1, 3)
    assert (picture == [10, 200, 30]).all(axis=1).sum() > 320 * 240 * 0.9  # the photograph
    assert (picture == [0, 128, 0]).all(axis=1).any()  # ground truth: dog


@pytest.mark.parametrize("kind", RECORDS)
def test_maps_are_drawn_alone_where_no_photograph_is(results, tmp_path, capsys, kind):
    elsewhere = tmp_path / "elsewhere" / "shard0.h5"
    elsewhere.parent.mkdir()
    (results / kind / "shard0.h5").rename(elsewhere)
    output = tmp_path / "out.png"
    text = look(capsys, elsewhere, "train_0001", "--png", output)
    assert sum("drawing the maps alone" in line for line in text.splitlines()) == 1
    picture = np.array(Image.open(output)).reshape(-1, 3)
    assert not (picture == [10, 200, 30]).all(axis=1).any()
    has_labels = kind in LABEL_MAPS
    assert (picture == [0, 128, 0]).all(axis=1).any() == has_labels


def test_the_data_set_may_be_given(results, tmp_path, capsys):
    elsewhere = tmp_path / "shard0.h5"
    (results / "cams" / "shard0.h5").rename(elsewhere)
    command = [elsewhere, "train_0001", "--png", tmp_path / "a.png", "--data", results]
    assert "alone" not in look(capsys, *command)
    moved = (results / "data").rename(tmp_path / "moved")
    assert "alone" in look(capsys, *command)
    assert "alone" not in look(capsys, *command, "--root", moved)
    assert "nowhere" in look(capsys, *command, "--root", tmp_path / "nowhere")


def test_an_index_that_has_changed_is_mentioned(results, tmp_path, capsys):
    path = results / "index.csv"
    path.write_text(path.read_text().replace("train_0002,train,1", "train_0002,train,0"))
    text = look(capsys, results / "cams" / "shard0.h5", "train_0001", "--png", tmp_path / "out.png")
    assert "is not the index that the file was made with" in text


def test_an_image_without_labels_is_drawn(tmp_path, capsys):
    with ArtifactWriter(
        tmp_path / "a.h5", "cams", identity={}, parameters={}, sources={}, expected=["x"]
    ) as writer:
        writer.write("x", np.zeros((0, 6, 8), np.float16), keys=[], size=[48, 64])
    assert "0 x 6 x 8" in look(capsys, tmp_path / "a.h5")
    assert "0 x 6 x 8" in look(capsys, tmp_path / "a.h5", "x")
    assert "nothing to draw" in refused(tmp_path / "a.h5", "x", "--png", tmp_path / "a.png")


# --- two files, and a folder ---------------------------------------------------------------------


def changed(folder, name, kind, change, ids=("train_0001", "train_0002"), **identity):
    """An artifact like that of `results`, of which `change` has changed the last image."""
    array, attributes = RECORDS[kind]
    path = folder / name
    with ArtifactWriter(
        path,
        kind,
        identity={"dataset": "tiny", "stage": 1, "classes": list(CLASSES)} | identity,
        parameters={"scales": [1.0], "crf": {"iterations": 10}},
        sources={},
        expected=ids,
    ) as writer:
        for image_id in ids:
            content = {"array": array, "attributes": dict(attributes)}
            if image_id == ids[-1]:
                content |= change(copy.deepcopy(content))
            writer.write(image_id, content["array"], **content["attributes"], size=list(SIZE))
    return path


def test_two_artifacts_differ_where_they_were_changed(results, tmp_path, capsys):
    def change(content):
        content["array"]["refined"][:3, :] = 0  # a 16th of the pixels, from dog to background
        content["array"]["probabilities"][1, 2, 3] = 0.875
        return content

    path = changed(tmp_path, "b.h5", "predictions", change, stage=3)
    text = look(capsys, results / "predictions/shard0.h5", "--compare", path)
    assert row_of(text, "stage") == "stage 1 | 3"
    assert row_of(text, "scales") == "scales [0.5, 1.0] | [1.0]"
    assert "iterations" not in text and "dataset" not in text
    assert row_of(text, "images") == "images 2 in both"
    assert row_of(text, "refined") == "refined share of pixels 2 1 train_0002 0.0625"
    assert row_of(text, "unrefined") == "unrefined share of pixels 2 0 -"
    assert row_of(text, "probabilities") == "probabilities absolute 2 1 train_0002 0.375"


def test_a_map_of_a_class_that_one_file_lacks_counts_as_0(results, tmp_path, capsys):
    def change(content):
        array, attributes = content["array"], content["attributes"]
        array["probabilities"] = np.full((2, 6, 8), 0.5, np.float16)
        array["probabilities"][1] = 0.25
        attributes["keys"] = [0, 1]  # cat, where the other has a dog of 0.5
        return content

    path = changed(tmp_path, "b.h5", "predictions", change)
    text = look(capsys, results / "predictions/shard0.h5", "--compare", path)
    assert row_of(text, "probabilities") == "probabilities absolute 2 1 train_0002 0.5"


def test_numbers_shapes_and_images_of_one_file_alone(results, tmp_path, capsys):
    def change(content):
        content["attributes"]["confidence"] = 0.75
        return content | {"array": label()[:-1]}

    path = changed(tmp_path, "b.h5", "predictions_crf", change, ids=("train_0001",))
    text = look(capsys, results / "predictions_crf/shard0.h5", "--compare", path)
    assert "1 in both" in text
    (line,) = [line for line in text.splitlines() if "alone" in line]
    assert "shard0.h5 alone: train_0002" in line
    shape = "predictions_crf share of pixels 1 1 train_0001 (another shape)"
    assert row_of(text, "predictions_crf") == shape
    assert row_of(text, "confidence") == "confidence absolute 1 1 train_0001 (another shape)"


def test_the_same_content_is_said_to_be_the_same(results, tmp_path, capsys):
    path = changed(tmp_path, "b.h5", "cams", lambda content: content, stage=2)
    text = look(capsys, results / "cams/shard0.h5", "--compare", path)
    assert row_of(text, "content") == "content identical" and "absolute" not in text


def test_only_artifacts_of_one_kind_are_compared(results):
    cams, saliency = results / "cams/shard0.h5", results / "saliency/shard0.h5"
    assert "give two of one kind" in refused(cams, "--compare", saliency)
    assert "leave ID, --ids and --png out" in refused(cams, "train_0001", "--compare", cams)
    assert "leave ID and options out" in refused(results, "--compare", cams)


def folder_problems(capsys, folder):
    """The exit status for a folder, and its lines on problems."""
    status = inspect_artifact.main([str(folder)])
    text = capsys.readouterr().out
    assert ("all is well" in text) == (status == 0)
    return status, [line for line in text.splitlines() if line.startswith("problem: ")]


def test_a_whole_folder_is_well(results, capsys):
    (results / "cams" / ".shard0.host-1.partial.h5").write_bytes(b"of a job that is under way")
    assert folder_problems(capsys, results) == (0, [])
    text = look(capsys, results)
    for kind in RECORDS:
        assert row_of(text, f"{kind} ").startswith(f"{kind} 1 2 ")
    assert folder_problems(capsys, results / "cams") == (0, [])


def test_damage_in_a_folder_is_found(results, capsys):
    path = results / "cams" / "shard0.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    (results / "model.pt").write_bytes(b"no checkpoint")
    status, problems = folder_problems(capsys, results)
    assert status == 1 and len(problems) == 2
    assert f"{path}: damaged since it was written" in problems[0]
    assert f"{results / 'model.pt'}: not a readable checkpoint" in problems[1]


def test_a_missing_image_and_another_index_are_found(results, capsys):
    changed(results, "cams2/shard0.h5", "cams", lambda same: same, ids=("train_0002",))
    status, (problem,) = folder_problems(capsys, results)
    assert status == 1
    assert problem == f"problem: {results / 'cams2'}: 1 image(s) of the index missing: train_0001"
    changed(results, "cams2/shard1.h5", "cams", lambda same: same, ids=("train_0001",))
    assert folder_problems(capsys, results) == (0, [])
    changed(results, "old.h5", "cams", lambda same: same, index_digest="12ab")
    status, (problem,) = folder_problems(capsys, results)
    assert status == 1 and "old.h5: made for another index.csv; remake it" in problem


def test_a_file_made_from_an_older_one_is_found(results, capsys):
    source, made = results / "source.h5", results / "made.h5"
    changed(results, "source.h5", "cams", lambda same: same)
    with h5py.File(source) as file:
        digest = file.attrs["content_digest"]
    with ArtifactWriter(
        made,
        "pseudo_labels",
        identity={},
        parameters={},
        # As the workflow names it: from the folder of the run, which has `results`.
        sources={"results/tiny/source.h5": digest, "results/tiny/gone.h5": "12ab"},
        expected=["train_0001", "train_0002"],
    ) as writer:
        for image_id in ("train_0001", "train_0002"):
            writer.write(image_id, label())
    assert folder_problems(capsys, results) == (0, [])
    source.unlink()
    changed(results, "source.h5", "cams", lambda same: {"array": same["array"] + np.float16(0.5)})
    status, (problem,) = folder_problems(capsys, results)
    assert status == 1
    assert problem.startswith(f"problem: {made}: made from another results/tiny/source.h5; ")


def test_a_folder_without_results_is_refused(tmp_path):
    assert "no artifact (.h5) or checkpoint (.pt) in it" in refused(tmp_path)


# --- refusals ------------------------------------------------------------------------------------


def test_unknown_ids_get_a_suggestion(results):
    message = refused(results / "cams" / "shard0.h5", "train_0003")
    assert "'train_0003'" in message and "train_0001" in message
    assert "train_0002" in refused(results / "cams" / "shard0.h5", "0002")


def test_pictures_need_an_id_and_a_folder(results, tmp_path):
    path = results / "cams" / "shard0.h5"
    assert "give its id" in refused(path, "--png", tmp_path / "out.png")
    assert "does not exist" in refused(path, "train_0001", "--png", tmp_path / "no" / "out.png")
    assert ".png or .jpg" in refused(path, "train_0001", "--png", tmp_path / "out.gif")
    assert not list(tmp_path.glob("*out*"))


def test_a_list_of_ids_is_of_an_artifact_and_alone(results, tmp_path):
    path = results / "cams" / "shard0.h5"
    for more in (["train_0001"], ["--png", tmp_path / "out.png"]):
        assert "leave ID and --png out" in refused(path, *more, "--ids")
    assert "holds no images" in refused(tmp_path / "model.pt", "--ids")


def test_files_that_cannot_be_read_are_refused(results, tmp_path):
    whole = (results / "cams" / "shard0.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    assert "truncated" in refused(tmp_path / "cut.h5")
    assert "truncated" in refused(tmp_path / "text.h5")
    assert "not a readable checkpoint" in refused(tmp_path / "text.pt")
    assert "no artifact of this workflow" in refused(tmp_path / "foreign.h5")
    assert "no such file" in refused(tmp_path / "absent.h5")
    assert "holds no images" in refused(tmp_path / "text.pt", "train_0001")
