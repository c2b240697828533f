#!/bin/sh
# Bring this machine to where `make run` (argument: run), `make check` (dev) or `make test` (test) works. Quick when it
# already is.
# Debian packages are installed only as root and only those that are missing; everything else goes into .venv.
set -eu
cd "$(dirname "$0")/.."

RUN_PACKAGES="python3 python3-venv ca-certificates libseccomp2 busybox-static"
TEST_PACKAGES="runc crun podman containerd docker.io buildah skopeo conmon uidmap strace gcc libc6-dev musl-tools
    linux-libc-dev libseccomp-dev clang iproute2 procps jq fuse-overlayfs slirp4netns
    containernetworking-plugins iptables passt
    docker-registry umoci apache2-utils groff-base zsh fish
    qemu-system-x86 mmdebstrap erofs-utils e2fsprogs kmod cpio"
COMPILER_PACKAGES="gcc libc6-dev musl-tools linux-libc-dev"

say() { echo "setup: $*" >&2; }

missing_of() {
    for package in "$@"; do
        case "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

have_compiler() { command -v musl-gcc >/dev/null || command -v gcc >/dev/null || command -v cc >/dev/null; }

install_packages() {
    # Installing a daemon's package must not start the daemon.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    say "installing Debian packages: $*"
    lock="-o DPkg::Lock::Timeout=600"
    apt-get $lock -qq update >&2
    apt-get $lock -qq -y --no-install-recommends install "$@" </dev/null >build/setup-apt.log 2>&1 || {
        tail -n 20 build/setup-apt.log >&2
        say "apt-get install $*: see build/setup-apt.log"
        exit 1
    }
}

debian_packages() {
    wanted=$RUN_PACKAGES
    case "$1" in
        test) wanted="$wanted $TEST_PACKAGES" ;;
    esac
    have_compiler || wanted="$wanted $COMPILER_PACKAGES"
    if ! command -v dpkg-query >/dev/null; then
        say "this is not a Debian: please see to it that these are there: $wanted"
        return
    fi
    # shellcheck disable=SC2086
    missing=$(missing_of $wanted)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        say "these Debian packages are missing; install them as root, then try again:"
        say "    apt-get install --no-install-recommends $missing"
        exit 1
    fi
    # shellcheck disable=SC2086
    install_packages $missing
}

virtual_environment() {
    python=/usr/bin/python3
    [ -x "$python" ] || python=$(command -v python3)
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        say "$python is older than 3.11, which Corral needs"
        exit 1
    }
    stamp=.venv/.setup-$1
    wanted=build/.requirements-$1
    echo "# for $python" >"$wanted"
    "$python" tools/requirements.py "$1" >>"$wanted"
    # Without a compiler on the machine, the compiler comes from PyPI.
    have_compiler || echo 'ziglang<0.18' >>"$wanted"
    if [ -x .venv/bin/python ] && cmp -s "$stamp" "$wanted"; then
        return
    fi
    [ -x .venv/bin/python ] || {
        say "making .venv with $python"
        "$python" -m venv .venv
    }
    say "installing into .venv: $(grep -v '^#' "$wanted" | tr '\n' ' ')"
    .venv/bin/pip install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$stamp"
}

case "${1:-}" in
    run) packages=run tools=build ;;
    dev) packages=run tools=dev ;;
    test) packages=test tools=dev ;;
    *) say "usage: tools/setup.sh run|dev|test" && exit 2 ;;
esac
mkdir -p build
stamp_packages=build/.packages-$packages
if [ ! -e "$stamp_packages" ] || [ tools/setup.sh -nt "$stamp_packages" ]; then
    debian_packages "$packages"
    touch "$stamp_packages"
fi
virtual_environment "$tools"
