"""Freed memory stays with a process that asks for it, and goes back otherwise."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from worldmodel.allocator import keep_freed_memory

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

assert sys.argv[1] == "no" or keep_freed_memory()
before = resident()
block = bytearray(b"x") * (64 << 20)
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_freed_memory_stays() -> None:
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, keep], capture_output=True, check=True, timeout=60
            ).stdout
        )
        for keep in ("yes", "no")
    )
    assert kept > 60 << 20
    assert given_back < 4 << 20
