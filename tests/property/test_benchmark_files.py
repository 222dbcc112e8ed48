import json
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_det.data import load_benchmark
from sora_det.data.checks import Tally
from sora_det.data.coco_json import coco_records
from sora_det.data.voc_xml import read_split, voc_record

NAMES = ("car", "person", "traffic light")
IDS = {name: i for i, name in enumerate(NAMES)}

corner = st.integers(1, 5000)
boxes = st.lists(
    st.tuples(st.sampled_from(NAMES), corner, corner, corner, corner, st.booleans()), max_size=8
)

scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
json_like = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
GOOD = {
    "name": "weather",
    "root": "weather",
    "format": "voc",
    "classes": ["car", "person"],
    "class_map": {"person": ["rider"]},
    "source": {"name": "clear", "folder": "clear", "train": "train", "test": "test"},
    "targets": [{"name": "fog", "folder": ["Fog", "fog"], "test": "train"}],
}


# Examples write files: on a busy disk one may take its time.
QUICK = settings(max_examples=60, deadline=None)


def loads_or_explains(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "b.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        try:
            benchmark = load_benchmark(file)
        except (ValueError, FileNotFoundError) as error:
            assert len(str(error)) < 2000  # noqa: PT017 - either outcome is fine
        else:
            assert benchmark.num_classes >= 1


@given(boxes)
@QUICK
def test_boxes_survive_the_file(objects: list[tuple[str, int, int, int, int, bool]]) -> None:
    text = "".join(
        f"<object><name>{escape(name)}</name><difficult>{int(hard)}</difficult><bndbox>"
        f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}.0</xmax><ymax>{y1}.75</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1, hard in objects
    )
    size = "<size><width>5000</width><height>4000</height></size>"
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.xml"
        file.write_text(f"<annotation>{size}{text}</annotation>")
        record = voc_record(file, Path("a.jpg"), category_ids=IDS, tally=tally)
    whole = [one for one in objects if one[3] >= one[1] and one[4] >= one[2]]
    found = [(*one["bbox"], one["category_id"], one["iscrowd"]) for one in record["annotations"]]
    assert found == [
        (x0 - 1, y0 - 1, x1, y1, IDS[name], int(hard)) for name, x0, y0, x1, y1, hard in whole
    ]
    assert tally.empty_boxes == len(objects) - len(whole)


@given(st.binary(max_size=200) | st.text(max_size=200))
@QUICK
def test_any_text_loads_or_explains(text: str | bytes) -> None:
    loads_or_explains(text)


@given(st.sampled_from([*GOOD, "source.train", "source.folder", "targets.0"]), json_like)
@QUICK
def test_any_entry_loads_or_explains(key: str, value: object) -> None:
    content = yaml.safe_load(yaml.safe_dump(GOOD))
    *path, last = key.split(".")
    place = content[path[0]] if path else content
    place[int(last) if isinstance(place, list) else last] = value
    loads_or_explains(yaml.safe_dump(content))


@given(st.binary(max_size=100) | st.text("ab/.\\ 1-\n\t", max_size=40))
@QUICK
def test_any_split_reads_or_explains(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            names = read_split(file)
        except ValueError as error:
            assert "train.txt" in str(error)  # noqa: PT017 - either outcome is fine
        else:
            assert len(set(names)) == len(names)
            assert not any(".." in name.split("/") for name in names)


@given(st.binary(max_size=60) | st.text("<>/abject nm&;\"'=!", max_size=60))
@QUICK
def test_any_annotation_reads_or_explains(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.xml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            voc_record(file, Path("none.jpg"), category_ids=IDS)
        except ValueError as error:
            assert "a.xml" in str(error)  # noqa: PT017 - either outcome is fine


@given(st.dictionaries(st.sampled_from(["images", "annotations", "categories"]), json_like))
@QUICK
def test_any_json_reads_or_explains(content: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.json"
        file.write_text(json.dumps(content))
        try:
            coco_records(file, Path(folder), category_ids=IDS, domain="day")
        except (ValueError, FileNotFoundError) as error:
            assert "a.json" in str(error)  # noqa: PT017 - either outcome is fine
