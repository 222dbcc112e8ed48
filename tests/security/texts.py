"""XML, YAML and JSON that unfold, nest, name types or hold what is no number."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sora_det.adapt import AdaptationError
from sora_det.adapt.peft_format import CONFIG
from sora_det.data import load_benchmark
from sora_det.data.voc_xml import voc_record
from sora_det.evaluation.compare import read_results
from sora_det.evaluation.prediction_files import read_entries
from sora_det.evaluation.saved import read_domain
from tests.fuzz.annotations import BENCHMARK, COCO, read_coco, write_images
from tests.fuzz.scores import LISTED, read_any_metrics, results
from tests.fuzz.weights import read_peft, write_peft

from .archives import npy
from .case import CANARY, Case, written
from .pickles import zipped

OBJECT = "<object><name>car</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
SIZE = "<size><width>32</width><height>24</height></size>"


def cases() -> Iterator[Case]:
    for name, content in xml().items():
        yield Case("XML", name, written("a.xml", content), _read_xml)
    for name, content in yaml().items():
        yield Case("YAML", name, written("b.yaml", content), load_benchmark)
    yield from _json()
    yield from _patterns()


# --- XML ---------------------------------------------------------------------------------


def _read_xml(path: Path) -> None:
    voc_record(path, path.with_name("none.jpg"), category_ids={"car": 0})


def xml() -> dict[str, bytes]:
    def file(inner: str, head: str = "") -> bytes:
        body = f"<annotation>{SIZE}{inner}</annotation>"
        return f"<?xml version='1.0'?>{head}{body}".encode()

    laughs = "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 10))
    laughs = f"<!DOCTYPE annotation [<!ENTITY l0 'ha'>{laughs}]>"
    long = f"<!DOCTYPE annotation [<!ENTITY a '{'a' * 50_000}'>]>"
    named = "<object><name>{}</name></object>"
    outside = "<!DOCTYPE annotation [<!ENTITY x SYSTEM '{}'>]>"
    parameter = "<!DOCTYPE annotation [<!ENTITY % x SYSTEM 'file:///etc/passwd'>%x;]>"
    deep = 200_000
    return {
        "a billion laughs": file(named.format("&l9;"), laughs),
        "a billion laughs in UTF-16": file(named.format("&l9;"), laughs)
        .decode()
        .replace("'1.0'", "'1.0' encoding='utf-16'")
        .encode("utf-16"),
        "quadratic blow-up": file(named.format("&a;" * 50_000), long),
        "a local file": file(named.format("&x;"), outside.format("file:///etc/passwd")),
        "a web page": file(named.format("&x;"), outside.format("http://127.0.0.1:9/x")),
        "a parameter entity": file("", parameter),
        "a DTD outside": file("", "<!DOCTYPE annotation SYSTEM 'http://127.0.0.1:9/x.dtd'>"),
        "an attribute list": file("", "<!DOCTYPE a [<!ATTLIST annotation b CDATA 'c'>]>"),
        "objects in objects": file("<object>" * deep + "</object>" * deep),
        "a cut tree": file("<object>" * deep)[:-20],
        "20 MB": file(f"<!--{'a' * 20_000_000}-->"),
        "no such encoding": b"<?xml version='1.0' encoding='utf-7'?><annotation/>",
        "a million digits": file(OBJECT.format("9" * 10**6) + "</bndbox></object>"),
        "infinity": file(OBJECT.format("1e999") + "</bndbox></object>"),
        "no number": file(OBJECT.format("nan") + "</bndbox></object>"),
        "far away": file(OBJECT.format("-1e300") + "</bndbox></object>"),
        "a vast image": file("").replace(b"32", b"1e300"),
    }


# --- YAML --------------------------------------------------------------------------------


def yaml() -> dict[str, bytes]:
    good = json.dumps(BENCHMARK)
    laughs = "".join(f"l{i}: &l{i} [{','.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 30))
    evil = f"!!python/object/apply:os.system ['touch {CANARY}']"

    def with_name(text: str) -> bytes:
        return good.replace('"my weather"', text).encode()

    return {
        "python/object/apply": with_name(evil),
        "python/object/new": with_name(f"!!python/object/new:os.system ['touch {CANARY}']"),
        "python/name": with_name("!!python/name:os.system ''"),
        "python/module": with_name("!!python/module:os ''"),
        "python/tuple": with_name("!!python/tuple [a, b]"),
        "a tag of its own": with_name("!run 'touch canary'"),
        "a tag by its address": with_name("!<tag:yaml.org,2002:python/name:os.system> ''"),
        "a declared tag": b"%TAG ! tag:yaml.org,2002:python/\n--- !name:os.system ''\n",
        "a tag on the whole": f"{evil}\n".encode(),
        "a billion laughs": b"l0: &l0 [ha]\n" + laughs.encode(),
        "a billion laughs as classes": f"l0: &l0 [ha]\n{laughs}classes: *l29\n".encode(),
        "a list of itself": b"name: &a [*a]\n",
        "a mapping of itself": b"&a {name: *a}\n",
        "merged without end": b"&a\n<<: *a\n",
        "lists in lists": b"[" * 90_000,
        "blocks in blocks": b"- " * 90_000,
        "a megabyte": b"#" * 10**6,
        "a thousand documents": b"---\n" * 1000,
        "the same key": b"name: a\n" * 20_000,
        "a list as a key": b"? [a]\n: b\n",
        "bytes": b"\xff\xfe\x00\x01",
        "a pickle": b"\x80\x04cos\nsystem\n.",
        "a root of nobody": with_name('"a"').replace(b'"data"', b'"~nobody-here/data"'),
    }


# --- JSON --------------------------------------------------------------------------------


def json_texts() -> dict[str, str]:
    """Values that no document may hold, or documents that are nothing else."""
    return {
        "lists in lists": "[" * 200_000,
        "lists in lists, closed": "[" * 200_000 + "]" * 200_000,
        "objects in objects": '{"a":' * 200_000,
        "a million digits": "9" * 10**6,
        "an integer beyond floats": "1" + "0" * 400,
        "NaN": "NaN",
        "infinity": "Infinity",
        "a float beyond floats": "1e999",
        "half a character": '"\\ud800"',
        "a commanding text": '"\\u001b[2J"',
        "a text of ten million letters": f'"{"a" * 10**7}"',
        "nothing": "",
    }


def _json() -> Iterator[Case]:
    """Put each of them where a reader expects a number."""
    for name, text in json_texts().items():
        for reader, (file, document, read, refused) in _readers().items():
            content = document.replace('"HERE"', text).encode()
            make = written(file, content)
            yield Case("JSON", f"{name}, for {reader}", make, read, refused)
        config = json.dumps({"peft_type": "LORA", "r": "HERE"}).replace('"HERE"', text)
        yield Case("JSON", f"{name}, for PEFT", _peft(config), read_peft, (AdaptationError,))
        line = f'{{"iteration": {text}}}\n'.encode()
        yield Case("JSON", f"{name}, for metrics", written("metrics.json", line), _metrics, ())
        header = npy_text(f'{{"format": {text}}}')
        make = written("fog.npz", zipped({"header.npy": header}))
        yield Case("JSON", f"{name}, for detections", make, read_domain)
    twice = json.dumps(results()).replace('"version": 1', '"version": 1, "version": 1')
    yield Case("JSON", "a key twice", written("results.json", twice.encode()), read_results)
    twice = '{"annotations": [], "annotations": []}'
    yield Case("JSON", "a part twice", written("p.json", twice.encode()), read_entries)
    many = "{" + ",".join(f'"{i}": 0' for i in range(300_000)) + ', "annotations": []}'
    yield Case("JSON", "300,000 parts", written("p.json", many.encode()), read_entries)


def _readers() -> dict[str, Any]:
    coco = {**COCO, "images": [{**COCO["images"][0], "width": "HERE"}], "annotations": []}
    listed = [{**LISTED[0], "bbox": [1, 2, 3, "HERE"]}]
    table = results()
    table["scores"][0]["ap50"] = "HERE"
    return {
        "COCO": ("a.json", json.dumps(coco), _coco, (ValueError,)),
        "predictions": ("p.json", json.dumps(listed), _predictions, (ValueError,)),
        "results": ("results.json", json.dumps(table), read_results, (ValueError,)),
    }


def _coco(path: Path) -> None:
    write_images(path.parent)
    read_coco(path)


def _predictions(path: Path) -> None:
    from sora_det.evaluation.predictions import Source, read_predictions
    from tests.fuzz.scores import CLASSES, KNOWN

    read_predictions([Source(path)], KNOWN, CLASSES)


def _metrics(path: Path) -> None:
    read_any_metrics(path)


def npy_text(text: str) -> bytes:
    head = f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': (), }}"
    return npy(head) + text.encode("utf-32-le", "surrogatepass")


def _peft(config: str) -> Any:
    def write(folder: Path) -> Path:
        write_peft(folder)
        return written(CONFIG, config.encode())(folder)

    return write


def _patterns() -> Iterator[Case]:
    """Regular expressions that would take years on the names of the layers."""
    for pattern in (
        "(b+)+c",
        "(.*)*c",
        "(b|b|b)*c",
        "(((b?)+)+)+c",
        "b?" * 40 + "c",
        ".*" * 40 + "c",
        "(a|b)" * 70 + "c",
        "(?=(b+)+c)b",
        "(b)\\1+c",
        "(" * 5000 + ")" * 5000,
        "[" * 5000,
        "b{1,60000}" * 9,
    ):
        config = json.dumps({"peft_type": "LORA", "r": 1, "rank_pattern": {pattern: 1}})
        yield Case("pattern", pattern[:20], _peft(config), read_peft, (AdaptationError,))
    many = {f"{i}.*x": 1 for i in range(40_000)}
    config = json.dumps({"peft_type": "LORA", "r": 1, "rank_pattern": many})
    yield Case("pattern", "40,000 of them", _peft(config), read_peft, (AdaptationError,))
