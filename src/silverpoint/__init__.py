"""Face photographs into sketches and sketches into photographs."""

__version__ = "0.1.0"
