#!/usr/bin/env bash
# Drives the server with every client that has a round, including those that are too large for
# tests/run.sh, over HTTP and over HTTPS, and rewrites the table in docs/reference/clients.md. Names
# the clients that cannot be installed. With names of rounds as arguments, runs only those and leaves
# the other lines of the table as they are. TLS=true or TLS=false runs one scheme and keeps the table.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

tools=$CACHE_DIRECTORY/more-clients
bin=$tools/bin
trixie=$tools/trixie
failed=()

# attempt WHAT FUNCTION FILE…: installs once, and again when the function or a file that it reads has
# changed; a failure is reported by name.
attempt() {
  local what=$1 function=$2 mark=$tools/$1.done inputs
  shift 2
  inputs=$({ declare -f "$function"; [ $# -eq 0 ] || cat "$@"; } | sha256sum)
  [ "$(cat "$mark" 2>/dev/null)" != "$inputs" ] || return 0
  say "Installing: $what"
  if "$function" >"$tools/$what.log" 2>&1; then
    printf '%s\n' "$inputs" >"$mark"
  else
    say "not installed: $what ($tools/$what.log)"
    failed+=("$what")
  fi
}

python_clients() {
  python3 -m venv "$tools/python" &&
    "$tools/python/bin/pip" install -q --disable-pip-version-check --no-input -r tests/clients/more.txt
}

# The clients of tests/run.sh, at their versions.
pinned_clients() {
  python3 -m venv "$tools/pinned" &&
    "$tools/pinned/bin/pip" install -q --disable-pip-version-check --no-input -r tests/clients/requirements.txt
}

node_clients() {
  mkdir -p "$tools/node" && cp tests/clients/package.json "$tools/node/" &&
    npm install --prefix "$tools/node" --no-audit --no-fund
}

# built NAME PACKAGE: a Go program of the module in tests/clients/NAME.
built() {
  local name=$1 package=$2
  mkdir -p "$tools/$name" && cp "tests/clients/$name"/* "$tools/$name/" &&
    (cd "$tools/$name" && export GOFLAGS=-mod=mod && go mod tidy && go build -o "$bin/$name" "$package")
}

tofu() { built tofu github.com/opentofu/opentofu/cmd/tofu; }
go_sdk() { built go_sdk .; }

# These have many dependencies: they are built once, outside the workspace.
rust_sdk() {
  mkdir -p "$tools/rust_sdk" && cp -r tests/clients/rust_sdk/. "$tools/rust_sdk/" &&
    cargo install -q --path "$tools/rust_sdk" --debug --root "$tools/rust_sdk" --target-dir "$tools/rust_sdk/target" &&
    rm -rf "$tools/rust_sdk/target"
}

# jars NAME: fetches the dependencies in the pom.xml of tests/clients/NAME.
jars() {
  rm -rf "${tools:?}/$1/lib" && mkdir -p "$tools/$1" && cp "tests/clients/$1/pom.xml" "$tools/$1/" &&
    mvn -B -q -f "$tools/$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$tools/$1/lib"
}

java_sdk() { jars java_sdk; }
hadoop() { jars hadoop; }

# Unpacks packages of a Debian release that has them beside this system. None of them starts.
debian() {
  [ "$(id -u)" -eq 0 ] || { say "needs root"; return 1; }
  command -v debootstrap >/dev/null || install_packages debootstrap
  rm -rf "$trixie"
  debootstrap --variant=minbase trixie "$trixie" || return 1
  mkdir "$trixie/etc/postgresql-common"
  printf 'create_main_cluster = false\n' >"$trixie/etc/postgresql-common/createcluster.conf"
  printf '#!/bin/sh\nexit 101\n' >"$trixie/usr/sbin/policy-rc.d"
  chmod +x "$trixie/usr/sbin/policy-rc.d"
  chroot "$trixie" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    awscli ca-certificates docker-registry minio-client pgbackrest postgresql-17 restic
}

# loader NAME WORD…: a command that runs a program of the unpacked Debian with its own libraries.
loader() {
  local name=$1
  shift
  printf '#!/bin/sh\nexec %s/lib64/ld-linux-x86-64.so.2 --library-path %s/usr/lib/x86_64-linux-gnu %s "$@"\n' \
    "$trixie" "$trixie" "$*" >"$bin/$name"
  chmod +x "$bin/$name"
}

check_machine "$DISK_MIB_TESTS"
command -v openssl >/dev/null || install_packages openssl
mkdir -p "$bin" "$tools/v2"
attempt pinned pinned_clients tests/clients/requirements.txt
attempt python python_clients tests/clients/more.txt
attempt node node_clients tests/clients/package.json
attempt tofu tofu tests/clients/tofu/*
attempt go_sdk go_sdk tests/clients/go_sdk/*
attempt rust_sdk rust_sdk tests/clients/rust_sdk/Cargo.toml tests/clients/rust_sdk/src/main.rs
attempt java_sdk java_sdk tests/clients/java_sdk/pom.xml
attempt hadoop hadoop tests/clients/hadoop/pom.xml
attempt debian debian
if [ -e "$tools/debian.done" ]; then
  loader restic "$trixie/usr/bin/restic"
  loader docker-registry "$trixie/usr/bin/docker-registry"
  loader mc "$trixie/usr/bin/minio-client"
  loader aws "$trixie/usr/bin/python3" "$trixie/usr/bin/aws"
  sed -i "s|^exec|PYTHONHOME=$trixie/usr exec|" "$bin/aws"
  mv "$bin/aws" "$tools/v2/aws"
fi
say "Building"
build --workspace
python3 tests/clients/matrix.py "$CARGO_TARGET_DIR/debug/drystone" "$tools" "$@"
[ ${#failed[@]} -eq 0 ] || say "not installed: ${failed[*]}"
