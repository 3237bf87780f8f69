"""The world: scenes, rigs, layouts, the reference renderer, and the generative world model."""
