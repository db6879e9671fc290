"""The site in a real browser: mathematics, folding, search, copying, small screens, print, keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no browser: apt install chromium-headless-shell"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    found = browser.Browser(str(PROGRAM), str(tmp_path_factory.mktemp("browser")))
    yield found
    found.close()


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def opened(page: browser.Browser, file: Path, width: int = 1300) -> browser.Browser:
    page.size(width)
    page.open(f"{file.as_uri()}")
    return page


def test_no_page_complains_or_asks_for_anything_elsewhere(
    page: browser.Browser, site: Path
) -> None:
    page.complaints.clear()
    page.requests.clear()
    for file in pages(site):
        opened(page, file)
    assert page.complaints == []
    assert page.requests and all(r.startswith("file:") for r in page.requests)


def test_every_formula_has_its_size_and_fractions_stand_upright(
    page: browser.Browser, site: Path
) -> None:
    opened(page, site / "shaped_attention.html")
    page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    empty = page.value(
        "[...document.querySelectorAll('math')].filter(m => "
        "{const b = m.getBoundingClientRect(); return b.width < 3 || b.height < 3})"
        ".map(m => m.outerHTML.slice(0, 200))"
    )
    assert empty == []
    stacked = page.value(
        "[...document.querySelectorAll('#equations mfrac')].map(f => "
        "f.children[0].getBoundingClientRect().bottom <= f.children[1].getBoundingClientRect().top"
        " + 1)"
    )
    assert stacked and all(stacked)
    assert page.value("document.querySelectorAll('code.tex').length") == 0


def test_search_keeps_the_rows_that_say_all_words(page: browser.Browser, site: Path) -> None:
    opened(page, site / "index.html")
    page.value("document.getElementById('search').focus()")
    for letter in "exact":
        page.press(letter)
    shown = "[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden && r.offsetHeight)"
    assert page.value(f"{shown}.map(r => r.cells[0].textContent)") == ["linear_closure"]
    assert page.value("document.getElementById('found').textContent") == "1 of 4 models"
    page.value("document.getElementById('search').value = ''")
    page.value("document.getElementById('search').dispatchEvent(new Event('input'))")
    assert page.value(f"{shown}.length") == 4


def test_steps_fold_by_keys_and_all_at_once(page: browser.Browser, site: Path) -> None:
    opened(page, site / "shaped_attention.html")
    page.value("document.querySelector('#step-3 summary').focus()")
    page.press("Enter")
    assert page.value("document.getElementById('step-3').open") is True
    page.press("Enter")
    assert page.value("document.getElementById('step-3').open") is False
    open_all = (
        "[...document.querySelectorAll('#derivation button')].find(b => /all/.test(b.textContent))"
    )
    page.value(f"{open_all}.click()")
    folds = "[...document.querySelectorAll('#derivation details.fold')]"
    assert page.value(f"{folds}.every(d => d.open)") is True
    page.value(f"{open_all}.click()")
    assert page.value(f"{folds}.some(d => d.open)") is False


def test_the_first_key_leads_past_the_links(page: browser.Browser, site: Path) -> None:
    opened(page, site / "linear_closure.html")
    page.press("Tab")
    assert page.value("document.activeElement.textContent") == "to the text"
    reached = set()
    for _ in range(25):
        page.press("Tab")
        reached.add(page.value("document.activeElement.tagName"))
    assert {"A", "BUTTON", "SUMMARY", "DIV"} <= reached


def test_copying_gives_the_latex_of_the_equation(page: browser.Browser, site: Path) -> None:
    opened(page, site / "shaped_attention.html")
    page.value(
        "window.taken = []; Object.defineProperty(navigator, 'clipboard', "
        "{value: {writeText: t => {taken.push(t); return Promise.resolve()}}})"
    )
    page.value("document.querySelector('#equations button').click()")
    assert page.value("document.querySelector('#equations button').textContent") == "copied"
    (taken,) = page.value("taken")
    assert taken.startswith(r"\begin{align*}") and r"\frac{\gamma^{2}}{m \tau_{0}^{2}}" in taken


def test_a_link_into_a_fold_opens_it(page: browser.Browser, site: Path) -> None:
    opened(page, site / "shaped_attention.html")
    page.value("location.hash = '#kernel-layer'")
    page.value("new Promise(r => setTimeout(r, 50))")
    assert page.value("document.getElementById('kernel-layer').open") is True


@pytest.mark.parametrize("width", [400, 1300])
def test_nothing_is_wider_than_the_screen(page: browser.Browser, site: Path, width: int) -> None:
    wide = {}
    for file in pages(site):
        opened(page, file, width)
        page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = page.value("document.documentElement.scrollWidth")
        if found > width:
            wide[file.name] = found
    assert not wide


def test_paper_has_every_step_and_no_buttons(page: browser.Browser, site: Path) -> None:
    opened(page, site / "linear_closure.html")
    page.call("Emulation.setEmulatedMedia", media="print")
    page.value("dispatchEvent(new Event('beforeprint'))")
    try:
        assert page.value("document.querySelector('button').offsetHeight") == 0
        assert page.value("document.querySelector('header').offsetHeight") == 0
        folds = "[...document.querySelectorAll('#derivation details.fold')]"
        assert page.value(f"{folds}.every(d => d.lastElementChild.offsetHeight > 0)") is True
        assert len(page.call("Page.printToPDF")["data"]) > 10_000
    finally:
        page.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_all_is_there(page: browser.Browser, site: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened(page, site / "index.html")
        rows = "document.querySelectorAll('tbody tr:not([hidden])').length"
        assert page.value(rows) == 4
        assert page.value("document.querySelector('.search').offsetHeight") == 0
        opened(page, site / "linear_closure.html")
        assert page.value("document.querySelectorAll('button').length") == 0
        assert page.value("document.querySelectorAll('details.tex pre').length > 3") is True
        assert page.value("document.querySelector('math').offsetHeight !== 0") is True
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
