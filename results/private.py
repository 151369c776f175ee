"""What a published record must not tell: user names in paths, where things lie on a machine, secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = "***"
_SECRET = r"[\w-]*(?:token(?!s|i)|secret|passw(?:or)?d|api[-_]?key|credential)[\w-]*"
_SECRET_OPTION = re.compile(rf"--?{_SECRET}", re.IGNORECASE)
_VALUE = r"(\"[^\"]*\"|'[^']*'|[^\s,;]+)"
_SECRET_VALUE = re.compile(rf"(?<![\w-])((?:--?)?{_SECRET})(\s*=\s*|\s*:\s+){_VALUE}", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(rf"(?<![\w-])(--?{_SECRET})(\s+)(?!-){_VALUE}", re.IGNORECASE)
_TOKEN = re.compile(r"\b(?:hf_|gh[opsu]_|sk-|github_pat_)[A-Za-z0-9_-]{16,}")
_LOGIN = re.compile(r"(?<=://)[^\s/@]+(?=@)")
_NAME = r"[^\s/\\:;,'\"`<>|*?()\[\]{}=@]+"
_PATH = re.compile(
    rf"(?<![\w./\\~-])(?:file:(?://)?)?(?:/(?:{_NAME}/)*(?:{_NAME})?|[A-Za-z]:[\\/](?:{_NAME}[\\/])*{_NAME})"
)


def private_command(argv: Sequence[str], root: Path = ROOT, home: Path | None = None) -> list[str]:
    """Return `argv` with the program's base name and every argument made private; a secret's value is hidden."""
    if not argv:
        return []
    shown = [_base_name(argv[0])]
    for before, argument in pairwise(argv):
        if _SECRET_OPTION.fullmatch(before) and len(shown) > 1 and not argument.startswith("-"):
            shown.append(HIDDEN)
        else:
            shown.append(_private_argument(argument, root, home))
    return shown


def private_text(text: str, root: Path = ROOT, home: Path | None = None) -> str:
    """Replace what is private in a text such as an error message.

    `.` stands for the repository, `~` for the home folder, `...` for what leads to any other absolute path of two or
    more names; `***` for the value of a name like a token's, for known forms of tokens and logins in addresses.
    """
    home = Path.home() if home is None else home
    for pattern in (_SECRET_VALUE, _SECRET_ARGUMENT):
        text = pattern.sub(rf"\1\2{HIDDEN}", text)
    text = _LOGIN.sub(HIDDEN, _TOKEN.sub(HIDDEN, text))
    for folder, short in ((root, "."), (home, "~")):
        name = str(folder)
        if name != folder.anchor:  # with spaces in it, the pattern below would not see it whole
            text = re.sub(rf"(?:file:(?://)?)?(?<![\w.~-]){re.escape(name)}(?![\w.-])", short, text)
    return _PATH.sub(_shortened, text)


def home_relative(path: str, home: Path | None = None) -> str:
    """Return a path below the home folder with `~` for it, and anything else as it is; `expanduser` undoes it."""
    folder = str(Path.home() if home is None else home)
    if folder != "/" and (path == folder or path.startswith(folder + os.sep)):
        return "~" + path[len(folder) :]
    return path


def _private_argument(argument: str, root: Path, home: Path | None) -> str:
    """Hide paths in an argument, spaces in them too: alone or behind `=`, `,`, `@` or a quote."""
    name, separator, _ = argument.partition("=")
    if separator and _SECRET_OPTION.fullmatch(name):
        return f"{name}={HIDDEN}"
    for mark in "=,":
        if mark in argument:
            return mark.join(_private_argument(part, root, home) for part in argument.split(mark))
    bare = argument.lstrip("@'\"").rstrip("'\"").removeprefix("file:").removeprefix("//")
    text = private_text(argument, root, home)
    if PurePosixPath(bare).is_absolute() or PureWindowsPath(bare).is_absolute():
        short = private_text(bare, root, home)
        return short if short.startswith((".", "~")) and " " not in short else f".../{_base_name(bare)}"
    return text


def _shortened(match: re.Match[str]) -> str:
    path = re.sub(r"^file:(?://)?", "", match[0])
    names = [name for name in re.split(r"[\\/]", path) if name]
    if path == match[0] and path.startswith("/") and len(names) < 2:  # "/" or "/5" in a sentence
        return path
    return f".../{names[-1]}" if names else match[0]


def _base_name(path: str) -> str:
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
