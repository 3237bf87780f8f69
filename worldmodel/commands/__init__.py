"""The commands that the world brings to `roadloop`: scenarios, render, data, train, doctor, and benchmarks."""

from .register import register, register_benches

__all__ = ["register", "register_benches"]
