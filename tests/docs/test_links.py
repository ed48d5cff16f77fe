"""Every relative link and anchor of README and docs leads somewhere, and README stays short."""

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, blocks, links

LISTED = ("architecture", "configuration", "contributing", "data-and-weights", "getting-started", "onnx-bundles")
LISTED += ("performance", "reliability", "report", "run-folder", "studies", "sweeps", "troubleshooting")
LISTED += ("your-own-images",)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_anchor_resolves(page):
    lost = []
    for link in links(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            lost.append(link)
    assert lost == []


def test_every_page_is_reached_from_the_readme():
    assert {page.stem for page in PAGES[1:]} == set(LISTED)
    assert {f"docs/{name}.md" for name in LISTED} <= set(links(PAGES[0].read_text(encoding="utf-8")))


def test_the_readme_is_short_enough_to_be_read_to_its_end():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120
    tables = [line for line in lines if line.startswith("|")]
    assert max(line.replace(r"\|", "").count("|") - 1 for line in tables) <= 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## What is in one\n", {"what-is-in-one"}),
        ("## 5. Classes of `x`, and y\n## A\n## A\n", {"5-classes-of-x-and-y", "a", "a-1"}),
        ("```sh\n# a comment\n```\n## B-c\n", {"b-c"}),
    ],
)
def test_anchors_are_those_of_github(text, expected):
    assert anchors(text) == expected


def test_links_in_code_are_none():
    text = "a [b](c.md#d)\n```python\nx[0](y)\n```\n![e](f.png)\n"
    assert links(text) == ["c.md#d", "f.png"]
    assert blocks(text, "python") == ["x[0](y)\n"]
