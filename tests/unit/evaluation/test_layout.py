from sora_det.evaluation.layout import latex_table, markdown_table, text_table

HEAD = ("domain", "AP50")


def test_words_go_left_and_numbers_right() -> None:
    text = text_table(HEAD, [("fog", "40.0"), ("night-rainy", "-")], [("mean", "40.0")])
    assert text.splitlines()[1:6] == [
        "domain       AP50",
        "-----------------",
        "fog          40.0",
        "night-rainy     -",
        "-----------------",
    ]


def test_tables_without_rows() -> None:
    assert text_table(HEAD, []) == "\n".join(["-" * 12, "domain  AP50", "-" * 12, "-" * 12])
    assert markdown_table(HEAD, []) == "| domain | AP50 |\n| ------ | ---- |"
    assert latex_table(HEAD, []).splitlines()[:3] == [
        "\\begin{tabular}{ll}",
        "\\toprule",
        "domain & AP50 \\\\",
    ]
    below = [("mean", "40.0")]
    assert markdown_table(HEAD, [], below).endswith("\n| **mean** | **40.0** |")
    assert text_table(HEAD, [], below).splitlines()[-2] == "mean    40.0"
