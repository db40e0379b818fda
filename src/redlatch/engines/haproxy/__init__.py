"""The engine in front of Node-RED: HAProxy, driven by the same snapshot."""
