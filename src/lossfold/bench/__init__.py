"""`lossfold bench`: time and memory of the losses, side by side with what people use now.

How the pieces stand: a *case* (`cases/`) is a piece of work with its float64 truth; a *provider* is somebody
who does it; an *entry* is how one provider does one case. Workers are fresh processes: one times all entries
interleaved, one per entry measures peak memory. `session` starts them; `results`, `report`, `markdown`,
`plot` and `floors` work on what they send back.
"""

from .command import main as main

__all__ = ["main"]
