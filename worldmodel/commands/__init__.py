"""The commands that the world brings to `roadloop`: scenarios, render, data, train, bench, doctor."""

from .register import register

__all__ = ["register"]
