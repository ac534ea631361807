# setup.sh: finds what is missing, installs it and builds Steer; sourced by scripts/quickstart and scripts/test.
# shellcheck shell=bash
# shellcheck disable=SC2034  # `jobs` is used by the scripts that source this file

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${STEER_BUILD:-$root/build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
export STEER_BUILD=$build
jobs=$(nproc 2>/dev/null || echo 2)

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

has_command() { command -v "$1" >/dev/null 2>&1; }
has_header() { has_command cc && printf '#include <%s>\n' "$1" | cc -E - >/dev/null 2>&1; }
has_lua_module() { has_command luajit && luajit -e "require '$1'" >/dev/null 2>&1; }
has_openblas() { # cblas.h alone may be another library's
    has_header cblas.h && [ "$(cc -print-file-name=libopenblas.so)" != libopenblas.so ]
}
has_numpy() { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import numpy' >/dev/null 2>&1; }
# Ubuntu's chromium comes as a snap only: there the test of reports in a browser is skipped unless one is installed.
has_browser() {
    has_command chromium || has_command chromium-browser || has_command google-chrome ||
        ! grep -qx 'ID=debian' /etc/os-release 2>/dev/null
}
# The test under Slurm starts a cluster of its own, for which it must be root: others need no Slurm.
has_slurm() {
    [ "$(id -u)" != 0 ] || { [ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/slurmd ] && [ -x /usr/sbin/munged ]; }
}

# What is needed: a check and the package of Debian 12 and Ubuntu 24.04 that satisfies it.
build_needs=(
    "has_command cc=gcc" "has_header stdio.h=libc6-dev" "has_command cmake=cmake" "has_command make=make"
    "has_command luajit=luajit" "has_lua_module dkjson=lua-dkjson" "has_openblas=libopenblas-dev"
    "has_header pcre2posix.h=libpcre2-dev" "has_header utf8proc.h=libutf8proc-dev"
    "has_header zlib.h=zlib1g-dev"
)
test_needs=(
    "has_command busted=lua-busted" "has_command luacheck=lua-check" "has_command clang-format-14=clang-format-14"
    "has_command shellcheck=shellcheck" "has_command g++=g++" "has_command pkg-config=pkg-config"
    "has_numpy=python3-numpy" "has_command gnuplot=gnuplot-nox" "has_command parallel=parallel"
    "has_browser=chromium" "has_slurm=slurm-wlm" "has_slurm=munge"
)

# install_missing NEED...: installs the packages of the needs that are not met. Runs nothing when all are met.
install_missing() {
    local need packages=()
    for need in "$@"; do
        ${need%%=*} || packages+=("${need##*=}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    say "Missing packages: ${packages[*]}"
    has_command apt-get || die "Install them with your system's package manager (these are Debian's names), then run this again."
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        has_command sudo || die "Run as root, or have root run: apt-get install ${packages[*]}"
        as_root=(sudo)
        say "Installing them with sudo apt-get."
    else
        say "Installing them with apt-get."
    fi
    # One command, so that sudo asks once. Old package lists may still do when the update fails.
    # shellcheck disable=SC2016 # sh expands it
    "${as_root[@]}" sh -c 'export DEBIAN_FRONTEND=noninteractive; get="apt-get -qq -o DPkg::Lock::Timeout=300"
        $get update; exec $get install -y --no-install-recommends "$@"' sh "${packages[@]}" ||
        die "apt-get could not install: ${packages[*]}"
    for need in "$@"; do
        ${need%%=*} || die "${need##*=} is installed, but this still fails: ${need%%=*}"
    done
}

has_cuda_compiler() {
    [ -n "${CUDACXX:-}" ] || has_command nvcc || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]
}

# option NAME DEFAULT: what the environment says, else what $build is configured with, else the default.
option() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(sed -n "s/^$1:[^=]*=//p" "$build/CMakeCache.txt" 2>/dev/null || true)
    printf '%s' "${value:-$2}"
}

# configure_and_build TESTS (ON; OFF: where $build does not build them already) [TARGET...]: builds into $build, with the options
# that it was configured with; prints the output of CMake and the compilers only when something fails.
configure_and_build() {
    local cuda tests=$1 log=$build/setup.log
    shift
    cuda=$(option STEER_CUDA AUTO)
    [ "$tests" = ON ] || tests=$(option STEER_BUILD_TESTS OFF)
    if [ "$cuda" = OFF ]; then
        say "STEER_CUDA=OFF: building the CPU runtime"
    elif ! has_cuda_compiler; then
        [ "$cuda" != ON ] || die "STEER_CUDA=ON, but no CUDA compiler was found: put nvcc on PATH or set CUDA_HOME"
        say "CUDA compiler not found: building the CPU runtime"
    else
        say "CUDA compiler found: building the CPU runtime and the CUDA module (minutes; STEER_CUDA=OFF goes without it; $log has the output)"
    fi
    mkdir -p "$build"
    local configure=(cmake -S "$root" -B "$build" -DSTEER_CUDA="$cuda" -DSTEER_BUILD_TESTS="$tests"
        -DSTEER_WERROR="$(option STEER_WERROR OFF)" -DSTEER_SANITIZE="$(option STEER_SANITIZE OFF)")
    [ -z "${STEER_CUDA_ARCHITECTURES:-}" ] || configure+=(-DCMAKE_CUDA_ARCHITECTURES="$STEER_CUDA_ARCHITECTURES")
    if ! {
        # What an earlier run found may be gone: a tree that was moved, a compiler that was removed.
        { "${configure[@]}" || { find "$build" -maxdepth 2 -name CMakeCache.txt -delete && "${configure[@]}"; }; } &&
        cmake --build "$build" -j "$jobs" ${1:+--target "$@"}
    } >"$log" 2>&1; then
        cat "$log" >&2
        die "The build failed: see above, or $log"
    fi
    say "Built in $build"
}
