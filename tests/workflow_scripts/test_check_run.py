"""The command that checks before a run: its table, and how it ends."""

import json
import shutil

import pytest
from called_here import called
from checked_run import changed, small_config, small_index, truncate  # noqa: F401

from workflow_scripts import check_run as command
from wsss.configuration.resolve import plain
from wsss.errors import InputError


@pytest.fixture
def overlay(config, index, tmp_path):
    """The same as an overlay over config.yaml, for photographs in a folder; JSON is YAML."""
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / folder).mkdir()
        for image_id in "abcd":
            (tmp_path / f"{image_id}.{suffix}").rename(tmp_path / folder / f"{image_id}.{suffix}")
    (tmp_path / "labels.csv").write_text(
        "image_id,labels\n" + "".join(f"{i},cat\n" for i in "abcd")
    )
    (tmp_path / "val.txt").write_text("d\n")
    lists = {"masks": "masks", "val_list": "val.txt"}
    path = tmp_path / "overlay.yaml"
    path.write_text(json.dumps(plain(changed(config, dataset={"folder": lists}))))
    return ["--configfile", str(path), "--results", str(tmp_path / "results")]


def test_the_command_prints_a_table(overlay):
    status, out, err = called(command, *overlay)
    assert status == 0, out + err
    assert out.splitlines()[-1] == "ready to run"
    assert "3 train, 1 val, 0 test; 1 classes" in out
    assert "4 readable" in out
    assert "measuring images" in err
    assert " 0it [" not in err  # a bar for test images that there are none of


def test_problems_make_the_command_fail(overlay, tmp_path, capsys):
    truncate(tmp_path / "images/a.jpg")
    (tmp_path / "start.pth").unlink()
    code = command.main(overlay)
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert sum(line.startswith("problem ") for line in lines) == 2
    assert lines[-1] == "2 problem(s)"


def subjects(capsys):
    """Levels by subject of the printed table."""
    lines = capsys.readouterr().out.splitlines()[:-1]
    known = ("data set", "images", "masks", "splits", "saliency", "weights", "device", "disk")
    return {name: line.split()[0] for line in lines for name in known if line[8:].startswith(name)}


@pytest.mark.parametrize("name", ["masks/b.png", "labels.csv", "val.txt"])
def test_a_data_set_without_index_hides_nothing_else(overlay, tmp_path, capsys, name):
    truncate(tmp_path / name) if name == "masks/b.png" else (tmp_path / name).unlink()
    (tmp_path / "start.pth").unlink()
    assert command.main(overlay) == 1
    assert subjects(capsys) == {
        "data set": "problem",
        "saliency": "note",
        "weights": "problem",
        "device": "ok",
        "disk": "note",
    }


def test_the_source_of_saliency_is_looked_at_without_index(overlay, tmp_path, capsys):
    (tmp_path / "labels.csv").unlink()
    shutil.rmtree(tmp_path / "maps")
    assert command.main(overlay) == 1
    said = capsys.readouterr().out
    assert "problem data set  dataset.folder.labels" in said
    assert "problem saliency  saliency.maps.folder" in said
    assert said.endswith("2 problem(s)\n")


def test_a_wrong_configuration_is_one_error(overlay, tmp_path):
    (tmp_path / "more.yaml").write_text("stagess: 3\n")
    with pytest.raises(InputError, match="stagess: unknown key"):
        command.main([*overlay[:2], str(tmp_path / "more.yaml")])


def test_the_demo_is_not_drawn_for_a_check(tmp_path, capsys):
    """Everything else is looked at: here, whether the disk would do for 160 + 48 images."""
    command.main(["--results", str(tmp_path / "results")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note    images") and "not there yet" in lines[0]
    assert any("computed for 160 training images" in line for line in lines)
    assert any(line.startswith("ok      disk") for line in lines)
    assert not (tmp_path / "results").exists()
