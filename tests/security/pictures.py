"""Images that claim more pixels than fit into memory, or that another program would read."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from sora_det.data.images import BadImageError, image_size, read_image
from sora_det.report.pictures import thumbnail

from .case import CANARY, Case, written


def cases() -> Iterator[Case]:
    for name, content in pictures().items():
        make = written("a.jpg", content)
        yield Case("image", f"{name}, its size", make, image_size, (BadImageError,))
        yield Case("image", f"{name}, its pixels", make, read_image, (BadImageError,))
        yield Case("image", f"{name}, for a report", make, _no_thumbnail, ())
    yield Case("image", "a long text", written("a.png", _with_text()), _read_or_refuse, ())
    yield Case("image", "many frames", written("a.gif", _many_frames()), read_image, ())


def pictures() -> dict[str, bytes]:
    return {
        "a PNG of 60000 x 60000": png(60000, 60000),
        "a PNG of 2^31 - 1 squared": png(2**31 - 1, 2**31 - 1),
        "a black PNG of 12000 x 12000": png(12000, 12000, rows=12000),
        "a BMP of 60000 x 60000": b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(9),
        "a PPM of 60000 x 60000": b"P6\n60000 60000\n255\n" + bytes(99),
        "a GIF of 65535 x 65535": b"GIF89a\xff\xff\xff\xff\x00\x00\x00"
        + b",\0\0\0\0\xff\xff\xff\xff\0\2",
        "PostScript": postscript(),
        "PostScript with a preview": b"\xc5\xd0\xd3\xc6" + bytes(30) + postscript(),
        "SVG": f"<svg onload='touch {CANARY}'><image href='file:///etc/passwd'/></svg>".encode(),
        "a text file": b"root:x:0:0:root:/root:/bin/bash\n",
        "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "nothing": b"",
    }


def png(width: int, height: int, *, rows: int = 1) -> bytes:
    """Return a PNG of one bit a pixel that holds fewer rows than it claims, or all of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(rows * (min(width, 12000) // 8 + 1)), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def postscript() -> bytes:
    """Return an EPS file; Pillow hands such a file to Ghostscript, whatever it is called."""
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
        + f"(%pipe%touch {CANARY}) (w) file closefile showpage\n%%EOF\n".encode()
    )


def _with_text() -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "a" * 200_000_000, zip=True)
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def _many_frames() -> bytes:
    frames = [Image.new("L", (64, 64), i % 256) for i in range(500)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def _read_or_refuse(path: Path) -> None:
    try:
        assert read_image(path).shape == (4, 4, 3)
    except BadImageError:
        return


def _no_thumbnail(path: Path) -> None:
    assert thumbnail(path) is None
