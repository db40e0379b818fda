"""redlatch: give each of your devices a key to your Node-RED; nobody else gets in."""

__version__ = "0.1.0"
