"""The page as a file: what it says, what it refuses, and that nothing in it is foreign markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sora_det.evaluation.compare import read_results
from sora_det.evaluation.protocol import RunInfo
from sora_det.evaluation.saved import read_domain, write_domain
from sora_det.report.page import write_page
from tests.tools.report_runs import metrics_line, write_run

VOID = {"br", "hr", "img", "input", "link", "meta"}


class Reader(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not change this folder."""
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_page([run], run.parent / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    return Reader(html)


def made(folders: list[Path], output: Path, **options: object) -> Reader:
    path = write_page(folders, output, **options)  # type: ignore[arg-type]
    return Reader(path.read_text(encoding="utf-8"))


def test_the_headline_numbers_are_those_of_the_results(run: Path, read: Reader) -> None:
    summary = json.loads((run / "results.json").read_text())["summary"]
    tiles = read.text[: read.text.index("How far to trust this")]
    for key in ("source", "target_mean"):
        assert f"{summary[key]:.1f} AP50" in tiles
    assert f"{100 * summary['relative_robustness']:.0f}%" in tiles
    assert f"on {summary['worst_target']}" in tiles


def test_rows_below_the_tables_are_those_of_the_results(run: Path, read: Reader) -> None:
    for row in read_results(run).summary():
        whole, coco = (f"{round(value or 0, 1):.1f}" for value in row.values[-2:])
        *classes, _, _ = (f"{round(value or 0, 1):.1f}" for value in row.values)
        assert f"{row.name}{row.domain}{''.join(classes)}{whole}" in read.text
        if row.name in ("drop from source", "relative robustness"):
            assert f"{row.name}{whole}{coco}" in read.text


def test_of_other_programs_detectors_nothing_is_claimed(tmp_path: Path, read: Reader) -> None:
    assert "backbone started from random numbers" in read.text
    other = write_run(tmp_path / "other", run=RunInfo(method="theirs"), pictures=False)
    text = made([other], tmp_path / "page.html").text
    assert "backbone started from random numbers" not in text


def test_the_page_says_how_far_to_trust_it(tmp_path: Path, read: Reader) -> None:
    assert "This is one training run (seed 0)" in read.text
    assert "95% bootstrap intervals (50 draws" in read.text
    assert "car in 3 of 3 domains (6 to 6)" in read.text
    random = RunInfo(method="SoRA()", random_init=True)
    bare = write_run(tmp_path / "run", run=random, replicates=0, pictures=False)
    text = made([bare], tmp_path / "page.html").text
    assert "started from random numbers" in text
    assert "no confidence intervals" in text


def test_nothing_is_loaded_from_elsewhere(html: str, read: Reader) -> None:
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    for _, attributes in read.tags:
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#"))
    policies = [m["content"] for m in read.all("meta") if m.get("http-equiv")]
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'")


def test_the_same_run_gives_the_same_bytes(run: Path, html: str, tmp_path: Path) -> None:
    assert write_page([run], tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_every_id_is_used_once_and_every_link_leads_to_one(read: Reader) -> None:
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [a["href"] for a in read.all("a")]
    assert links
    assert {f"#{name}" for name in ids} >= set(links)


def test_tables_and_pictures_are_described(read: Reader) -> None:
    assert all(attributes.get("scope") for attributes in read.all("th"))
    images = read.all("img")
    assert len(images) == 3 * 3 * 4 - 3 * 2  # six images a domain: three worst, four random, ...
    assert all(image.get("alt") for image in images)
    charts = [s for s in read.all("svg") if s.get("class") == "chart"]
    assert charts
    assert all(chart.get("aria-label") for chart in charts)


def test_text_and_boxes_of_the_gallery(html: str, read: Reader) -> None:
    assert "drawn from all images of the domain with seed 0" in read.text
    assert "that of the best F1 on clear: car 0." in read.text
    for look in ("found", "missed", "right", "wrong"):
        assert f'<rect class="{look}"' in html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    nasty = ('<script>alert("1")</script>', "a\"b'c&d<b>\u202e\x00")
    domains = ("clear", "fog<img src=x onerror=alert(1)>")
    folder = tmp_path / "run"
    write_run(folder, classes=nasty, domains=domains[:1])
    file = folder / "detections" / "clear.npz"
    data = read_domain(file)
    ids = ("</figcaption><script>", *data.ids[1:])
    write_domain(replace(data, ids=ids), folder)
    text = (folder / "results.json").read_text(encoding="utf-8")
    document = json.loads(text)
    document["benchmark"] = "</title><script>"
    document["scores"][0]["domain"] = document["protocol"]["splits"][0]["domain"] = domains[1]
    document["run"]["method"] = "</script><!--"
    document["protocol"]["splits"][0]["file"] = '"><svg onload=alert(1)>'
    (folder / "results.json").write_text(json.dumps(document), encoding="utf-8")
    write_domain(replace(data, ids=ids, domain=domains[1].replace("/", "")), folder)
    page = made([folder], tmp_path / "page.html", title="<i>&amp;</i>")
    assert len(page.all("script")) == 1
    assert all((image["src"] or "").startswith("data:image/jpeg") for image in page.all("img"))
    assert ids[0] in page.text
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    assert "<i>&amp;</i>" in page.text
    assert nasty[0] in page.text
    assert "\u202e" not in page.text
    assert "\x00" not in page.text


def test_images_that_are_gone_are_said_to_be(run: Path, tmp_path: Path) -> None:
    bare = write_run(tmp_path / "run", pictures=False)
    page = made([bare], tmp_path / "page.html")
    assert not page.all("img")
    assert page.text.count("image files of this domain cannot be read below") == 3
    assert "--images FOLDER" in page.text
    page = made([bare], tmp_path / "page.html", images=run.parent / "images")
    assert page.all("img")


def test_a_damaged_image_is_left_out_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", domains=("clear",))
    (tmp_path / "images" / "clear" / "0.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "clear" / "1.jpg").write_bytes(b"")
    page = made([folder], tmp_path / "page.html")
    assert page.all("img")
    assert "image files cannot be read" in page.text


def test_an_older_run_without_detections_is_told_how_to_get_them(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", detections=False, pictures=False)
    page = made([folder], tmp_path / "page.html")
    assert page.text.count("No detections are kept for this run") == 2  # curves and pictures
    assert "--eval-only" in page.text


def test_a_domain_without_detections_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "detections" / "fog.npz").unlink()
    assert "No detections are kept for fog" in made([folder], tmp_path / "page.html").text


def test_detections_of_another_evaluation_are_called_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    data = read_domain(folder / "detections" / "fog.npz")
    write_domain(
        replace(
            data,
            detections=replace(
                data.detections,
                box=data.truth.box[:0],
                image=data.truth.image[:0],
                label=data.truth.label[:0],
                score=np.empty(0),
            ),
        ),
        folder,
    )
    page = made([folder], tmp_path / "page.html")
    assert "detections kept for fog do not give the scores in results.json" in page.text
    assert "kept for clear" not in page.text


def test_without_metrics_the_section_says_why(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", metrics=False)
    assert "There is no metrics.json" in made([folder], tmp_path / "page.html").text
    (folder / "metrics.json").write_text("\x00\x00\n{}\n")
    assert "no line that can be read" in made([folder], tmp_path / "page.html").text
    (folder / "metrics.json").write_text(metrics_line(0) + metrics_line(20) + '{"iterat')
    assert "1 line of metrics.json could not be read" in made([folder], tmp_path / "page.html").text


def test_a_filter_of_boxes_is_followed_and_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", min_side=25.0)
    page = made([folder], tmp_path / "page.html")
    assert "with a side below 25 pixels" in page.text
    assert "are left out" in page.text
    assert "do not give the scores" not in page.text  # curves leave them out too


def test_plots_of_analyses_become_images(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", pictures=False)
    place = folder / "spectrum"
    place.mkdir()
    (place / "spectrum.json").write_text('{"format": "sora_det.spectrum", "version": 1}')
    (place / "spectra.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>')
    (folder / "spectra.svg").write_text("<svg/>")  # beside no report: none of ours
    page = made([folder], tmp_path / "page.html")
    (image,) = page.all("img")
    assert (image["src"] or "").startswith("data:image/svg+xml;base64,")
    assert len(page.all("script")) == 1
    assert "spectrum/spectra.svg" in page.text


def test_wrong_folders_are_refused_with_what_to_do(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write_page([tmp_path / "nowhere"], output)
    with pytest.raises(FileNotFoundError, match=r"holds no results\.json"):
        write_page([tmp_path], output)
    with pytest.raises(NotADirectoryError, match="is a file"):
        write_page([run / "results.json"], output)
    with pytest.raises(ValueError, match="given twice"):
        write_page([run, run / "..", run / ".." / run.name][::2], output)
    with pytest.raises(NotADirectoryError, match="no such folder of images"):
        write_page([run], output, images=tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match="name a file"):
        write_page([run], tmp_path)
    with pytest.raises(ValueError, match="at least one run"):
        write_page([], output)
    assert not output.exists()


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", pictures=False)
    file = folder / "detections" / "fog.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"fog\.npz"):
        write_page([folder], tmp_path / "page.html")
    file.write_bytes(whole)
    (folder / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results\.json"):
        write_page([folder], tmp_path / "page.html")


def test_detections_of_other_classes_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", pictures=False)
    data = read_domain(folder / "detections" / "fog.npz")
    write_domain(replace(data, classes=("bus", "tram")), folder)
    with pytest.raises(ValueError, match="of other classes"):
        write_page([folder], tmp_path / "page.html")


# --- several runs -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("runs")
    return [
        write_run(place / f"{name.lower()}{seed}", run=RunInfo(method=f"{name}(r=1)", seed=seed))
        for name, seed in (("SoRA", 0), ("SoRA", 1), ("Full", 0))
    ]


def test_seeds_of_a_method_become_mean_and_deviation(runs: list[Path], tmp_path: Path) -> None:
    page = made(runs, tmp_path / "page.html")
    values = [json.loads((run / "results.json").read_text())["summary"] for run in runs[:2]]
    means = [value["target_mean"] for value in values]
    assert "SoRA and Full on toy" in page.text
    assert f"{np.mean(means):.1f}± {np.std(means, ddof=1):.1f}" in page.text
    assert "One run each, so that no spread is known: Full." in page.text


def test_runs_carry_the_name_and_the_colour_of_their_method(
    runs: list[Path], tmp_path: Path
) -> None:
    page = made(runs, tmp_path / "page.html")
    for run, method in (("sora0", "SoRA"), ("sora1", "SoRA"), ("full0", "Full")):
        assert f"{run} ({method})" in page.text
    curves = {g["class"] for g in page.all("g") if "dash" in (g.get("class") or "")}
    assert curves == {"s0 dash0", "s0 dash1", "s1 dash0"}


def test_classes_of_several_runs_are_means_over_seeds(runs: list[Path], tmp_path: Path) -> None:
    text = made(runs, tmp_path / "page.html").text
    scores = [json.loads((run / "results.json").read_text())["scores"] for run in runs[:2]]
    bus, whole = ([f(s[1]) for s in scores] for f in (lambda d: d["classes"][0]["ap50"], _ap50))
    row = f"fogSoRA{np.mean(bus):.1f}±{np.std(bus, ddof=1):.1f} · "
    assert row in text
    assert f"{np.mean(whole):.1f}±{np.std(whole, ddof=1):.1f}" in text
    assert re.search(r"target meanSoRA[\d.]+±", text)


def _ap50(domain: dict[str, float]) -> float:
    return domain["ap50"]


def test_curves_and_pictures_of_several_runs_share_their_places(
    runs: list[Path], tmp_path: Path
) -> None:
    page = made(runs, tmp_path / "page.html")
    panels = [f for f in page.all("figure") if "data-class" in f]
    assert len(panels) == 2 * 3  # classes times domains
    menus = [menu.get("data-filter") for menu in page.all("select")]
    assert menus == ["class", "domain", None]
    layers = [g for g in page.all("g") if "data-run" in g]
    assert {g["data-run"] for g in layers} == {"0", "1", "2"}
    assert all((g.get("class") == "off") == (g["data-run"] != "0") for g in layers)


def test_runs_under_other_protocols_need_force_and_get_a_warning(
    runs: list[Path], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", min_side=20.0)
    with pytest.raises(ValueError, match="different protocols"):
        write_page([runs[0], other], tmp_path / "page.html")
    page = made([runs[0], other], tmp_path / "page.html", force=True)
    assert any(a.get("role") == "alert" for _, a in page.tags)
    assert "Their scores do not compare" in page.text


def test_forced_runs_may_have_other_classes(runs: list[Path], tmp_path: Path) -> None:
    more = write_run(tmp_path / "more", classes=("bus", "car", "person"), pictures=False)
    text = made([more, runs[0]], tmp_path / "page.html", force=True).text
    assert re.search(r"fogSoRA\(r=1\)–no boxes[\d.]+ few", text)
    assert re.search(r"target meanSoRA\(r=1\)–[\d.]+", text)


def test_runs_with_one_name_are_told_apart(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a" / "run", run=RunInfo(method="A"), pictures=False)
    two = write_run(tmp_path / "b" / "run", run=RunInfo(method="B"), pictures=False)
    text = made([one, two], tmp_path / "page.html").text
    assert "a/run" in text
    assert "b/run" in text
