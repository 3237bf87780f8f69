"""`python -m server`: the same as `roadloop serve`."""

import typer

from .commands import serve

if __name__ == "__main__":
    typer.run(serve)
