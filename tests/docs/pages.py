"""README and docs as text: their headings, links, code blocks and commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_PROGRAMS = ("keras-bench", "python", "make")


@dataclass(frozen=True)
class Command:
    """A command that a page shows.

    Attributes:
        page: the file's name.
        text: the command, without comment, pipe and the folder of the program.
        in_text: whether it stands in a sentence, where a verb alone names the verb.
    """

    page: str
    text: str
    in_text: bool

    @property
    def words(self) -> list[str]:
        """The command as a shell splits it."""
        return shlex.split(self.text)


def without_code(text: str) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", text)


def blocks(text: str, *languages: str) -> list[str]:
    """Return the code blocks of some languages."""
    return [code for language, code in _FENCE.findall(text) if language in languages]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them; a repeated one has a number."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.append(anchor + (f"-{found.count(anchor)}" if anchor in found else ""))
    return set(found)


def links(text: str) -> list[str]:
    """Return the targets of all links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", without_code(text))


def commands_of(page: Path) -> list[Command]:
    """Return the commands of a page: lines of shell blocks, and code in sentences that begins as one."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    spans = _SPAN.findall(without_code(text))
    found = [Command(page.name, part, in_text=False) for line in lines for part in _parts(line)]
    return found + [Command(page.name, part, in_text=True) for span in spans for part in _parts(span) if " " in part]


def _parts(line: str) -> list[str]:
    """Return the commands of ours in a line of shell: each part of a pipe, without comment and folder."""
    bare = re.sub(r"(^|\s)#.*$", "", line)
    parts = [re.sub(r"^\.venv/bin/", "", part.strip()) for part in bare.split(" | ")]
    return [part for part in parts if part.split(" ")[0] in _PROGRAMS]
