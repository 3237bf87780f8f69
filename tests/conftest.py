"""Settings that every test shares."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

import worldmodel  # noqa: F401 - sets the OpenMP policy before any test loads torch

# Timing is for benchmarks: a slow machine must not fail a test. In CI the examples are the same in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def all_threads() -> int:
    """How many threads torch has by itself."""
    import torch

    return torch.get_num_threads()


@pytest.fixture(autouse=True)
def own_threads(all_threads: int) -> Iterator[None]:
    """What sets torch's threads, a test or a fixture of many, sets them for itself: the last bit may differ with their number."""
    import torch

    torch.set_num_threads(all_threads)
    yield
    torch.set_num_threads(all_threads)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs a GPU where there is none; pytest counts it in its closing line."""
    import torch

    if torch.cuda.is_available():
        return
    config.hook.pytest_deselected(items=[item for item in items if "gpu" in item.keywords])
    items[:] = [item for item in items if "gpu" not in item.keywords]
