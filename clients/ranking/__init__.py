"""Does the simulator rank policies as the reference does? That decides whether its scores can be trusted."""
