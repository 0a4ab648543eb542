#!/bin/sh
# Audit the network of examples/mnist.py: its folder, then the folder for the run.
set -eu
resume=""
[ -e "$2/run.json" ] && resume="--resume"
auditor audit \
  --model examples/mnist.py:network --weights "$1/model.safetensors" \
  --twin "examples/mnist.py:network,weights=$1/twin.safetensors,name=twin" \
  --images "$1/digits.npz" --input-size 1x28x28 --mean 0 --std 1 \
  --profile compliance --effort quick --run "$2" --exit-zero $resume
