# Shell functions that packaging/test, dev, quickstart and cluster share. Sourced by bash, with $ROOT set and `set -euo pipefail`.
# shellcheck shell=bash

VENV=${XCHRONOS_VENV:-$ROOT/.venv}
SOCKET=/var/run/docker.sock
case ${DOCKER_HOST:-} in unix://*) SOCKET=${DOCKER_HOST#unix://} ;; esac

# The rooms that compute and do nothing else: every branch is covered, and their tests need nothing but Python.
# shellcheck disable=SC2034 # used by packaging/test and packaging/dev
PURE=(unitfile dockercli triggers model scheduler)

DOCKERD_PID=""
DOCKERD_LOG=""

say() { printf '==> %s\n' "$*" >&2; }

die() { # die MESSAGE [what to do ...]: one line each
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

has_systemd() { [ -d /run/systemd/system ]; }

apt_updated=no
apt_install() { # apt_install PACKAGE ...: as root on Debian and Ubuntu; fails anywhere else
    is_root && command -v apt-get > /dev/null || return 1
    local log
    log=$(mktemp)
    if [ "$apt_updated" = no ]; then
        # Old lists are good enough where no mirror can be reached.
        DEBIAN_FRONTEND=noninteractive apt-get update -q > "$log" 2>&1 || say "apt-get update failed; going on with what is known"
        apt_updated=yes
    fi
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >> "$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# -- Python -----------------------------------------------------------------------------------------------------------

find_python() { # prints the first Python that is new enough
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

make_venv() { # make_venv EXTRAS: $VENV with this checkout in it; quick when nothing has changed since the last time
    local extras=$1 python stamp version wanted with_dev rest
    python=$(find_python) || die "no Python 3.11 or newer was found (looked at \$PYTHON, python3, python3.14 ... python3.11)" \
        "On Debian 12+ or Ubuntu 24.04+:  apt-get install python3 python3-venv" \
        "Elsewhere: install one, and name it:  PYTHON=/path/to/python3.12 $0"
    stamp=$VENV/.xchronos-installed
    version=$("$python" -c 'import sys; print(sys.version)')
    rest="$ROOT $(cksum < "$ROOT/pyproject.toml")"
    wanted="$version $extras $rest" with_dev="$version dev $rest"
    if [ -x "$VENV/bin/python" ] && [ -f "$stamp" ]; then
        case $(cat "$stamp") in
            "$wanted" | "$with_dev") return ;; # what tests need includes what running needs
        esac
    fi
    if ! [ -x "$VENV/bin/python" ]; then
        say "making $VENV with $("$python" --version)"
        if ! "$python" -m venv "$VENV" > /dev/null 2>&1; then
            rm -rf "$VENV" # a half-made one, without pip, would be taken for a whole one
            # Debian splits venv off; the package carries the version of the interpreter.
            apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" \
                && "$python" -m venv "$VENV" \
                || die "$python cannot make a virtual environment" "On Debian or Ubuntu:  apt-get install python3-venv"
        fi
    fi
    say "installing xchronos and what it needs with pip (your pip configuration decides from where)"
    local told
    told=$("$VENV/bin/python" -m pip install -q --disable-pip-version-check -e "$ROOT${extras:+[$extras]}" 2>&1) \
        || die "pip could not install what xchronos needs (pyproject.toml lists it). It said:" "$(tail -n 8 <<< "$told")" \
            "Behind a proxy or mirror: set it up for pip (pip config, PIP_INDEX_URL, HTTPS_PROXY) and run this again."
    printf '%s\n' "$wanted" > "$stamp"
}

# -- Docker -----------------------------------------------------------------------------------------------------------

docker_answers() { # without a docker client: the engine is asked as xchronos asks it
    case ${DOCKER_HOST:-} in tcp://*)
        (exec 3<> "/dev/tcp/$(sed 's|^tcp://||; s|/.*||; s|:|/|' <<< "$DOCKER_HOST")") 2> /dev/null
        return ;;
    esac
    "$VENV/bin/python" - "$SOCKET" 2> /dev/null << 'END'
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(5)
    peer.connect(sys.argv[1])
    peer.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
    sys.exit(b" 200 " not in peer.recv(64))
END
}

wait_for_docker() { # wait_for_docker SECONDS
    local deadline=$((SECONDS + $1))
    until docker_answers; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        if [ -n "$DOCKERD_PID" ] && ! kill -0 "$DOCKERD_PID" 2> /dev/null; then return 1; fi
        sleep 0.2
    done
}

ensure_docker() { # makes an engine answer; returns 1, with DOCKER_ADVICE set, where that is not in our power
    docker_answers && return
    if [ -n "${DOCKER_HOST:-}" ]; then
        DOCKER_ADVICE=("DOCKER_HOST=$DOCKER_HOST does not answer: start that engine, or unset DOCKER_HOST.")
        return 1
    fi
    if ! is_root; then
        if [ -S "$SOCKET" ] && ! [ -w "$SOCKET" ]; then
            DOCKER_ADVICE=("You may not use $SOCKET.  Once:  sudo usermod -aG docker $(id -un)   then log in again.")
        elif command -v dockerd > /dev/null; then
            DOCKER_ADVICE=("Docker is installed but not running:  sudo systemctl start docker   (without systemd:  sudo dockerd &)")
        elif command -v apt-get > /dev/null; then
            DOCKER_ADVICE=("Install it:  sudo apt-get install docker.io && sudo usermod -aG docker $(id -un)   then log in again,"
                "or run this as root, which installs and starts it.")
        else
            DOCKER_ADVICE=("Install the Docker engine with this system's package manager and start it.")
        fi
        return 1
    fi
    if ! command -v dockerd > /dev/null; then
        say "installing the Docker engine (apt-get install docker.io)"
        if ! apt_install docker.io; then
            DOCKER_ADVICE=("apt-get could not install docker.io. Install a Docker engine by hand (any from 20.10 on) and run this again.")
            return 1
        fi
        # Debian 13 has the client apart; where recommended packages are not installed it would be missing.
        command -v docker > /dev/null || apt_install docker-cli > /dev/null 2>&1 || true
    fi
    docker_answers && return # the package may have started it
    if has_systemd; then
        say "starting the Docker engine (systemctl start docker)"
        systemctl start docker > /dev/null 2>&1 || true
        wait_for_docker 30 && return
        DOCKER_ADVICE=("systemctl start docker did not bring it up; see:  journalctl -u docker -e")
        return 1
    fi
    start_dockerd
}

forget_pid() { # forget_pid FILE PROGRAM: removes a pid file whose process is not that program (any more)
    [ -f "$1" ] || return 0
    grep -qs "$2" "/proc/$(cat "$1")/comm" || rm -f "$1"
}

start_dockerd() { # without a service manager: by hand, with its pid in DOCKERD_PID
    DOCKERD_LOG=${DOCKERD_LOG:-$(mktemp -t xchronos-dockerd.XXXXXX)}
    say "starting dockerd by hand, as there is no service manager (log: $DOCKERD_LOG)"
    # Left by an engine that was killed, these would keep the next one from starting once a number is in use again.
    forget_pid /var/run/docker.pid dockerd
    forget_pid /var/run/docker/containerd/containerd.pid containerd
    # In a process group of its own, so that Ctrl-C at the terminal ends the script before the engine.
    setsid dockerd > "$DOCKERD_LOG" 2>&1 < /dev/null &
    DOCKERD_PID=$!
    wait_for_docker 60 && return
    DOCKER_ADVICE=("dockerd does not come up; the end of its log ($DOCKERD_LOG):" "$(tail -n 5 "$DOCKERD_LOG")")
    stop_dockerd
    return 1
}

stop_dockerd() { # ends what start_dockerd started, and nothing else
    [ -n "$DOCKERD_PID" ] || return 0
    kill "$DOCKERD_PID" 2> /dev/null || true
    wait "$DOCKERD_PID" 2> /dev/null || true
    DOCKERD_PID=""
}

make_image() { # the image that examples and tests run, made from a package: no image registry is asked
    local told
    command -v docker > /dev/null || command -v curl > /dev/null || apt_install curl || true # the engine without its client
    told=$("$ROOT/packaging/images/make-busybox" 2>&1 >/dev/null) || die "cannot make the image xchronos/busybox" "$told"
}

# -- etcd ---------------------------------------------------------------------------------------------------------------

ensure_etcd() { # the programs etcd and etcdctl, and openssl for their certificates, for tests; returns 1, with ETCD_ADVICE set, where they are missing
    [ -z "${XCHRONOS_TEST_ETCD:-}" ] || return 0 # the tests look there
    if command -v etcd > /dev/null && command -v etcdctl > /dev/null && command -v openssl > /dev/null; then return; fi
    say "installing etcd (apt-get install etcd-server etcd-client openssl)"
    if ! apt_install etcd-server etcd-client openssl; then
        ETCD_ADVICE=("On Debian or Ubuntu:  sudo apt-get install etcd-server etcd-client openssl"
            "Elsewhere: put etcd and etcdctl (3.4 or newer) and openssl into PATH, or name their directory:  XCHRONOS_TEST_ETCD=/a/directory")
        return 1
    fi
    # Tests start servers of their own; the one that the package has started is nobody's.
    if has_systemd; then systemctl disable --now etcd > /dev/null 2>&1 || true; fi
}

# -- Consul -----------------------------------------------------------------------------------------------------------

CONSUL_DEB=1.8.7+dfsg1-2+b3 # what Debian 11 has: Debian 12 has none

debian_mirror() { # prints where this machine gets Debian packages from
    local found=""
    command -v apt-get > /dev/null \
        && found=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2> /dev/null | head -n 1)
    printf '%s\n' "${found:-http://deb.debian.org/debian/}"
}

ensure_consul() { # puts a consul program into PATH, for tests; returns 1, with CONSUL_ADVICE set, where there is none
    command -v "${XCHRONOS_TEST_CONSUL:-consul}" > /dev/null && return
    local arch sum deb url place=$VENV.cache/consul-$CONSUL_DEB
    if ! [ -x "$place/usr/bin/consul" ]; then
        arch=$(dpkg --print-architecture 2> /dev/null) || arch=unknown
        case $arch in
            amd64) sum=e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9 ;;
            arm64) sum=7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255 ;;
            *)
                CONSUL_ADVICE=("Put a consul program (1.8 or newer) into PATH, or name it:  XCHRONOS_TEST_CONSUL=/path/to/consul")
                return 1 ;;
        esac
        url=$(debian_mirror)pool/main/c/consul/consul_${CONSUL_DEB}_$arch.deb
        say "fetching Consul (a package of Debian 11; it is unpacked into $place, and not installed)"
        deb=$(mktemp -t xchronos-consul.XXXXXX)
        rm -rf "$place" # half of it may be there
        mkdir -p "$place"
        # With apt's own downloader, and so by the proxy and the credentials that apt is set up with.
        if ! /usr/lib/apt/apt-helper download-file "$url" "$deb" "SHA256:$sum" > "$deb.log" 2>&1 \
            || ! sha256sum --check --status <<< "$sum  $deb" || ! dpkg-deb -x "$deb" "$place" 2>> "$deb.log"; then
            CONSUL_ADVICE=("Consul could not be fetched from $url:" "$(tail -n 3 "$deb.log")"
                "Put a consul program (1.8 or newer) into PATH, or name it:  XCHRONOS_TEST_CONSUL=/path/to/consul")
            rm -rf "$deb" "$deb.log" "$place"
            return 1
        fi
        rm -f "$deb" "$deb.log"
    fi
    PATH=$place/usr/bin:$PATH
}

# -- which of them ----------------------------------------------------------------------------------------------------

services_needed() { # services_needed ARGUMENTS OF PYTEST: prints which of docker, etcd and consul the selected tests need
    # What keeps pytest from collecting keeps it from running too, and is told then: nothing is started for that.
    { "$VENV/bin/python" -m pytest -p tests.services.needed --collect-only -qq "$@" 2> /dev/null < /dev/null || true; } \
        | sed -n 's/^services needed: *//p' | tail -n 1
}

provide() { # provide SERVICE ...: makes them available; without one its tests are skipped, or CI fails
    local service
    for service in "$@"; do
        case $service in
            docker)
                if ensure_docker; then make_image; else without "no Docker engine answers" "${DOCKER_ADVICE[@]}"; fi ;;
            etcd) ensure_etcd || without "there is no etcd" "${ETCD_ADVICE[@]}" ;;
            consul) ensure_consul || without "there is no consul program" "${CONSUL_ADVICE[@]}" ;;
            *) die "no service is called $service" ;;
        esac
    done
}

without() { # without WHAT IS SO [what to do ...]: the end of a run that requires every service
    if [ "${CI:-}" = true ] || [ "${XCHRONOS_REQUIRE_SERVICES:-}" = 1 ]; then
        die "$1, and this run requires one" "${@:2}"
    fi
    say "$1: the tests that need one are skipped"
    printf '    %s\n' "${@:2}" >&2
}
