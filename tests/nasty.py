"""Names that attack whatever shows them: terminals, spreadsheets, pages, Markdown and figures."""

NASTY_NAMES = [
    "\x1b]0;owned\x07 title",
    "over\rwritten",
    "two\nlines",
    "\u202egpj.exe\u2066",
    "\x9b31mred\x7f",
    "=cmd|' C calc'!A0",
    "@SUM(1)+1",
    "<script>alert(1)<",
    "<img src=x onerror=alert(1)>",
    "| pipe | `tick` [link](x) # heading",
    "$x^$ $\\frac$",
    "zero\u200bwidth",
    "crab 🦀",
    "n" * 246,
]
