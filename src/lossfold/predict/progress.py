"""How far it is: a bar on the standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(count: int) -> Iterator[Callable[[str, float], None]]:
    """Show a bar of so many images, and what share of one is done.

    Yields:
        A function of an image's key and the share of it that is done.
    """
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=count)
        before = 0

        def tell(key: str, share: float) -> None:
            nonlocal before
            name = escape(key.encode("utf-8", "backslashreplace").decode())  # a name of a file may be no text
            bar.update(task, completed=before + share, description=name + f" {share:.0%}" * (0.01 < share < 0.99))
            before += share >= 1

        yield tell
        bar.update(task, completed=count, description="")  # also of what was there already, or failed
