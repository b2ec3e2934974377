"""Losses of other packages: entry points, found by name and imported only when they are asked for."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any

from lossfold.errors import LossError


class Plugins:
    """The entry points of a group: ``[project.entry-points."lossfold.losses"]`` ``MyLoss = "package.module:MyLoss"``."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._searched: tuple[str, ...] | None = None
        self._found: dict[str, list[EntryPoint]] = {}

    def _points(self) -> dict[str, list[EntryPoint]]:
        if self.group and self._searched != tuple(sys.path):  # a look at every installed distribution: once for each path
            found: dict[str, list[EntryPoint]] = {}
            for point in self._installed():
                same = found.setdefault(point.name, [])
                same.extend([point] if point.value not in [one.value for one in same] else [])
            self._searched, self._found = tuple(sys.path), found
        return self._found

    def _installed(self) -> Iterator[EntryPoint]:
        """Yield the entry points of every distribution; one whose list can't be read hides no other's."""
        try:
            yield from entry_points(group=self.group)
        except Exception:
            for distribution in distributions():
                try:
                    own = distribution.entry_points.select(group=self.group)
                except Exception as error:
                    warnings.warn(f"entry points that can't be read, of {distribution.name}: {error!r}"[:300], stacklevel=2)
                else:
                    yield from own

    def names(self) -> dict[str, str]:
        """Return the names, and the module and attribute that each stands for; nothing is imported."""
        return {name: points[0].value for name, points in sorted(self._points().items())}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._points()

    def load(self, name: str) -> Any:
        """Import what a name stands for.

        Raises:
            LossError: two packages have this name, or the import fails; other names are not touched by that.
        """
        points = self._points()[name]
        packages = ", ".join(f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}" for point in points)
        if len(points) > 1:
            raise LossError(f"plug-in {name!r}", "name", "that of one package", packages, "uninstall one of them")
        if points[0].pattern.match(points[0].value) is None:
            raise LossError(f"plug-in {name!r}", "entry point", "package.module:Class", f"{points[0].value!r}, that is {packages}")
        try:
            return points[0].load()
        except (Exception, SystemExit) as error:  # whatever a package does while it is imported
            came = f"{type(error).__name__}: {error}"
            hint = f"{packages}; mend or uninstall that package"
            raise LossError(f"plug-in {name!r}", "package", "one that can be imported", came[:200], hint) from error
