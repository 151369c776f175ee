"""The templates of reports/render/templates: whatever they show is escaped for the format that they write.

HTML by jinja2's autoescape; Markdown by a filter of its own, put around every expression, since what is harmless in
HTML may still be a link or a heading on GitHub. What a template may show as it is has type `Markup` or `Raw`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from results.table import Table, escape_markdown, markdown

TEMPLATES = FileSystemLoader(Path(__file__).resolve().parent / "templates", encoding="utf-8")


class Raw(str):
    """Markdown that is complete: tables, links and code made by the filters below."""


def html(name: str, **values: Any) -> str:
    """Fill the template `name` of the page."""
    return HTML.get_template(name).render(**values)


def html_part(name: str, macro: str, *arguments: Any) -> Markup:
    """One macro of the template `name`, filled."""
    return Markup(getattr(HTML.get_template(name).module, macro)(*arguments))


def as_markdown(name: str, **values: Any) -> str:
    """Fill the Markdown template `name`; the text ends with one line break."""
    return MARKDOWN.get_template(name).render(**values).rstrip("\n") + "\n"


def link(text: str, url: str) -> Raw:
    """Make a link whose address holds nothing but a relative path."""
    shown = re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", escape_markdown(text))
    return Raw(f"[{shown}]({quote(url, safe='/#._-~')})")


def code(text: str) -> Raw:
    """Make a span of code; a backtick would end it."""
    return Raw(f"`{' '.join(str(text).split()).replace('`', chr(39))}`")


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Raw) else "" if value is None else escape_markdown(str(value))


def _table(table: Table, heading: str = "##") -> Raw:
    return Raw(markdown(table, heading))


_OPTIONS: dict[str, Any] = {
    "loader": TEMPLATES, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True,
    "keep_trailing_newline": True,
}  # fmt: skip
HTML = Environment(autoescape=True, **_OPTIONS)
HTML.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
MARKDOWN = Environment(autoescape=False, finalize=_finalize, **_OPTIONS)
MARKDOWN.filters |= {"table": _table, "link": link, "code": code}
MARKDOWN.globals["join_raw"] = lambda parts: Raw(", ".join(parts))
