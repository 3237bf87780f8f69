"""The reference engine: an exact procedural renderer of the scene."""
