"""What the pages say, and that names cannot do anything in them."""

import errno
import io
import os
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.folders import ALL
from inference.evaluation.equivariance import FACTORS, EquivarianceCurve
from inference.report.cli import main
from inference.report.overview import ReportedModel, behind, overview_page
from inference.report.page import Measured, model_page
from inference.report.run import ReportOptions, find_models, write_report
from inference.report.scoring import notable, overall, ranked
from inference.report.trained import read_trained
from tests.inference.report.models import write_trained
from tests.planners.report.test_page import Page

NOTHING_MEASURED = ReportOptions(equivariance=False)
HOSTILE = {"background": 0, '<script>alert("1")</script>': 3, "a & <b>b</b> $\\frac{1}{2}$": 7}
CURVE = EquivarianceCurve(
    method=1, fold="0", weights="0", factors=FACTORS, cases=1, shape=(16, 16, 16), on_cases=(0.1,) * 6, on_fields=(0.3,) * 6
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_trained(tmp_path_factory.mktemp("report"))


@cache
def page_of(folder: Path) -> str:
    return model_page(read_trained(folder), Measured(CURVE))


def test_everything_is_on_the_page(folder) -> None:
    text = Page(page_of(folder)).text
    model = read_trained(folder)
    for needed in (
        f"{overall(model).mean:.3f}",
        "c3",
        "the worst case",
        "the best case",
        "2.5 GB",
        "60 s",
        "0.300",
        "sizes 0.8 1 1.25",
        "sizes search",
        "Calibrated on 4 validation cases",
        "The search of the size is on",
    ):
        assert needed in text, needed
    assert "seed" in text and "Stages, finest first" in text
    assert page_of(folder) == model_page(read_trained(folder), Measured(CURVE))  # the same folder, the same page


def test_cases_are_ranked_and_each_is_shown_once(folder) -> None:
    model = read_trained(folder)
    assert [case for case, _ in ranked(model)] == ["c3", "c2", "c1", "c0"]
    assert notable(model, 2) == {
        "c3": "the worst case",
        "c2": "worst case, rank 2",
        "c1": "the median case",
        "c0": "the best case",
    }
    assert set(notable(model, 3)) == {"c0", "c1", "c2", "c3"}


def test_page_fetches_nothing_and_runs_one_script(folder) -> None:
    page = Page(page_of(folder))
    links = [*page.values("href"), *page.values("src"), *page.values("xlink:href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert page.tags.count("script") == 1 and not [name for name, _ in page.attributes if name.startswith("on")]
    policy = page.values("content")[0]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy) and "default-src 'none'" in policy
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    assert {link[1:] for link in links if link.startswith("#")} <= set(identifiers)


def test_names_stay_text(tmp_path) -> None:
    description = DatasetDescription(name="toy", channels=("<u>MR</u>",), labels=HOSTILE)
    folder = write_trained(tmp_path, description, ("<b>c0", "&lt;c1", "c'2\"", "c3"))
    page, plain = Page(page_of(folder)), Page(page_of(write_trained(tmp_path / "plain")))
    assert not {"b", "i", "u"} & set(page.tags) and page.tags.count("script") == 1
    for name in ("<b>c0", "&lt;c1", "c'2\"", "<u>MR</u>", *description.foreground):
        assert name in page.text, name
    assert page.tags.count("svg") == plain.tags.count("svg")


def test_what_is_missing_is_told(folder, tmp_path) -> None:
    bare = write_trained(tmp_path)
    for name in ("training.json", "scale_robustness.json", "fold_0/log.csv", "fold_1/log.csv"):
        (bare / name).unlink()
    for fold in ("fold_0", "fold_1"):
        (bare / fold / "validation/metrics.json").unlink()
    text = Page(model_page(read_trained(bare), Measured())).text
    for needed in ("no scores of validation cases", "no validated case", "se_evaluate -m MODEL --scales", "no training log"):
        assert needed in text
    assert "It was not requested." in text


def test_files_that_cannot_be_read_are_told_and_left_out(tmp_path, caplog) -> None:
    folder = write_trained(tmp_path)
    (folder / "training.json").write_text("{")
    (folder / "fold_0/log.csv").write_text('a,b\n"')
    (folder / "fold_0/validation/metrics.json").write_text("[]")
    (tmp_path / "toy/labelsTr/c3.nii.gz").unlink()
    model = read_trained(folder)
    assert len(model.notes) == 3 and set(model.scores.cases) == {"c2", "c3"}
    write_report(folder, options=ReportOptions(equivariance=False))
    assert caplog.text.count("left out of the report: ") == 3
    assert "left out of the report, slices of case `c3`" in caplog.text
    text = Page(model_page(model, Measured())).text
    assert (
        text.count("A file was omitted") == 3 and "This case cannot be shown" in text and "labelsTr/c3.nii.gz is missing" in text
    )


@pytest.mark.parametrize("name", ["training.json", "fold_0/log.csv", "fold_1/validation/c3.nii.gz"])
def test_what_the_system_cannot_read_is_not_left_out(tmp_path, monkeypatch, name) -> None:
    """A failing disk must not make a page that lacks what is there."""
    folder = write_trained(tmp_path)
    opened = io.open

    def failing(file, *arguments, **named):
        if str(file).endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return opened(file, *arguments, **named)

    monkeypatch.setattr(io, "open", failing)
    monkeypatch.setattr("builtins.open", failing)
    with pytest.raises((InputError, OSError), match=f"{name}.*Input/output error|Input/output error.*{name}"):
        write_report(folder, tmp_path / "page.html", ReportOptions(equivariance=False))
    assert not (tmp_path / "page.html").exists()


def test_scores_of_training_cases_are_called_so(tmp_path) -> None:
    folder = write_trained(tmp_path)
    (folder / "fold_0").rename(folder / f"fold_{ALL}")
    assert set(read_trained(folder).scores.cases) == {"c2", "c3"}
    (folder / "fold_1/validation/metrics.json").unlink()
    assert "They say little about new cases" in Page(model_page(read_trained(folder), Measured())).text


def test_models_side_by_side(tmp_path) -> None:
    first, second = write_trained(tmp_path), write_trained(tmp_path / "other")
    second.rename(first.parent / "3d_fullres_se<b>")
    work = first.parent.parent.parent
    page = write_report(work, None, NOTHING_MEASURED)
    assert page == work / "models.html" and find_models(work) == find_models(first.parent) == sorted(first.parent.glob("*"))
    read = Page(page.read_text())
    links = [link for link in read.values("href") if not link.startswith(("#", "data:"))]
    assert links == ["toy/models/3d_fullres_baseline/report.html", "toy/models/3d_fullres_se%3Cb%3E/report.html"]
    assert (first / "report.html").is_file() and "3d_fullres_se<b>" in read.text and "script" not in read.tags
    models = [read_trained(path) for path in find_models(work)]
    assert behind(*models) == (0, (0, 0), 4)
    both = overview_page(work, [ReportedModel(model, CURVE, work / "x.html") for model in models], page)
    assert Page(both).tags.count("svg") == 3


def test_models_that_cannot_be_read_are_named_and_do_not_stop_the_others(tmp_path, monkeypatch, capsys) -> None:
    good, damaged = write_trained(tmp_path), write_trained(tmp_path / "other")
    damaged = damaged.rename(good.parent / "3d_fullres_<b>")
    (damaged / "plan.json").write_text("{")
    work = good.parent.parent
    monkeypatch.setattr(sys, "argv", ["se_report", str(work), "--no-equivariance"])
    assert main() == 2
    said = capsys.readouterr()
    assert "1 fault in the input" in said.err and f"{damaged / 'plan.json'}: the file is not valid JSON" in said.err
    assert (good / "report.html").is_file() and not (damaged / "report.html").exists() and not said.out
    page = Page((work / "models.html").read_text())
    assert "A model was omitted." in page.text and "3d_fullres_<b>/plan.json: the file is not valid JSON" in page.text
    assert "1 model of 1 dataset" in page.text and "b" not in page.tags
    (work / "models.html").unlink()
    (good / "plan.json").write_text("{")
    assert main() == 2 and "2 faults in the input" in capsys.readouterr().err and not (work / "models.html").exists()


def test_the_difference_is_over_common_cases(folder, tmp_path) -> None:
    other = write_trained(tmp_path, cases=("c3", "c2", "c1", "x"))  # now c3 is the best case
    difference, _, cases = behind(read_trained(folder), read_trained(other)) or (np.nan, None, 0)
    assert cases == 3 and difference > 0
    assert behind(read_trained(folder), read_trained(write_trained(tmp_path / "more", cases=("x", "y")))) is None


def test_no_model_is_an_error(tmp_path) -> None:
    with pytest.raises(InputError, match="no trained model"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="no trained model"):
        write_report(tmp_path / "absent")


def test_the_command(folder, tmp_path, monkeypatch, capsys) -> None:
    page = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["se_report", str(folder), "-o", str(page), "--worst", "0", "--no-equivariance", "--quiet"])
    assert main() == 0 and capsys.readouterr().out == f"{page}\n"
    assert 'class="viewer"' not in page.read_text()
    monkeypatch.setattr(sys, "argv", ["se_report", str(tmp_path / "absent"), "--worst", "-1"])
    assert main() == 2 and "--worst -1" in capsys.readouterr().err
