"""OpenTofu's S3 backend (Terraform's, under another licence) with `use_lockfile`."""

import json
import os
import pathlib
import subprocess

import boto3

from tree import ENDPOINT, run, same

s3 = boto3.client("s3", endpoint_url=ENDPOINT)
s3.create_bucket(Bucket="tofu-round")
pathlib.Path("main.tf").write_text(
    """
terraform {
  backend "s3" {
    bucket       = "tofu-round"
    key          = "a/state.tfstate"
    region       = "us-east-1"
    use_lockfile = true
    endpoints    = { s3 = "%s" }
    skip_credentials_validation = true
    skip_requesting_account_id  = true
    skip_metadata_api_check     = true
  }
}
variable "wait" { default = "0" }
resource "terraform_data" "stone" {
  input            = "grey"
  triggers_replace = [var.wait]
  provisioner "local-exec" { command = "touch started; for n in $(seq ${var.wait}0); do [ -e go ] && break; sleep 0.1; done" }
}
output "stone" { value = terraform_data.stone.output }
"""
    % ENDPOINT
)
os.environ["TF_IN_AUTOMATION"] = "1"
run("tofu", "init", "-input=false")
run("tofu", "apply", "-auto-approve", "-input=false")
same(json.loads(run("tofu", "output", "-json"))["stone"]["value"], "grey", "output")

# Two at once: while one holds the lock, the other is refused.
pathlib.Path("started").unlink()
first = subprocess.Popen(
    ["tofu", "apply", "-auto-approve", "-input=false", "-var", "wait=60"], stdout=subprocess.DEVNULL
)
while not pathlib.Path("started").exists():
    same(first.poll(), None, "the first apply still runs")
keys = [item["Key"] for item in s3.list_objects_v2(Bucket="tofu-round")["Contents"]]
same(keys, ["a/state.tfstate", "a/state.tfstate.tflock"], "keys while locked")
refused = run("tofu", "apply", "-auto-approve", "-input=false", "-lock-timeout=0s", ok=False)
assert "Error acquiring the state lock" in refused, refused
pathlib.Path("go").touch()
same(first.wait(60), 0, "the first apply")
keys = [item["Key"] for item in s3.list_objects_v2(Bucket="tofu-round")["Contents"]]
same(keys, ["a/state.tfstate"], "keys after")
run("tofu", "destroy", "-auto-approve", "-input=false")
