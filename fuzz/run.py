"""One target under atheris, until it finds something or its time is over: python -m fuzz.run NAME SECONDS FOLDER

FOLDER keeps what was new (its own corpus) and, after a finding, the input as crash-*. The last line is JSON.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["redlatch"]):
    from fuzz import harness

    NAME = sys.argv[1]
    TestOneInput = harness.target(NAME)


def main() -> None:
    """Hands libFuzzer the corpus and the bounds; it prints executions, edges (cov), features (ft) as it goes."""
    seconds, folder = int(sys.argv[2]), Path(sys.argv[3])
    grown = folder / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={harness.MOST_BYTES}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-use_value_profile=0",
        f"-artifact_prefix={folder}/",
        str(grown),
        str(harness.CORPUS / NAME),
    ]
    atheris.Setup([sys.argv[0], *options], TestOneInput)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
