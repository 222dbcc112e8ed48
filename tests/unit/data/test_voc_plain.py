"""Plain annotations are read as the XML parser reads them, and nothing else is taken for plain."""

import re
from pathlib import Path

import pytest

from sora_det.data.voc_index import voc_records
from sora_det.data.voc_plain import read_plain
from sora_det.data.voc_xml import voc_record
from tests.unit.data.annotation_trees import object_xml, write_image

SIZE = "<size><width>32</width><height>24</height><depth>3</depth></size>"
CAR = object_xml("car", 1, 2, 9, 9.5)
HARD = object_xml(
    "person", 3, 3, 5, 5, extra="<pose>Left</pose><truncated>0</truncated><difficult>1</difficult>"
)
IDS = {"car": 0, "person": 1, "two wheeler": 2}


def sheet(inner: str, size: str = SIZE) -> str:
    return f"<annotation>{size}{inner}</annotation>"


PLAIN = {
    "no object": sheet(""),
    "two": sheet(CAR + HARD),
    "spaces": f"\n<annotation>\r\n\t{SIZE} {CAR}\n\n{HARD}\t</annotation>\n",
    "other elements": sheet(CAR, "<folder>a</folder><source><database>b</database>"
                            f"</source>{SIZE}<segmented>0</segmented>"),
    "other classes": sheet(object_xml("traffic light", 1, 1, 2, 2) + CAR),
    "no area": sheet(object_xml("car", 9, 1, 8, 9) + CAR),
    "two words": sheet(object_xml("two wheeler", 1, 1, 9, 9)),
}  # fmt: skip

NOT_PLAIN = {
    "empty": "",
    "broken off": sheet(CAR)[:-3],
    "broken off in an object": sheet(CAR)[:-40],
    "an entity": sheet(object_xml("&#99;ar", 1, 1, 9, 9)),
    "a comment": sheet(f"<!-- {CAR} -->"),
    "a comment around the end": sheet(CAR + "<!--") + "-->",
    "unparsed": sheet(f"<![CDATA[{CAR}]]>"),
    "a document type": f"<!DOCTYPE annotation>{sheet(CAR)}",
    "a declaration": f"<?xml version='1.0'?>{sheet(CAR)}",
    "attributes": sheet(CAR.replace("<object>", "<object id='1'>")),
    "letters beyond ASCII": sheet(object_xml("straße", 1, 1, 9, 9)),
    "an end of unparsed": sheet(object_xml("a]]>", 1, 1, 9, 9)),
    "a control character": sheet(object_xml("a\x02", 1, 1, 9, 9)),
    "within another": sheet(f"<group>{CAR}</group>"),
    "within the size": sheet("", f"<size>{CAR}<width>32</width><height>24</height></size>"),
    "between others": sheet(f"{CAR}<segmented>0</segmented>{HARD}"),
    "no size": sheet(CAR, ""),
    "two sizes": sheet(CAR, SIZE + SIZE),
    "size of 0": sheet(CAR, SIZE.replace("32", "0")),
    "no name": sheet(CAR.replace("<name>car</name>", "")),
    "two names": sheet(CAR.replace("<name>", "<name>a</name><name>")),
    "parts": sheet(CAR.replace("</object>", f"<part>{CAR}</part></object>")),
    "an odd number": sheet(object_xml("car", 1, 1, 9, float("nan"))),
    "a far corner": sheet(object_xml("car", 1, 1, 9, 99999999)),
    "below 0": sheet(object_xml("car", -1, 1, 9, 9)),
    "spaces around a number": sheet(CAR.replace("<xmin>1", "<xmin> 1")),
    "more after the end": sheet(CAR) + sheet(CAR),
    "another root": f"<a>{SIZE}{CAR}</a>",
    "tags that differ": sheet(CAR, f"<a>1</b>{SIZE}"),
    "UTF-16": sheet(CAR).encode("utf-16").decode("latin-1"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_annotations(tmp_path: Path, name: str) -> None:
    assert read_plain(PLAIN[name].encode()) is not None
    compare(tmp_path, PLAIN[name].encode())


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_all_others(tmp_path: Path, name: str) -> None:
    text = NOT_PLAIN[name].encode("latin-1" if name == "UTF-16" else "utf-8")
    assert read_plain(text) is None
    compare(tmp_path, text)


def compare(folder: Path, text: bytes) -> None:
    """A whole split gives what the single file gives, or is refused likewise."""
    write_image(folder / "JPEGImages" / "a.jpg")
    for below in ("Annotations", "ImageSets/Main"):
        (folder / below).mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_bytes(text)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    given = folder / "Annotations" / "a.xml", folder / "JPEGImages" / "a.jpg"
    wanted, problem = None, ""
    try:
        wanted = voc_record(*given, category_ids=IDS)
    except ValueError as error:
        problem = str(error)
    if wanted is None:
        with pytest.raises(ValueError, match="^" + re.escape(problem) + "$"):
            voc_records(folder, "train", category_ids=IDS, domain="fog")
    else:
        (one,) = voc_records(folder, "train", category_ids=IDS, domain="fog")
        assert one == wanted | {"image_id": "a", "domain": "fog"}
