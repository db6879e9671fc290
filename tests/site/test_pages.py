"""The pages as text: well-formed, closed in themselves, every link leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command_line import run
from small_site import OWN

VOID = {"meta", "input", "br", "img", "link"}


class Read(HTMLParser):
    """Names, links, formulas; complains of tags that do not close as they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.labels: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "img":
            assert found["alt"]
        self.loads += [str(found[k]) for k in ("src", "data", "srcset", "poster") if k in found]
        if tag == "link":
            self.loads.append(str(found.get("href")))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.getpos())


@pytest.fixture(scope="module")
def read(site: Path) -> dict[str, tuple[str, Read]]:
    files = sorted(site.rglob("*.html"))
    texts = {f.relative_to(site).as_posix(): f.read_text(encoding="utf-8") for f in files}
    return {name: (text, Read(text)) for name, text in texts.items()}


def test_the_site_has_a_page_for_everything(read: dict[str, tuple[str, Read]]) -> None:
    models = ("shaped_attention", "linear_closure", "gaussian_tracking", "own")
    assert {f"{m}.html" for m in models} < set(read)
    assert {"index.html", "broken-rules.html", "reference/derive.html"} < set(read)
    assert len([n for n in read if n.startswith("kind-")]) >= 4


def test_names_of_places_are_used_once(read: dict[str, tuple[str, Read]]) -> None:
    twice = {n: [i for i, k in Counter(r.ids).items() if k > 1] for n, (_, r) in read.items()}
    assert not {n: found for n, found in twice.items() if found}


def test_every_link_leads_somewhere(site: Path, read: dict[str, tuple[str, Read]]) -> None:
    lost = []
    for name, (_, page) in read.items():
        for link in page.links:
            if link.startswith("https://arxiv.org/abs/"):
                continue
            there, _, place = link.partition("#")
            target = (site / name).parent / there if there else site / name
            key = target.resolve().relative_to(site.resolve()).as_posix()
            if not target.is_file() or (place and place not in read[key][1].ids):
                lost.append((name, link))
    assert not lost


def test_nothing_is_loaded_from_elsewhere(site: Path, read: dict[str, tuple[str, Read]]) -> None:
    for name, (text, page) in read.items():
        assert all((site / name).parent.joinpath(there).is_file() for there in page.loads), name
        style = text.partition("<style>")[2].partition("</style>")[0]
        assert style and "url(" not in style and "@import" not in style
        assert "fetch(" not in text.partition("<script>")[2].partition("</script>")[0]


def test_mathematics_is_well_formed(read: dict[str, tuple[str, Read]]) -> None:
    count = 0
    for text, _ in read.values():
        for formula in re.findall(r"<math.*?</math>", text, re.DOTALL):
            ElementTree.fromstring(formula)
            count += 1
    assert count > 200
    assert not any('class="tex">\\' in text for text, _ in read.values())  # shown as its LaTeX


def test_kernel_and_equation_are_linked_both_ways(read: dict[str, tuple[str, Read]]) -> None:
    for model, pairs in {
        "shaped_attention": ("drift", "diffusion", "noise", "mixing_rate"),
        "gaussian_tracking": ("hamiltonian", "costate_rate", "control_law"),
    }.items():
        links = read[f"{model}.html"][1].links
        for name in pairs:
            assert f"#kernel-{name}" in links, (model, name)
            assert f"#eq-{name.replace('_', '-')}" in links, (model, name)


def test_a_page_has_all_that_is_known_of_a_model(read: dict[str, tuple[str, Read]]) -> None:
    text = read["shaped_attention.html"][0]
    for said in ("Definition", "residual", "L6 mutants", "copy", "arXiv 2306.17759", "@misc"):
        assert said in text, said
    assert "Isserlis" in text and "X X^T counts twice" not in text  # another model's mutant
    assert 'src="pictures/densities.png"' in text
    assert (
        "not built" in read["index.html"][0] and "Tokens &lt; one another." in read["index.html"][0]
    )


def test_two_models_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(OWN, encoding="utf-8")
    words = [str(tmp_path / folder / "own.py") for folder in ("a", "b")]
    code, _, err = run(capsys, "report", *words, "--to", tmp_path / "site")
    assert code == 2 and "two models are called own" in err
    assert not (tmp_path / "site").exists()


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_of_text_stands_out_from_its_ground() -> None:
    assert contrast("#777777", "#ffffff") < 4.5 < contrast("#767676", "#ffffff")  # WCAG's own edge
    style = (resources.files("derive.site") / "page.css").read_text(encoding="utf-8")
    day, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    light, dark = colours(day), colours(day) | colours(rest.partition("* {")[0])
    assert light != dark
    for theme in (light, dark):
        for text in ("ink", "soft", "link", "good", "bad"):
            for ground in ("paper", "tint", "mark"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
