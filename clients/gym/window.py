"""A window for `render_mode="human"`, drawn by pygame."""

from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled


class Window:
    """Opens with the first picture.

    Raises:
        DependencyNotInstalled: there is no pygame.
    """

    def __init__(self, title: str) -> None:
        try:
            import pygame
        except ModuleNotFoundError:
            raise DependencyNotInstalled(
                "expected pygame for render_mode='human': pip install pygame-ce; or use 'rgb_array'"
            ) from None
        self._pygame, self._title = pygame, title
        self._screen: Any = None

    def show(self, picture: np.ndarray) -> None:
        """Show uint8 [H, W, 3].

        Raises:
            RuntimeError: there is no display.
        """
        pygame, size = self._pygame, picture.shape[1::-1]
        if self._screen is None:
            try:
                pygame.display.init()
                self._screen = pygame.display.set_mode(size)
            except pygame.error as error:
                raise RuntimeError(
                    f"expected a display for render_mode='human' ({error}); use 'rgb_array' instead"
                ) from None
            pygame.display.set_caption(self._title)
        pygame.event.pump()
        self._screen.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()

    def close(self) -> None:
        """Close the window. Harmless the second time."""
        if self._screen is not None:
            self._screen = None
            self._pygame.display.quit()
