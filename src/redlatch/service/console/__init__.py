"""The console: what an owner or admin sees and does in a browser, on an origin that asks for their certificate."""

from redlatch.service.console.app import create

__all__ = ["create"]
