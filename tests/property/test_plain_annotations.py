"""What is taken for a plain annotation says in XML what was read from it."""

from xml.etree.ElementTree import fromstring

from hypothesis import given, settings
from hypothesis import strategies as st

from sora_det.data.voc_plain import read_plain

SIZE = b"<size><width>32</width><height>24</height></size>"
BOX = b"<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
CAR = b"<object><name>car</name><difficult>1</difficult>%s</object>" % BOX
PIECES = [
    CAR,
    SIZE,
    BOX,
    *(b"<annotation>", b"</annotation>", b"<object>", b"</object>", b"<name>bus</name>"),
    *(b"<pose>a</pose>", b"<truncated/>", b"<occluded>0</occluded>", b"<difficult>0</difficult>"),
    *(b"<folder>a</folder>", b"<source><database>x</database></source>", b"<part>", b"</part>"),
    *(b" ", b"\n\t", b"\r\n", b"\x0b", b"\x00", b"\xc3\xa9", b"&amp;", b"]]>", b"<!--", b"-->"),
    *(b"<![CDATA[", b"<?a ?>", b"<!DOCTYPE annotation>", b"size", b"x=1", b"<xml>1</xml>"),
]
SHEETS = [
    b"<annotation>%s%s</annotation>" % (SIZE, CAR),
    b"<annotation>\n\t<folder>a</folder>%s\n<object><name>two wheeler</name><pose>Left</pose>"
    b"<truncated>0</truncated>%s</object>%s</annotation>\n" % (SIZE, BOX, CAR),
]


def check(text: bytes) -> bool:
    plain = read_plain(text)
    if plain is None:
        return False
    tree = fromstring(text)
    assert tree.tag == "annotation"
    sides = [tree.findtext(f"size/{side}") for side in ("width", "height")]
    assert [plain.width, plain.height] == [int(side or "") for side in sides]
    found = [
        (
            (one.findtext("name") or "").strip(),
            (one.findtext("difficult") or "").strip() == "1",
            *(one.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")),
        )
        for one in tree.findall("object")
    ]
    names, difficult, *corners = plain.objects
    texts = [[value.decode() for value in column] for column in corners]
    hard = [flag == b"1" for flag in difficult]
    assert [*zip([name.decode() for name in names], hard, *texts, strict=True)] == found
    return True


def test_what_is_changed_is_plain() -> None:
    assert all(map(check, SHEETS))


@given(
    st.sampled_from(SHEETS),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from(PIECES)), max_size=3
    ),
)
@settings(max_examples=400, deadline=None)
def test_pieces_put_in(sheet: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for place, removed, piece in changes:
        sheet = sheet[:place] + piece + sheet[place + removed :]
    check(sheet)


@given(st.lists(st.sampled_from(PIECES), max_size=8))
@settings(max_examples=300, deadline=None)
def test_pieces_in_a_sheet(pieces: list[bytes]) -> None:
    check(b"<annotation>" + b"".join(pieces) + b"</annotation>")
    check(b"<annotation>" + SIZE + b"".join(pieces) + b"</annotation>")
