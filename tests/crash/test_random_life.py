"""A short life of random operations with random kills at both engines, against the model."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from tests.crash.model import Model, Probe
from tests.crash.random_life import live

COUNT = int(os.environ.get("REDLATCH_RANDOM", "40"))
SEED = int(os.environ.get("REDLATCH_RANDOM_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.mark.timeout(120 + 5 * COUNT)
def test_what_happens_is_what_the_model_says() -> None:
    """Whatever is killed when: the store, the audit trail, what is published and what both engines answer agree
    with the model, and nothing that was acknowledged is missing.
    """
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        done = live(Path(folder), operations=COUNT, seed=SEED, kills=0.4, every=max(20, COUNT // 10), probes=15)
    assert done["acknowledged"] + done["killed"] == COUNT, SEED
    assert done["killed"] > 0, SEED


def test_the_model_can_be_wrong() -> None:
    """It tells apart who, from where, what, and how: each changes its answer."""
    model = Model()
    model.add("phone", "user", "aa")
    model.add_network("home", ("127.0.1.0/24",))
    model.add_rule(5, {"area": "http-in", "roles": ("user",), "network": "home", "methods": ("GET",)})
    good = Probe("aa", "127.0.1.7", "/hello", "GET")
    assert model.admits(good)
    others = (
        Probe(None, "127.0.1.7", "/hello", "GET"), Probe("bb", "127.0.1.7", "/hello", "GET"),
        Probe("aa", "127.0.2.7", "/hello", "GET"), Probe("aa", "127.0.1.7", "/flows", "GET"),
        Probe("aa", "127.0.1.7", "/hello", "POST"),
    )  # fmt: skip
    assert not any(model.admits(one) for one in others)
    model.revoke("phone")
    assert not model.admits(good)
