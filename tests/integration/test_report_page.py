"""A report in a real browser without a network: no error in its console, tables sort, names bring curves out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from terry.logs.report.page import page
from tests.unit.logs.report.reports import report

#: Clicks what a person clicks and writes down what came of it.
_VISITOR = """<script>
window.addEventListener("load", () => {
  const said = [];
  const tables = [...document.querySelectorAll("table.sortable")];
  const first = table => table.tBodies[0].rows[0].textContent;
  const click = (table, name) =>
    [...table.tHead.querySelectorAll("button")].find(b => b.textContent === name).click();
  const before = first(tables[0]);
  click(tables[0], "mean valid_loss"); const up = first(tables[0]);
  click(tables[0], "mean valid_loss"); const down = first(tables[0]);
  said.push(before === up, up !== down);
  const button = document.querySelector("ul.legend button");
  button.click();
  said.push(document.querySelector("svg").classList.contains("focus"), button.getAttribute("aria-pressed") === "true");
  said.push(document.documentElement.scrollWidth <= window.innerWidth);
  document.title = "visited " + said.join(" ");
});
</script></body>"""


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no Chromium: install Debian's package chromium (the gate does)")
    return found


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_works_in_a_browser(browser: str, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(report(tuple(f"cell{i}" for i in range(12)))).replace("</body>", _VISITOR, 1))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", f"--window-size={width},900"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=3000", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "<title>visited true true true true true</title>" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
