#!/usr/bin/env bash
# Runs ceph/s3-tests against the binary that was built, and holds the outcome against the lists here:
# a test of passing.txt has to pass, and one of unsupported.txt must not. The argument, or
# DRYSTONE_S3TESTS, is a checkout of the suite at the commit that passing.txt names.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

suite=${1:-${DRYSTONE_S3TESTS:-}}
[ -n "$suite" ] || die "usage: tests/conformance/run.sh CHECKOUT"
binary=${DRYSTONE_BINARY:-$CARGO_TARGET_DIR/debug/drystone}
[ -x "$binary" ] || die "$binary is not there: cargo build"
commit=$(sed -nE '1s|^# ceph/s3-tests at ([0-9a-f]+),.*|\1|p' "$here/passing.txt")
found=$(git -C "$suite" rev-parse HEAD)
[[ $found == "$commit"* ]] || die "$suite is at $found, and passing.txt is of $commit"

work=$(mktemp -d)
server=
stop() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap stop EXIT

# Installs the suite's requirements, at the versions of the tested clients.
inputs=$(cat "$suite/requirements.txt" tests/clients/requirements.txt | sha256sum | cut -c 1-12)
python=$CACHE_DIRECTORY/s3-tests-$inputs
if [ ! -e "$python/complete" ]; then
  rm -rf "$python"
  python3 -m venv "$python"
  "$python/bin/pip" install -q --disable-pip-version-check --no-input \
    -r "$suite/requirements.txt" -c tests/clients/requirements.txt
  touch "$python/complete"
fi

export AWS_ACCESS_KEY_ID=conformanceroot AWS_SECRET_ACCESS_KEY=conformance-root-secret
export AWS_DEFAULT_REGION=us-east-1 AWS_CONFIG_FILE=/dev/null
export AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
DRYSTONE_ROOT_USER=$AWS_ACCESS_KEY_ID DRYSTONE_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY \
  "$binary" server --address 127.0.0.1:0 --port-file "$work/port" --config "$here/config.toml" \
  "$work/disk{1...4}" >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 300); do
  [ ! -s "$work/port" ] || break
  kill -0 "$server" 2>/dev/null || die "the server ended: $(cat "$work/server.log")"
  sleep 0.1
done
port=$(cat "$work/port")

# owner FIELD: prints a field of the root account, as the server shows it.
owner() {
  "$python/bin/python" -c "import boto3
s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:$port')
print(s3.list_buckets()['Owner']['$1'])"
}

# user_of NAME FIELD: prints a field of a user in config.toml.
user_of() {
  sed -nE "/^name = \"$1\"/,/^\[/s/^$2 = \"(.*)\"/\1/p" "$here/config.toml"
}

# section TITLE NAME: prints the section of one of the suite's users. Without a name it is root.
section() {
  if [ -z "${2:-}" ]; then
    set -- "$1" "$(owner DisplayName)" "$(owner ID)" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
  else
    set -- "$1" "$(user_of "$2" display_name)" "$(user_of "$2" canonical_id)" \
      "$(user_of "$2" access_key)" "$(user_of "$2" secret_key)"
  fi
  printf '[%s]\ndisplay_name = %s\nuser_id = %s\nemail = %s@example.com\n' "$1" "$2" "$3" "${1// /-}"
  printf 'access_key = %s\nsecret_key = %s\n' "$4" "$5"
}

{
  printf '[DEFAULT]\nhost = 127.0.0.1\nport = %s\nis_secure = False\n' "$port"
  section "s3 main"
  # Any region but us-east-1, for which GetBucketLocation answers with an empty element.
  printf 'api_name = eu-west-1\n'
  section "s3 alt" alt
  section "s3 tenant" tenant
  printf 'tenant =\n'
  section "iam"
  section "iam root"
  section "iam alt root" alt
} >"$work/s3tests.conf"

export LC_ALL=C
grep -v '^#' "$here/passing.txt" | sort >"$work/expected"
cut -f 1 "$here/unsupported.txt" | sort >"$work/unsupported"
mapfile -t tests < <(sort "$work/expected" "$work/unsupported" | sed 's|^|s3tests/functional/|')
say "Running ${#tests[@]} tests"
status=0
(
  cd "$suite"
  export S3TEST_CONF=$work/s3tests.conf PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1
  "$python/bin/python" -m pytest -p isolate -p no:cacheprovider -v --tb=no "${tests[@]}"
) >"$work/log" 2>&1 || status=$?
# 0: all passed; 1: some failed, and the lists decide whether they may.
[ "$status" -le 1 ] || die "$(tail -n 20 "$work/log")"

outcome() { sed -nE "s#^s3tests/functional/([^ ]+) ($1)( .*)?\$#\1#p" "$work/log" | sort -u; }
outcome PASSED >"$work/passed"
outcome 'PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS' >"$work/ran"
lost=$(comm -23 "$work/expected" "$work/passed")
won=$(comm -12 "$work/unsupported" "$work/passed")
unseen=$(sort "$work/expected" "$work/unsupported" | comm -23 - "$work/ran")
# report WHAT TESTS: prints the tests, if there are any.
report() { [ -z "$2" ] || printf '%s:\n%s\n' "$1" "$2"; }
report "no longer passing" "$lost"
report "passing, and listed as unsupported" "$won"
report "not run" "$unseen"
say "$(wc -l <"$work/passed") of ${#tests[@]} passed"
[ -z "$lost$won$unseen" ]
