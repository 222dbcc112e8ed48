# Sourced by the scripts beside it.  `prepare_environment .venv dev` sets
#   python   the interpreter of an environment that has all the project needs, and the extra
#            `dev` of setup.py; "" asks for no extra.
# That is the active environment if it has everything; otherwise one in the named folder of
# the checkout, made when absent and then left alone until setup.py, pyproject.toml or
# third_party/detectron2 change.
# shellcheck shell=bash

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
needed_gigabytes=8 # 5.8 installed, the rest while pip unpacks

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Whether this interpreter's version will do.  One too old to parse the file fails as well.
supported() {
    "$1" "$root/scripts/environment.py" supported >/dev/null 2>&1
}

find_python() {
    local name version found="there is no python3"
    for name in python3 python3.13 python3.12 python3.11; do
        if supported "$name"; then
            command -v "$name"
            return
        fi
    done
    if version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
        found="python3 is $version"
    fi
    fail "Python 3.11, 3.12 or 3.13 is needed and here $found: install one of them" \
        "(Debian, Ubuntu: apt-get install python3.11 python3.11-venv) and start again."
}

check_disk() { # environment
    local free
    if compgen -G "$1/lib/python3*/site-packages/torch/version.py" >/dev/null; then
        return # the large part is there
    fi
    free=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }')
    if [ -n "$free" ] && [ "$free" -lt "$needed_gigabytes" ]; then
        fail "too little disk: the installation needs $needed_gigabytes GB and $root has $free GB" \
            "left; make room or move the checkout to another disk, and start again."
    fi
}

make_environment() { # environment, base python
    local said
    echo "Making the environment $1 ..." >&2
    if ! said=$("$2" -m venv --clear "$1" 2>&1); then
        printf '%s\n' "$said" >&2
        fail "$2 cannot make a virtual environment: install its venv module" \
            "(Debian, Ubuntu: apt-get install python3-venv) and start again."
    fi
}

# pip says what it does and why it fails; the line that we add says what to do about it.
install_packages() { # environment, requirements...
    local environment=$1 log=$1/pip.log
    shift
    echo "Installing into $environment (5.8 GB, about two minutes) ..." >&2
    if "$environment/bin/python" -m pip install --progress-bar off "$@" 2>&1 |
        tee "$log" | { grep -v "^Requirement already satisfied" >&2 || true; }; then
        return
    fi
    if grep -qi "no space left on device" "$log"; then
        fail "too little disk: the installation needs $needed_gigabytes GB in $environment and" \
            "3 GB in ${TMPDIR:-/tmp} meanwhile; make room (or set TMPDIR) and start again."
    fi
    if grep -Eqi "connection broken|max retries exceeded|timed out|timeouterror|no network" "$log"; then
        fail "no network: pip does not reach its package index; check the connection and pip's" \
            "settings ('pip config list'), and start again."
    fi
    fail "pip could not install the packages, for the reason above (kept in $log)."
}

prepare_environment() { # folder, extra that the caller needs too (or ""), pins...
    local environment=$root/$1 extra=$2 active lacking base mark
    shift 2
    # An activated environment's python3 comes first on the PATH, as does a container's own.
    active=$(command -v python3 || true)
    if [ $# -eq 0 ] && [ "${VIRTUAL_ENV:-}" != "$environment" ] && supported "$active"; then
        if lacking=$("$active" "$root/scripts/environment.py" satisfied ${extra:+"$extra"}); then
            python=$active
            export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
            return
        elif [ -n "${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" ]; then
            echo "The active environment lacks $lacking; using $environment instead." >&2
        fi
    fi

    python=$environment/bin/python
    if mark=$("$python" "$root/scripts/environment.py" fingerprint 2>/dev/null) &&
        grep -qxF "$mark [$extra] $*" "$environment/installed.txt" 2>/dev/null; then
        return
    fi
    check_disk "$environment"
    if ! supported "$python"; then
        base=$(find_python) || exit 1
        make_environment "$environment" "$base"
    fi
    install_packages "$environment" "$@" \
        --editable "$root${extra:+[$extra]}" "$root/third_party/detectron2"
    mark=$("$python" "$root/scripts/environment.py" fingerprint)
    # One line per extra that need not be installed again: without any, and this one.
    printf '%s\n' "$mark [] $*" "$mark [$extra] $*" >"$environment/installed.txt"
}
