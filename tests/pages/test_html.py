"""Pages and cards show names from data as text: no markup, no control characters, whatever the template forgets."""

import re

import pytest
from jinja2 import DictLoader
from markupsafe import Markup

from keras_bench.pages.html import code_span, jinja_environment, markdown
from keras_bench.pages.text import cut, plain, shorten
from keras_bench.printable import UNSAFE
from tests.nasty import NASTY_NAMES


def render(file, template, /, **values):
    environment = jinja_environment()
    environment.loader = DictLoader({file: template})
    return environment.get_template(file).render(**values)


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_page_shows_every_name_as_text(name):
    page = render(
        "page.html.j2",
        '{% macro bold(t) %}<b>{{ t }}</b>\n{% endmacro %}{{ bold(name) }}<i title="{{ name }}">',
        name=name,
    )
    assert not UNSAFE.search(page.replace("\n", ""))
    assert re.sub("</?[bi]>|<i title=", "", page).count("<") == 0


def test_escapes_reach_the_page_as_people_read_them():
    assert render("page.html.j2", "{{ name }}", name="a\x1b[2J\u202e\udce9<\n") == r"a\x1b[2J\u202e\xe9&lt;\n"
    assert render("card.md.j2", "{{ name }}", name="a\x1b\u202e") == r"a\x1b\u202e"
    assert render("page.html.j2", "{{ name }}", name=Markup("<b>\n\x1b</b>")) == "<b>\n\\x1b</b>"
    assert render("page.html.j2", "{{ t | preformatted }}", t="a: <\nb: \x1b") == "a: &lt;\nb: \\x1b"


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_markdown_shows_every_name_literally(name):
    shown = markdown(name)
    assert not UNSAFE.search(shown)
    assert not re.search(r"(?<!\\)[`|*_\[\]()#<>$]", shown)
    span = code_span(name)
    marks = re.match("`+", span)[0]
    assert not UNSAFE.search(span)
    assert [run for run in re.findall("`+", span) if len(run) >= len(marks)] == [marks, marks]


def test_figures_draw_every_name_literally():
    assert plain("\x1b]0;t\x07\u202e\u200b") == r"\x1b]0;t\x07\u202e\u200b"
    assert shorten("\x1b" * 30) == (r"\x1b" * 6)[:21] + "…"
    assert cut("a\nb", 9) == r"a\nb"
    assert shorten(",comma") == ",comma"
    assert not any(UNSAFE.search(plain(name)) for name in NASTY_NAMES)
