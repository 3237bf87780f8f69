"""How a thread wakes another one that waits for ZeroMQ messages."""

import contextlib
import os


class Wakeup:
    """Its `descriptor`, for a `zmq.Poller`, is readable from `set` until `clear`."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write, False)

    def set(self) -> None:
        """Wake the thread that waits, or that will."""
        with contextlib.suppress(BlockingIOError):  # full: it is set
            os.write(self._write, b"!")

    def clear(self) -> None:
        """Ready for the next time."""
        with contextlib.suppress(BlockingIOError):  # was not set
            os.read(self.descriptor, 4096)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.descriptor)
        os.close(self._write)
