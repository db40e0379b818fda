"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Who is started in the background by a shell ignores ctrl-c, and hands that on: commands that are interrupted in
# tests would not notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something about the machine, not about the code: bench/ measures.
settings.register_profile("redlatch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("redlatch")
