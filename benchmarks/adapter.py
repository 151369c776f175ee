"""`python -m benchmarks.adapter KEY --to DIR`: a trained adapter that a run kept, as a PEFT folder to use elsewhere.

Exit status: 0, or 2 where there is no such adapter or the folder is taken.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.jobs import session
from benchmarks.jobs.kept import places
from results.names import pick
from results.store import SCRATCH, Store, folder_path

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    key: Annotated[str | None, typer.Argument(help="Of the record, or its beginning. [lists what there is]")] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to make. [says where it lies]")] = None,
    out: Annotated[Path, typer.Option(parser=folder_path, help="Folder of the records.")] = SCRATCH,
) -> None:
    """Copy a kept adapter with its card and record, or list those that there are."""
    with session.refusals():
        there = {p.parent.name: p.parent for p in sorted((out / places.FOLDER).glob(f"[!.]*/{places.CONFIG}"))}
        none = f"no adapter is kept in {out}; runs keep them with --keep-adapters"
        if key is None:
            print("\n".join(there) or none)
            return
        matching = [name for name in there if name.startswith(key)]
        if len(matching) > 1 and key not in there:
            raise ValueError(f"several adapters begin with {key!r}: {', '.join(matching)}; name one of them")
        name = matching[0] if len(matching) == 1 else _exact(key, there, Store(out), none)
        place = there[name].resolve()
        if to is not None:
            if to.exists():
                raise ValueError(f"{to} is there already; name a folder that is not, or take it away")
            shutil.copytree(place, to)
            place = to.resolve()
    print(f"{place}: {place / places.CARD} says how to load it")


def _exact(key: str, there: dict[str, Path], store: Store, none: str) -> str:
    """Return the key where an adapter of that very name is there. Raises ValueError saying why there is none."""
    record = store.load(key) if key not in there else None
    if record is not None and record.status != "done":
        raise ValueError(f"{key} failed: {record.error}")
    if record is not None and not places.has_adapter(record):
        raise ValueError(f"{key}: {record.spec.method} has no adapter")
    if record is not None:
        raise ValueError(f"{key} was run without --keep-adapters; the same command with it runs it again")
    if not there:
        raise ValueError(none)
    return pick("adapter", key, {name: name for name in there})


if __name__ == "__main__":
    app()
