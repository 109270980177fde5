#!/usr/bin/env bash
# Builds Drystone and serves S3 from ./data, in the foreground. Ctrl-C stops it; data and keys stay.
#
#   deploy/run.sh                  http://127.0.0.1:9000
#   PORT=9010 deploy/run.sh        another port
#   HOST=0.0.0.0 deploy/run.sh     reachable from other machines
#   DATA=/srv/s3 deploy/run.sh     another data folder
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

PORT=${PORT:-9000}
HOST=${HOST:-127.0.0.1}
DATA=${DATA:-./data}

taken() { (: </dev/tcp/127.0.0.1/"$PORT") 2>/dev/null; }

check_port() {
  case $PORT in
    '' | *[!0-9]*) die "PORT=$PORT is no port number." ;;
  esac
  if [ "$PORT" -ne 0 ] && taken; then
    die "Port $PORT is in use by another program. Choose another: PORT=$((PORT + 1)) deploy/run.sh"
  fi
}

# Reads the server's ready line and explains it to a person.
greet() {
  local ready endpoint host=$HOST port
  IFS= read -r ready || return 0
  port=${ready##*\"port\":}
  port=${port%%[!0-9]*}
  [ "$host" != 0.0.0.0 ] || host=127.0.0.1
  endpoint=http://$host:$port
  printf "\n%s\n" "Drystone serves S3 at $endpoint"
  if [ -r "$DATA/keys" ]; then
    sed -e 's/^AWS_ACCESS_KEY_ID=/  access key  /' -e 's/^AWS_SECRET_ACCESS_KEY=/  secret key  /' \
      "$DATA/keys"
    say "  (kept in $DATA/keys)"
  fi
  cat <<EOF

Three commands to try, in another shell in this folder (the client: pip install awscli):
  export AWS_ENDPOINT_URL=$endpoint AWS_DEFAULT_REGION=us-east-1; set -a; . $DATA/keys; set +a
  aws s3 mb s3://first && aws s3 cp README.md s3://first/
  aws s3 ls s3://first

Ctrl-C stops the server; data and keys stay in $DATA.

EOF
}

check_port
mkdir -p "$DATA" || die "DATA=$DATA cannot be created. Choose a folder that can be written."
check_machine "$DISK_MIB_BUILD"
build --workspace --bin drystone

exec "$CARGO_TARGET_DIR/debug/drystone" server --address "$HOST:$PORT" \
  --keys-file "$DATA/keys" "$DATA/disk{1...4}" > >(greet)
