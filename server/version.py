"""This server's name and version."""

from importlib.metadata import PackageNotFoundError, version


def _version() -> str:
    try:
        return version("roadloop")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0+unknown"


VERSION = _version()
SERVER_NAME = f"roadloop {VERSION}"
