"""Use cases: what the command line and the service may do. Each change is one transaction, then a snapshot,
then the engine, and reports the last of these that it saw.
"""
