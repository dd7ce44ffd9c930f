import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from planners.fingerprint.measure import make_fingerprint
from planners.plan import make_plan
from planners.report.page import report_page, write_report
from preprocessing.dataset.raw import open_dataset
from preprocessing.dataset.splits import find_splits
from tests.planners.report.datasets import case, describe, fingerprint_of, plan_of, sizes, slices_of, sound
from tests.preprocessing.datasets import make_dataset

HOSTILE = {"background": 0, '<script>alert("1")</script>': 1, "a & <b>b</b> $\\frac{1}{2}$ & more than is drawn": 2}


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


def page_of(cases=None, description=None, slices=None, **changes):
    cases = cases or sound(description=description)
    fingerprint = fingerprint_of(cases, **changes)
    description = description or describe()
    plan = plan_of(fingerprint, description)
    classes = len(description.values) - 1
    return report_page(fingerprint, plan, find_splits(Path("absent.json"), list(cases)), slices or slices_of(classes=classes))


@cache
def plain_page():
    """The page of sound data, made once for all that read it."""
    return page_of()


def test_same_input_same_page():
    assert page_of() == plain_page()


def test_page_fetches_nothing_and_runs_nothing():
    text = plain_page()
    page = Page(text)
    assert "script" not in page.tags and "link" in page.tags and page.tags.count("svg") == 7
    assert page.values("http-equiv") == ["Content-Security-Policy"]
    links = [*page.values("href"), *page.values("src"), *page.values("xlink:href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.findall(r"url\((?!#)", text) and "@import" not in text and "@font-face" not in text


def test_identifiers_are_unique_and_links_lead_somewhere():
    page = Page(plain_page())
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    targets = [link[1:] for link in (*page.values("href"), *page.values("xlink:href")) if link.startswith("#")]
    assert targets and set(targets) <= set(identifiers)
    clips = [value[5:-1] for value in page.values("clip-path")]
    assert clips and set(clips) <= set(identifiers)


def test_every_figure_has_words():
    page = Page(plain_page())
    labels = page.values("aria-label")
    assert page.tags.count("figure") == page.tags.count("figcaption") == page.values("role").count("img") == 7
    assert all(label.strip() for label in labels)


def test_names_stay_text():
    cases = {f"<i>{name}": found for name, found in sound(description=describe(HOSTILE)).items()}
    page = Page(page_of(cases, describe(HOSTILE), slices_of("<i>case_0")))
    plain = Page(plain_page())
    assert not {"script", "b", "i"} & set(page.tags)
    assert page.tags.count("figure") == plain.tags.count("figure")
    for name in describe(HOSTILE).foreground:
        assert name in page.text
    assert "<i>case_0" in page.text
    assert "a & <b>b</b> $\\frac{1}{2}…" in page.text  # in a figure, shortened and not taken for mathematics


def test_theme_colours_are_left_to_the_page():
    text = plain_page()
    assert "var(--ink)" in text and "var(--blue)" in text and "#0a0b0" not in text


@pytest.mark.parametrize(
    "cases",
    [
        {"one": case({"liver": sizes(1000), "tumour": sizes()})},
        {"a": case({"liver": sizes(), "tumour": sizes()}), "b": case({"liver": sizes(), "tumour": sizes()})},
        {
            "a": case({"liver": sizes(5), "tumour": sizes(5)}, shape=(1, 64, 64)),
            "b": case({"liver": sizes(5), "tumour": sizes(7)}, shape=(1, 64, 64)),
        },
        {str(index): case({"liver": sizes(10 ** (1 + index % 6)), "tumour": sizes(*[1] * 100)}) for index in range(60)},
    ],
    ids=["one case", "no foreground", "flat", "many sizes"],
)
def test_odd_data_has_a_page(cases):
    page = Page(page_of(cases))
    assert "Planning report" in page.text


def test_no_intensities_no_picture_of_them():
    without = {name: found.model_copy(update={"intensities": ()}) for name, found in sound().items()}
    page = Page(page_of(without, histograms=(), intensities=()))
    assert page.tags.count("figure") == Page(plain_page()).tags.count("figure") - 1


def test_regions_are_outlined_as_regions():
    description = describe({"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))
    assert "2 regions" in Page(page_of(description=description)).text


def test_image_without_contrast_or_labels():
    slices = slices_of()
    flat = tuple(np.ones_like(image) for image in slices.images)
    page_of(slices=type(slices)(slices.case, flat, None, slices.centre, slices.spacing, slices.extent))


def test_report_is_written_beside_the_plan(tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "data"))
    fingerprint = make_fingerprint(dataset)
    plan = make_plan(dataset.description, fingerprint)
    path = write_report(tmp_path / "work", dataset, fingerprint, plan)
    first = path.read_bytes()
    assert path.name == "report.html" and write_report(tmp_path / "work", dataset, fingerprint, plan).read_bytes() == first
    text = Page(first.decode()).text
    for network in plan.configurations["3d_fullres"].networks.values():
        assert all(sentence in text for sentence in network.reasons.values())
