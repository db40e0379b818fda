"""What keeps a kill, a full disk and a power cut from losing anything, and from opening anything; each taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_WRITES = "crash/test_every_write.py"
_LOST = "crash/test_lost_events.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}".strip())
    for check, file, old, new, place, words in (
        (
            "a commit waits for the disk",
            "store/database.py",
            '"synchronous = FULL"',
            '"synchronous = OFF"',
            _WRITES,
            "device-revoke",
        ),
        (
            "a file is synced before it gets its name",
            "files.py",
            "            if sync:\n                os.fsync(stream.fileno())\n",
            "",
            _WRITES,
            "device-revoke or name-add or device-role",
        ),
        (
            "a name is synced",
            "files.py",
            "        _write(place, path.name, data, mode=mode, owner=owner, sync=True)\n        os.fsync(place)\n",
            "        _write(place, path.name, data, mode=mode, owner=owner, sync=True)\n",
            _WRITES,
            "whatever",
        ),
        (
            "the next command publishes what was recorded",
            "operations/publishing.py",
            "    if any(publish.snapshot_version(one.settings) != row.revision for one in found):\n        enforce(site, patience=0)\n    elif",
            "    if",
            _WRITES,
            "gateway-down",
        ),
        (
            "keys that no CA has are removed",
            "operations/authorities.py",
            "            remove_keys(site, names_in(site.settings.keys) - set(key_files(site)))",
            "            pass",
            _WRITES,
            "new-root or rotate",
        ),
        (
            "the guard looks by itself",
            "published.js",
            "this.timer = setInterval(poll, POLL_MS);",
            "this.timer = setInterval(() => {}, POLL_MS);",
            _LOST,
            "guard",
        ),
        (
            "the gateway looks by itself",
            "engines/haproxy/process.py",
            "min(_POLL, supervisor.due() - time.monotonic())",
            "supervisor.due() - time.monotonic()",
            _LOST,
            "gateway",
        ),
    )
]
