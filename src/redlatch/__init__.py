"""redlatch: give each of your devices a key to your Node-RED; nobody else gets in."""

__version__ = "0.1.0"

#: No clock that is right says an earlier day: this version was not there before. Moved on with releases.
RELEASED = "2026-06-01"
