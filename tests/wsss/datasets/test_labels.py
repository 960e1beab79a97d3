"""Readers of image-level labels: right on good files, and safe with bad ones."""

import os

import numpy as np
import pytest

from wsss.datasets.labels import (
    configured_file,
    read_annotation,
    read_cls_labels,
    read_label_csv,
    read_lines,
)
from wsss.datasets.voc import CLASSES
from wsss.errors import InputError


@pytest.fixture
def csv_file(tmp_path):
    def write(text):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def save_npy(path, value):
    np.save(path, value, allow_pickle=True)
    return path


def vector(*names):
    return np.array([name in names for name in CLASSES], np.float32)


# --- CSV


def test_column_per_class(csv_file):
    table = read_label_csv(csv_file("image_id,dog,cat\na,1,0\nb,1,1\nc,0,0\n"))
    assert table.classes == ("dog", "cat")
    assert table.labels == {"a": ("dog",), "b": ("dog", "cat"), "c": ()}
    assert table.splits == {}
    assert table.class_columns


def test_list_of_names(csv_file):
    table = read_label_csv(csv_file("image_id,labels\na,dog\nb, cat ; dog\nc,\n"))
    assert table.classes == ("cat", "dog")
    assert table.labels == {"a": ("dog",), "b": ("cat", "dog"), "c": ()}
    assert not table.class_columns


def test_files_of_spreadsheets(csv_file):
    """A byte order mark, carriage returns, blank lines, quotes and a column of splits."""
    text = '\ufeffimage_id,split,dog\r\n"a",train,1\r\n\r\n b ,val,0\r\nc,,1\r\n'
    table = read_label_csv(csv_file(text))
    assert table.labels == {"a": ("dog",), "b": (), "c": ("dog",)}
    assert table.splits == {"a": "train", "b": "val"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "image_id"),
        ("a,b\n1,2\n", "image_id"),
        ("image_id\na\n", "image_id"),
        ("image_id;dog\na;1\n", "commas"),
        ("image_id,dog,dog\na,1,0\n", "column dog is there twice"),
        ("image_id,dog,\na,1,0\n", "has no name"),
        ("image_id,dog\na,2\n", "line 2: dog is '2'"),
        ("image_id,dog\na,yes\n", "line 2: dog is 'yes'"),
        ("image_id,dog\na,\n", "line 2: dog is ''"),
        ("image_id,dog\na,1\nb,0,1\n", "line 3: 3 cells under 2 columns"),
        ("image_id,dog\na,1\na,0\n", "line 3: image a has a row already"),
        ("image_id,labels\na,dog;dog\n", "line 2: a class is named twice"),
        ("image_id,split,dog\na,training,1\n", "line 2: split 'training'"),
        ("image_id,dog\n../a,1\n", r"line 2: '\.\./a' cannot be an image id"),
        ('image_id,dog\n"a,1\n', "cannot be read"),
        (b"image_id,dog\n\xff\xfe,1\n", "cannot be read"),
    ],
)
def test_bad_csv_is_refused_by_name(csv_file, text, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        read_label_csv(csv_file(text))
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "read",
    [
        read_label_csv,
        read_lines,
        lambda path: read_cls_labels(path, CLASSES),
        lambda path: read_annotation(path, CLASSES),
    ],
)
def test_missing_file_is_refused_by_name(tmp_path, read):
    with pytest.raises(InputError, match=r"none\.csv .*No such file") as caught:
        read(tmp_path / "none.csv")
    assert "\n" not in str(caught.value)


def test_missing_file_names_the_key_that_names_it(tmp_path):
    (tmp_path / "a.csv").touch()
    assert configured_file(tmp_path / "a.csv", "dataset.x", "write it") == tmp_path / "a.csv"
    with pytest.raises(InputError, match=r"^dataset\.x: .*none\.csv does not exist: write it$"):
        configured_file(tmp_path / "none.csv", "dataset.x", "write it")


# --- cls_labels.npy


def test_cls_labels_as_numpy_saves_them(tmp_path):
    value = {"2007_000032": vector("aeroplane", "person"), "2007_000039": vector("tvmonitor")}
    table = read_cls_labels(save_npy(tmp_path / "cls.npy", value), CLASSES)
    assert table.labels == {"2007_000032": ("aeroplane", "person"), "2007_000039": ("tvmonitor",)}


@pytest.mark.parametrize("kind", [int, np.int64])
def test_integer_ids(tmp_path, kind):
    path = save_npy(tmp_path / "cls.npy", {kind(2007000032): vector("dog")})
    assert read_cls_labels(path, CLASSES).labels == {"2007_000032": ("dog",)}


class Malicious:
    """What an attacker would save: unpickling it runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"2007_000032": m}])
def test_malicious_pickle_is_refused_and_not_run(tmp_path, wrap):
    victim = tmp_path / "owned"
    path = save_npy(tmp_path / "cls.npy", wrap(Malicious(f"touch {victim}")))
    with pytest.raises(InputError, match=r"cls\.npy.*malicious"):
        read_cls_labels(path, CLASSES)
    assert not victim.exists()
    np.load(path, allow_pickle=True)
    assert victim.exists()  # the file does harm where it is trusted


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([1, 2], "a plain array, not a dict"),
        (None, "no dict"),
        ({"2007_000032": np.ones(21)}, "labels of 2007_000032 are not 20"),
        ({"2007_000032": np.full(20, 0.5)}, "labels of 2007_000032 are not 20"),
        ({"2007_000032": np.full(20, np.nan)}, "labels of 2007_000032 are not 20"),
        ({"2007_000032": "cat"}, "labels of 2007_000032 are not 20"),
        ({"../up": np.ones(20)}, "cannot be an image id"),
        ({1.5: np.ones(20)}, "not an image id"),
    ],
)
def test_bad_cls_labels_are_refused_by_name(tmp_path, value, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        read_cls_labels(save_npy(tmp_path / "cls.npy", value), CLASSES)
    assert "cls.npy" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", b"\x80\x04."])
def test_no_npy_is_refused_by_name(tmp_path, content):
    (tmp_path / "cls.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"cls\.npy"):
        read_cls_labels(tmp_path / "cls.npy", CLASSES)


def test_plain_array_and_truncated_file_are_refused_by_name(tmp_path):
    np.save(tmp_path / "plain.npy", np.ones(20))
    with pytest.raises(InputError, match=r"plain\.npy"):
        read_cls_labels(tmp_path / "plain.npy", CLASSES)
    path = save_npy(tmp_path / "cut.npy", {"2007_000032": vector("dog")})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cut\.npy"):
        read_cls_labels(path, CLASSES)


def test_real_cls_labels_equal_the_csv(real_data):
    csv_labels = read_label_csv(real_data / "voc2012-animals/image_labels.csv").labels
    npy_labels = read_cls_labels(real_data / "voc2012-lists/cls_labels.npy", CLASSES).labels
    assert len(npy_labels) == 12031
    common = csv_labels.keys() & npy_labels.keys()
    assert len(common) == 885
    assert {i: csv_labels[i] for i in common} == {i: npy_labels[i] for i in common}


# --- Annotations


@pytest.fixture
def xml_file(tmp_path):
    def write(text):
        path = tmp_path / "2007_000032.xml"
        path.write_text(text)
        return path

    return write


def test_annotation_names_objects_not_their_parts(xml_file):
    path = xml_file(
        "<annotation><filename>2007_000032.jpg</filename>"
        "<object><name>person</name><difficult>1</difficult>"
        "<part><name>head</name></part></object>"
        "<object><name> cat </name></object><object><name>person</name></object></annotation>"
    )
    assert read_annotation(path, CLASSES) == ("cat", "person")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<annotation><object><name>unicorn</name></object></annotation>", "unicorn"),
        ("<annotation><object>", "not readable XML"),
        ("", "not readable XML"),
        ('<?xml version="1.0" encoding="GBK"?><annotation/>', "not readable XML"),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "not readable XML"),
        ('<!DOCTYPE a [<!ENTITY b "cat">]><annotation>&b;</annotation>', "not readable XML"),
    ],
)
def test_bad_annotation_is_refused_by_name(xml_file, text, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        read_annotation(xml_file(text), CLASSES)
    assert "2007_000032.xml" in str(caught.value)
