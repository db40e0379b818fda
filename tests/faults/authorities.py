"""The checks of authorities that take over, come from elsewhere and are locked; each taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_ENGINES = "integration/operations/test_ca_engines.py"
_ROTATION = "integration/operations/test_ca_rotation.py"
_IMPORT = "integration/operations/test_ca_import.py"
_LOCKING = "integration/operations/test_ca_locking.py"
_FOREIGN = "unit/pki/test_pki_foreign.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, place, words in (
        ("an ended CA's certificates die with it", "operations/rotation.py", 'revoked = tx.revoke_by_authority(row.id, now, "its authority was taken out of use")', "revoked = 3", _ENGINES, "overlap"),
        ("trust is published with every change", "operations/publishing.py", "    if trusted:\n", "    if False:\n", _ENGINES, "overlap"),
        ("both are trusted while one takes over", "operations/authorities.py", "for row in trusted(view, kind):\n        found", "for row in trusted(view, kind)[-1:]:\n        found", _ENGINES, "overlap"),
        ("engines get whole chains", "operations/authorities.py", "[row.certificate, *(base64.b64decode(one) for one in _PEM.findall(row.chain))]", "[row.certificate]", _ENGINES, "companys"),
        ("nobody is shut out unasked", "operations/rotation.py", "if left and not force:", "if False:", _ROTATION, "has_moved"),
        ("a CA that issued is not given up", "operations/rotation.py", "    if issued:\n", "    if False:\n", _ROTATION, "given_up"),
        ("the new root first, then the end", "operations/rotation.py", 'if kind == "server" and authorities.waiting(tx) is not None:', "if False:", _ENGINES, "server_root"),
        ("a new root before it signs", "operations/rotation.py", 'signing=kind == "device")', "signing=True)", _ENGINES, "server_root"),
        ("the key of a new root is proved", "operations/rotation.py", "    _prove(site, waiting)\n", "", _ROTATION, "lost_or_locked"),
        ("ended in between", "operations/devices.py", "row is None or row.certificate != _der(ca.certificate)", "row is None", _ROTATION, "ordered_before"),
        ("the console keeps its key", "operations/service_key.py", "if why != _NEW_ROOT or present is None:", "if True:", _ROTATION, "back_and_forth"),
        ("the server follows its root", "operations/server.py", "if not changes and present is not None and not issued_by(present, ca):", "if False:", _ENGINES, "server_root"),
        ("ended keys are removed", "operations/rotation.py", "    authorities.remove_keys(site, [row.key_file for row in old])\n", "", _ENGINES, "overlap"),
        ("a revoked certificate is not adopted", "operations/adopting.py", "if known.revoked_at is not None:", "if False:", _IMPORT, "adopted_once"),
        ("a locked file has little time", "operations/opening.py", "    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))\n", "", _IMPORT, "too_much"),
        ("a locked file has little memory", "operations/opening.py", "    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))\n", "", _IMPORT, "too_much"),
        ("the folder it is called in is on no path", "operations/opening.py", '"-P", "-m"', '"-m"', _IMPORT, "called_in"),
        ("one row for one authority", "operations/importing.py", "if adopted is not None:", "if False:", _IMPORT, "imported_and_ended"),
        ("its certificates go with it", "operations/importing.py", "            tx.move_certificates(adopted.id, row.id)\n", "", _IMPORT, "imported_and_ended"),
        ("a lock that comes in between", "operations/authorities.py", "    if not same:\n", "    if False:\n", _LOCKING, "in_between"),
        ("another passphrase in between", "operations/authorities.py", "            same = False\n", "            pass\n", _LOCKING, "in_between"),
        ("public roots", "pki/foreign.py", "if one.public_bytes(Encoding.DER) in public:", "if False:", _FOREIGN, "public_root"),
        ("no CA", "pki/foreign.py", "if basic is None or not basic.ca:", "if False:", _FOREIGN, "no_engine"),
        ("may sign", "pki/foreign.py", "if usage is None or not usage.key_cert_sign:", "if False:", _FOREIGN, "no_engine"),
        ("path length", "pki/foreign.py", "basic.path_length is not None and basic.path_length < depth", "False", _FOREIGN, "path_length"),
        ("dates of a chain", "pki/foreign.py", "if not one.not_valid_before_utc <= now < one.not_valid_after_utc:", "if False:", _FOREIGN, "no_engine"),
        ("SHA-1", "pki/foreign.py", "if isinstance(used, MD5 | SHA1):", "if False:", _IMPORT, "changes_nothing"),
        ("a device is no CA", "pki/foreign.py", "if basic is not None and basic.ca:", "if False:", _FOREIGN, "no_device"),
        ("a chain to its root", "pki/foreign.py", "        if issuer is None:\n", "        if issuer is None and found:\n            break\n        if issuer is None:\n", _FOREIGN, "whole"),
        ("the old passphrase first", "operations/locking.py", "return load_private_key(data, passphrase)", "return __import__('redlatch.pki.keys', fromlist=['x']).generate_key()", _LOCKING, "unlocked"),
        ("either passphrase after a kill", "operations/locking.py", "    if other:\n", "    if False:\n", _LOCKING, "killed"),
        ("new keys are locked like the others", "operations/authorities.py", "        if locked:\n", "        if False:\n", _LOCKING, "goes_on"),
    )
]  # fmt: skip
