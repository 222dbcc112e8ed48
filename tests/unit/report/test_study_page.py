from pathlib import Path

from sora_det.evaluation.compare import compare
from sora_det.evaluation.scores import Interval
from sora_det.evaluation.study import NUMBERS, Difference, Searched, Summary
from sora_det.report.study import study_page, write_study_page
from tests.tools.results import table

SORA = [table(60, 40, 20, method="SoRA", seed=0), table(64, 44, 20, method="SoRA", seed=1)]
FULL = [table(80, 30, 10, method="Full", seed=s) for s in (0, 1)]
SUMMARY = Summary(
    name="small",
    question="Which is <better>?",
    reference="SoRA",
    comparison=compare({"SoRA": SORA, "full": FULL}),
    differences=tuple(
        Difference("full", name, mean, Interval(mean - 1, mean + 2), 2, 2)
        for name, mean in zip(NUMBERS, (18.0, -11.0, -10.0), strict=True)
    ),
    searches=(
        Searched("SoRA", ((1e-4, 50.0), (1e-3, 60.0), (1e-2, 0.0)), 1e-3, False),
        Searched("full", ((1e-4, 70.0), (1e-3, 60.0), (1e-2, 0.0)), 1e-4, True),
    ),
    facts=("2 of 4 runs are done.",),
)


def test_all_parts_are_on_the_page(tmp_path: Path) -> None:
    file = write_study_page(SUMMARY, tmp_path / "new" / "report.html")
    text = file.read_text()
    assert text == study_page(SUMMARY)
    for part in (
        "<title>small</title>",
        "Which is &lt;better&gt;?",
        "+18.0 (+17.0 to +20.0)",
        "-11.0 (-12.0 to -9.0)",
        "2 of 2 seeds",
        "the best lies at the edge",
        "0.0001: 70.0, 0.001: 60.0, 0.01: 0.0",
        "2 of 4 runs are done.",
        "62.0",  # SoRA's mean on the source
    ):
        assert part in text
    assert text.count("<svg") >= 2


def test_a_study_that_has_only_begun() -> None:
    early = Summary("small", "", "SoRA", compare({"full": FULL}), (), (), ("1 run is done.",))
    text = study_page(early)
    assert "There is nothing to compare with SoRA yet." in text
    assert "No search has ended yet." in text


def test_the_table() -> None:
    text = SUMMARY.to_markdown()
    assert text.startswith("Which is \\<better>?\n\n")
    assert "| full   | +18.0 (+17.0 to +20.0), 2 of 2 |" in text
    assert "Difference to SoRA, points of AP50, with its 95% interval:" in text
    assert "- 2 of 4 runs are done." in text
