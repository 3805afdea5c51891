"""A progress bar on stderr, where that is a terminal, for what takes longer than a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Say(Protocol):
    """Tells what is going on, and how much of it is done if that is known."""

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None:
        """Tell that ``what`` is done to ``done`` parts of ``total``, or going on."""


def silent(what: str, done: int = 0, total: int | None = None) -> None:
    """Tell nobody.

    >>> silent("Working", 1, 2)
    """


@contextmanager
def bar(console: "Console | None" = None) -> Iterator[Say]:
    """A bar that goes when the block ends; ``console`` stands in for stderr.

    >>> with bar() as say:
    ...     say("Loading")
    ...     say("Trying sizes", 3, 16)
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def say(what: str, done: int = 0, total: int | None = None) -> None:
        if progress.disable:
            return
        shown = progress.tasks[0] if progress.tasks else None
        if shown is None or shown.total != total:
            # a bar that has a total does not go back to one without
            for task in progress.task_ids:
                progress.remove_task(task)
            progress.add_task(what, completed=done, total=total)
        else:
            progress.update(shown.id, description=what, completed=done)

    with progress:
        yield say
