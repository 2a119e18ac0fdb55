from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from brats_clip.evaluation import case_metrics, summarise, write_report

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Collect tags and text, and check that the tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.open, self.scripts = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def rows() -> list[dict]:
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[4:14, 4:14, 4:14], truth[6:12, 6:12, 6:12], truth[7:11, 7:11, 7:11] = 2, 1, 4
    predictions = {
        "good": truth,
        "bad": np.where(truth == 4, 1, np.roll(truth, 4, 0)),
        "middling": np.roll(truth, 1, 0),
    }
    found = [{"case": case, **case_metrics(p, truth, (1, 1, 1))} for case, p in predictions.items()]
    without_et = np.where(truth == 4, 1, truth)
    return [*found, {"case": "no <ET> & more", **case_metrics(without_et, without_et, (1, 1, 1))}]


@pytest.fixture
def write(tmp_path):
    def _write(cases=None, **arguments) -> tuple[str, Page]:
        cases = rows() if cases is None else cases
        arguments.setdefault("run", {"command": "evaluate it", "weights_sha256": "abc123"})
        write_report(tmp_path / "report.html", cases, summarise(cases), **arguments)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        return text, Page(text)

    return _write


@pytest.fixture
def overlays(tmp_path):
    folder = tmp_path / "overlays"
    folder.mkdir()
    for row in rows():
        Image.new("RGB", (40, 30), (10, 20, 30)).save(folder / f"{row['case'][:3]}.png")
    return {row["case"]: folder / f"{row['case'][:3]}.png" for row in rows()}


def test_page_loads_no_external_resources(write, overlays):
    text, page = write(overlays=overlays)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "xlink:href", "data", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/")), (tag, value)
    assert not re.search(r"https?://|url\(|@import", text)
    assert page.all("link") == [] and all("src" not in a for a in page.all("script"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_text_from_files_is_escaped(write):
    attack = "Frontal lesion.\n<script>alert('x')</script><img src=x onerror=alert(1)>"
    _, page = write(reports={"bad": attack}, run={"command": "<b>run</b>"}, title="<i>title</i>")
    assert len(page.all("script")) == 1 and "alert" not in page.scripts[0]
    assert page.all("img") == [] and page.all("i") == []
    assert "<script>alert('x')</script>" in page.words
    assert "<b>run</b>" in page.words
    assert "no <ET> & more" in page.words


def test_header_states_command_weights_and_research_use(write):
    _, page = write()
    assert "Research use only." in page.words
    assert "evaluate it" in page.words and "abc123" in page.words
    assert "4 cases" in page.words


def test_pictures_are_sorted_worst_first_and_limited(write, overlays):
    _, page = write(overlays=overlays)
    sections = [a["id"] for a in page.all("section")]
    assert sections[:2] == ["case-bad", "case-middling"]
    assert len(page.all("img")) == 4
    _, page = write(overlays=overlays, max_pictures=1)
    assert [a["alt"].split(":")[0] for a in page.all("img")] == ["bad"]
    assert "3 cases without a picture" in page.words


def test_links_and_chart_dots_lead_to_case_sections(write):
    text, page = write()
    targets = {a["id"] for a in page.all("section")}
    links = [a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#case-")]
    assert {"case-good", "case-bad"} <= set(links)
    assert {link for link in links if "%" not in link} <= targets
    dots = re.findall(r'<a href="#case-[^"]*">\s*<use [^>]*/>\s*<title>([^<]*)</title>', text)
    assert len(dots) >= 2 * 3 * 3 and "bad: ET 0.000" in dots
    assert "no &lt;ET&gt; &amp; more: WT 1.000" in dots


def test_missing_pictures_are_skipped_and_missing_reports_stated(write, tmp_path):
    _, page = write(overlays={"good": tmp_path / "not there.png"}, reports={"good": "One lesion."})
    assert page.all("img") == []
    assert "One lesion." in page.words
    assert page.words.count("No report was given.") == 3


def test_cases_with_and_without_et_have_separate_rows(write):
    _, page = write()
    assert "cases with ET" in page.words and "cases without ET" in page.words
    assert "cases without WT" not in page.words


def test_training_curves_are_drawn_if_given(write):
    assert "Training curves" not in write()[0]
    curves = {"epoch": [1, 2, 3], "train loss": [0.9, 0.5, 0.4], "dice_WT": [None, 0.5, float("nan")]}
    curves["learning_rate"] = [1e-3, 1e-4, 1e-5]  # too small to be visible on the axis of Dice
    text, page = write(curves=curves)
    lines = re.findall(r'<g id="curve"><path d="([^"]*)"', re.sub(r">\s+<", "><", text))
    assert len(lines) == 2
    assert "train loss (last 0.400)" in page.words and "dice_WT (last 0.500)" in page.words
    assert len(re.findall(r"-?[\d.]+", lines[0])) == 6
    assert "learning_rate" not in page.words


def test_charts_use_the_colour_variables_of_the_page(write):
    text, _ = write(curves={"epoch": [1, 2], "train loss": [0.9, 0.5], "dice_WT": [0.4, 0.5]})
    charts = re.findall(r"<svg .*?</svg>", text, re.S)
    assert len(charts) == 4
    for chart in charts:
        assert re.search(r"#[0-9a-f]{6}\b", re.sub(r'(?:href|id)="[^"]*"', "", chart)) is None
        assert "var(--rule)" in chart and "var(--soft)" in chart


def test_page_is_written_for_a_single_case(write):
    _, page = write(cases=rows()[:1])
    assert "1 case," in page.words


def test_failed_page_leaves_no_file(tmp_path):
    cases = rows()
    broken = [{k: v for k, v in cases[0].items() if k != "volume_ml_ET"}]
    with pytest.raises(KeyError):
        write_report(tmp_path / "report.html", broken, summarise(broken), {})
    assert list(tmp_path.iterdir()) == []
