#!/bin/sh
# Audit EfficientNet-Lite0 on eight photographs, with Lite1 as a twin of another architecture.
# Arguments: a folder for the photographs, then the folder for the run.
set -eu
photographs=${1:-imagenet-input}
run=${2:-imagenet-run}
here=$(dirname "$0")
python "$here/photographs.py" "$photographs"
resume=""
[ -e "$run/run.json" ] && resume="--resume"
auditor audit \
  --model "$here/efficientnet_lite.py:lite0" --input-size 224 \
  --mean 127/255 --std 128/255 \
  --twin "$here/efficientnet_lite.py:lite1,input-size=240,mean=127/255,std=128/255" \
  --images "$photographs" --profile compliance --effort quick \
  --run "$run" --exit-zero $resume
