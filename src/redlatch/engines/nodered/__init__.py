"""The Node-RED engine: find it, put the guard into its settings.js, publish what the guard reads, read its claims.

    users       User(name, uid, gid, groups, home); Completed(returncode, stdout, stderr, timed_out, truncated)
                user_by_uid(uid) -> User | None; user_by_name(name) -> User | None
                run_as(user, argv, *, input=b"", env=None, timeout=15.0, cwd=None, max_output=1 MiB) -> Completed
                call_as(user, function, *arguments, timeout=20.0) -> bytes | JSON value
                root_powers(user) -> list[str]; may_reach(user, path) -> bool
    locate      NodeRed(user, user_dir, settings_file, settings_exist, node: tuple[str, ...], program, version,
                unit, unit_fragment, unit_dropins, pid, argv, found_by, warnings, environ)
                locate(*, user_dir=None, settings_file=None, environ=None, machine=None, for_release=False)
                -> NodeRed
    inspection  Inspection (see there), Https
                inspect_settings(nodered) -> Inspection; inspect_file(nodered, file) -> Inspection
                read_settings(nodered, file=None) -> bytes; not_adoptable(file, inspection) -> NotAdoptable
    adopt       Entry = "guard.js" | "behind.js"
                add_block(data, published, *, entry="guard.js") -> bytes; remove_block(data) -> bytes
                has_block(data) -> bool; block_path(data) -> Path | None; block_entry(data) -> Entry | None (pure)
    edit        adopt(nodered, published, *, entry="guard.js") -> Adopted(changed, created, file, before, after)
                release(nodered) -> Released(changed, file)
    publish     prepare(settings, user); publish_guard(settings, group: int | None) -> str (hash)
                publish_behind(settings, secret_sha256, keep_auth, keep_host, group) -> bool (changed)
                publish_server / publish_device_ca(settings, bytes, group) -> bool (changed)
                publish_snapshot(settings, head, {digest: part}, group) -> bool (changed)
                publish_sidebar(settings, bytes, group) -> bool (changed); sidebar_version(settings) -> int | None
                published_guard(settings) -> str | None; published_head(settings) -> dict | None
                read_part(settings, digest) -> bytes | None; remove_parts(settings, digests)
                guard_hash() -> str; unpublish(settings); untrusted_ancestors(path) -> list[Path]
    dropin      plan_dropin(nodered, settings) -> DropIn | None
                install_dropin(dropin) -> bool; dropin_present(dropin) -> bool; remove_dropin(unit) -> bool
                dropins_installed(published) -> list[str]; systemd_runs() -> bool
                unit_state(unit) -> UnitState | None; restart_command(nodered) -> str
                restart(nodered) -> Restart(done, command, note)
    claims      InForce, Connection, Access; read_in_force(settings, uid) -> InForce | None
                wait_in_force(settings, uid, version, timeout, *, site=None) -> InForce | None
                read_connections(settings, uid) -> list[Connection] | None
                read_access(settings, uid, *, limit=100) -> list[Access]
                follow_access(settings, uid, *, wait: Callable[[], bool]) -> Iterator[Access]
                printable(text) -> str
    flows       read_flows(nodered, *, user_dir=None, flow_file=None) -> list[dict] | None (as the user)
    scan        what_will_break(inspection, flows, *, names=())
                -> list[Finding(code, severity, text, remedy, nodes)]

`group` is the gid of Node-RED's user when redlatch runs as root (settings.system), else None. The order of `up`:
prepare, publish_*, adopt, install_dropin, restart; of `down`: remove_dropin, release, restart, unpublish.
"""
