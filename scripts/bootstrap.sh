#!/bin/sh
# Brings a bare Debian machine to `deno task TASK [ARGS…]`, then runs it.
#
#   sh scripts/bootstrap.sh TASK [ARGS…]
#   eval "$(sh scripts/bootstrap.sh env)"     the same settings, for this shell
#
# It looks for Deno, a WebGPU adapter, the packages and the data, in that order, and gets what is
# missing. It says each thing that it does in one line on stderr, and nothing if nothing is missing.
# What it gets goes into git-ignored folders of the project (.deno, .mesa, .links, data), packages of
# npm and JSR into Deno's cache. It installs packages of Debian only if it is root or `sudo` asks for
# no password: npm, which it gets Deno from, and a Vulkan driver, if there is none; Chromium for
# `test:browser`; Open MPI and MPICH for `test:mpi`. A GPU is used as it is, and so is a driver that
# you chose yourself (VK_DRIVER_FILES).
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)
tmp=

say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}
scratch() { [ -n "$tmp" ] || tmp=$(mktemp -d "${TMPDIR:-/tmp}/resnette.XXXXXX"); }
clean_up() {
  [ -z "$tmp" ] || rm -rf "$tmp"
  tmp=
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ $# -gt 0 ] || die "usage: sh scripts/bootstrap.sh TASK [ARGS…]"

needs_adapter=yes
needs_data=yes
needs_packages=no
case $1 in
  train | report | test | test:mpi | ok | env) needs_packages=yes ;;
esac
case $1 in
  data | shapes | fmt | lint | check | doc) needs_adapter=no needs_data=no ;;
  report | test:browser | web) needs_adapter=no ;;
  env) needs_data=no ;;
esac

# ---------------------------------------------------------------------------------------- packages

# as_root COMMAND…: fails, having done nothing, where that would need a password.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}
can_be_root() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }

# get_debian PACKAGE…: installs packages; whether that worked shows in what is there afterwards.
can_install() { command -v apt-get >/dev/null && can_be_root; }
get_debian() {
  as_root apt-get update -qq >/dev/null 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
    >/dev/null 2>&1 || true
}

# release: "debian bookworm" and the like.
# shellcheck disable=SC1091
release() { (. /etc/os-release && echo "${ID:-} ${VERSION_CODENAME:-}") 2>/dev/null || true; }

# mirrors: where apt gets Debian's packages on this machine, by its sources of either format. Beside
# Debian's own there may be others, which do not have what is asked for.
mirrors() {
  # shellcheck disable=SC2016
  apt-get indextargets --no-release-info --format '$(COMPONENT) $(RELEASE) $(REPO_URI)' \
    'Created-By: Packages' 2>/dev/null |
    awk '$1 == "main" && $2 !~ /-/ && $3 !~ /^cdrom:/ && !seen[$3]++ { print $3 }'
}

# by_hand COMMAND…: what to type to get something from Debian.
by_hand() {
  command=$*
  if command -v apt-get >/dev/null && [ -z "$(mirrors)" ]; then
    command="$command, once /etc/apt/sources.list names a mirror (apt has none; man sources.list)"
  fi
  echo "on Debian, as root, type: apt-get update && $command"
}

# unpack SUITE PACKAGE FOLDER: puts what is in a package of Debian into FOLDER (an absolute path).
# The lists and the cache are private, so it needs no root and leaves apt's own files as they are.
unpack() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  scratch
  apt=$tmp/$1
  key=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/deb" "$3"
  [ -r "$key" ] && signed="[signed-by=$key]" || signed=
  mirrors | while read -r uri; do
    echo "deb $signed $uri $1 main"
  done >"$apt/sources.list"
  if [ ! -s "$apt/sources.list" ]; then
    say "no mirror to get $2 from: name one in /etc/apt/sources.list (see man sources.list)"
    return 1
  fi
  (
    cd "$apt/deb"
    private_apt() {
      apt-get -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20 "$@"
    }
    { # Not every mirror need have the suite: what update says matters where download fails.
      private_apt update || true
      private_apt -t "$1" download "$2" && dpkg -x "$2"_*.deb "$3"
    } 2>"$apt/log" || {
      cat "$apt/log" >&2
      exit 1
    }
  ) >/dev/null
}

# -------------------------------------------------------------------------------------------- Deno

# is_recent DENO: it runs, and is 2.9 or later.
is_recent() {
  version=$("$1" --version 2>/dev/null | sed -n '1s/^deno \([0-9]*\)\.\([0-9]*\).*/\1 \2/p') || true
  major=${version% *}
  minor=${version#* }
  [ "${major:-0}" -gt 2 ] || { [ "${major:-0}" -eq 2 ] && [ "${minor:-0}" -ge 9 ]; }
}

if ! is_recent deno; then
  local_bin=$root/.deno/node_modules/.bin
  if ! is_recent "$local_bin/deno"; then
    if ! command -v npm >/dev/null && can_install; then
      say "no Deno 2.9, and no npm to get it with: installing Debian's npm"
      get_debian npm ca-certificates
    fi
    command -v npm >/dev/null ||
      die "no Deno 2.9 on PATH, and no npm to get it with; $(by_hand apt-get install -y npm)"
    say "installing Deno into .deno (npm install deno)"
    npm install --prefix .deno --no-audit --no-fund --no-update-notifier --loglevel=error \
      'deno@^2.9' >/dev/null ||
      die "npm could not install Deno; to see why, type: npm install --prefix .deno deno"
    is_recent "$local_bin/deno" || die "the Deno in .deno does not run; remove .deno and try again"
  fi
  PATH=$local_bin:$PATH
  export PATH
fi

# ----------------------------------------------------------------------------------------- adapter

# adapter [BACKEND]: hardware, software or none. Without Vulkan, Deno falls back to OpenGL.
adapter() {
  env ${1:+"DENO_WEBGPU_BACKEND=$1"} deno eval --no-config --quiet '
    const info = (await navigator.gpu?.requestAdapter())?.info;
    const software = info?.isFallbackAdapter ||
      /llvmpipe|lavapipe|softpipe|swiftshader/i.test(info?.description);
    console.log(!info ? "none" : software ? "software" : "hardware");
  ' 2>/dev/null || echo none
}
has_vulkan() { [ "$(adapter vulkan)" != none ]; }

driver=mesa-vulkan-drivers
install_driver="apt-get install -y --no-install-recommends $driver"

# use_mesa: points Vulkan at the driver in .mesa, wherever the project stands now.
use_mesa() {
  library=$root/.mesa/libvulkan_lvp.so
  icd=$root/.mesa/lvp_icd.json
  [ -f "$library" ] && [ -f "$icd" ] || return 1
  if ! grep -qF "\"$library\"" "$icd"; then
    escaped=$(printf '%s' "$library" | sed 's/[&|\\]/\\&/g')
    sed "s|\(\"library_path\": *\"\)[^\"]*|\1$escaped|" "$icd" >"$icd.new" && mv "$icd.new" "$icd"
  fi
  VK_DRIVER_FILES=$icd
  export VK_DRIVER_FILES
}

# get_mesa: Mesa 25 runs most kernels 1.5 to 2 times faster than bookworm's 22.3. It needs the two
# libraries libvulkan1 and libllvm15, which bookworm's own driver brings.
get_mesa() {
  scratch
  unpack bookworm-backports "$driver" "$tmp/mesa" || return 1
  mkdir -p .mesa
  find "$tmp/mesa" -name libvulkan_lvp.so -exec mv {} .mesa/ \;
  find "$tmp/mesa" -name 'lvp_icd*.json' -exec mv {} .mesa/lvp_icd.json \;
  use_mesa && has_vulkan
}

if [ -z "${XDG_RUNTIME_DIR:-}" ]; then # Without it, the driver prints an error of its own.
  XDG_RUNTIME_DIR=$root/.mesa/run
  mkdir -p .mesa
  [ -d "$XDG_RUNTIME_DIR" ] || mkdir -m 700 "$XDG_RUNTIME_DIR"
  export XDG_RUNTIME_DIR
fi

chosen=${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}${DENO_WEBGPU_BACKEND:-}
if [ "$needs_adapter" = yes ] && [ -z "$chosen" ] && [ "$(adapter)" != hardware ] &&
  ! use_mesa; then
  if ! has_vulkan && can_install; then
    say "no Vulkan driver: installing Debian's software driver ($driver)"
    get_debian "$driver"
  fi
  if ! has_vulkan; then
    [ "$(adapter)" != none ] ||
      die "no WebGPU adapter; $(by_hand "$install_driver")"
    say "no Vulkan driver: using OpenGL; for a better driver, $(by_hand "$install_driver")"
  elif [ "$(release)" = "debian bookworm" ] && [ ! -f .mesa/failed ]; then
    say "getting a faster software driver into .mesa ($driver of bookworm-backports)"
    if ! get_mesa; then
      say "it does not work here: going on with the system's driver (remove .mesa to try again)"
      unset VK_DRIVER_FILES
      rm -rf .mesa/*.so .mesa/*.json
      : >.mesa/failed
    fi
  fi
fi

# ------------------------------------------------------------------------------------------- links

# Without stand-ins, Deno keeps the lock of the real packages there.
if [ ! -L .links ] && [ ! -e .links/cli ]; then
  package=jsr:@std/cli@^1.0.32/parse-args
  if ! timeout 5 deno eval --no-config --quiet "import '$package'" 2>/dev/null; then
    say "JSR cannot be reached: using the stand-ins of scripts/offline (remove .links to try again)"
    [ ! -d .links ] || { rm -f .links/*.lock && rmdir .links; }
    ln -s scripts/offline .links
  fi
fi

# ----------------------------------------------------------------------------- packages from npm

# Charts and Markdown: with them in Deno's cache, a run gets its report without a network too.
report=scripts/report/write.ts
if [ "$needs_packages" = yes ] &&
  ! deno run --quiet --cached-only --lock=.links/deno.lock -P=report "$report" >/dev/null 2>&1; then
  say "getting the packages of the report (deno cache $report)"
  deno cache --quiet --lock=.links/deno.lock "$report" 2>/dev/null ||
    say "that failed; without them, runs get no reports, and all else works"
fi

# -------------------------------------------------------------------------------------------- data

has_data() {
  for part in train t10k; do
    for kind in images-idx3 labels-idx1; do
      [ -s "data/fashion-mnist/$part-$kind-ubyte.gz" ] || return 1
    done
  done
}

if [ "$needs_data" = yes ] && ! has_data; then
  say "getting Fashion-MNIST into data/fashion-mnist (deno task data)"
  if ! deno task --quiet data >&2 || ! has_data; then
    package=dataset-fashion-mnist
    folder=/usr/share/datasets/fashion-mnist
    inside=data/fashion-mnist/$package # where the task may read
    if [ -d "$folder" ]; then
      say "taking it from Debian's package $package, which is installed"
    else
      say "getting it from Debian's package $package instead"
      suite=$(release)
      unpack "${suite#* }" "$package" "$root/$inside" || true
      folder=$inside$folder
    fi
    deno task --quiet data --from "$folder" >&2 || true
    rm -rf "$inside"
    has_data || die "no data; put the four files there by hand, as data/README.md says"
  fi
fi

# ----------------------------------------------------------------------------------------- browser

if [ "$1" = test:browser ] && [ ! -x /usr/lib/chromium/chromium ] && can_install; then
  say "installing Debian's browser (chromium)"
  get_debian chromium # Where that fails, the task says what to do.
fi

# --------------------------------------------------------------------------------------------- MPI

if [ "$1" = test:mpi ] && [ -z "${RESNETTE_MPI:-}" ] &&
  ! { command -v mpirun.openmpi && command -v mpirun.mpich; } >/dev/null && can_install; then
  say "installing Debian's Open MPI and MPICH (openmpi-bin, mpich)"
  get_debian openmpi-bin mpich # Where that fails, the task says what is missing.
fi

# --------------------------------------------------------------------------------------------- run

clean_up
if [ "$1" = env ]; then
  for name in PATH XDG_RUNTIME_DIR VK_DRIVER_FILES; do
    eval "value=\${$name:-}"
    quoted=$(printf '%s' "$value" | sed "s/'/'\\\\''/g")
    [ -z "$value" ] || printf "export %s='%s'\n" "$name" "$quoted"
  done
  exit
fi
exec deno task "$@"
