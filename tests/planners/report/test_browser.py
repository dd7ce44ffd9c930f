"""The report in a real browser: nothing on the console, no request. Skipped where there is no Chromium."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from planners import plan_and_preprocess
from tests.planners.report.test_page import plain_page

REAL = Path(__file__).parents[3] / ".." / "shared" / "data"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")]


def visit(folder, text):
    """Open a page. Returns its lines on the console and the addresses that it requested; the screenshot must be there."""
    page, log, picture = folder / "page.html", folder / "net.json", folder / "page.png"
    page.write_text(text, encoding="utf-8")
    unreachable = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    files = (f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", f"--screenshot={picture}", page.as_uri())
    done = subprocess.run([BROWSER, *QUIET, unreachable, *files], capture_output=True, text=True, timeout=120, check=False)
    assert picture.is_file(), done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line or ":CONSOLE(" in line]
    parameters = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # A local page is of an opaque origin; what the browser asks for itself has none.
    return console, {entry["url"] for entry in parameters if entry.get("initiator") == "null" and "url" in entry}


def test_report_has_a_quiet_console_and_requests_nothing(tmp_path):
    console, requested = visit(tmp_path, plain_page())
    assert console == [] and requested == set()


def test_a_page_that_fails_and_fetches_is_seen(tmp_path):
    console, requested = visit(tmp_path, '<img src="http://127.0.0.1:9/x.png"><script>nothing()</script>')
    assert "nothing is not defined" in console[0] and requested == {"http://127.0.0.1:9/x.png"}


def test_the_page_forbids_what_a_name_might_smuggle_in(tmp_path):
    smuggled = plain_page().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png"><script>nothing()</script>')
    console, requested = visit(tmp_path, smuggled)
    assert len(console) == 2 and all("Content Security Policy" in line for line in console) and requested == set()


@pytest.mark.parametrize("dataset", sorted(REAL.glob("Dataset*")) or [None], ids=lambda path: path.name if path else "none")
def test_reports_of_real_data(tmp_path, dataset):
    if dataset is None:
        pytest.skip(f"there is no real data in {REAL}")
    plan = plan_and_preprocess(dataset, tmp_path / "work", jobs=1, plan_only=True)
    text = (tmp_path / "work" / plan.dataset.name / "report.html").read_text()
    assert visit(tmp_path, text) == ([], set())
    assert len(text) < 1_500_000
