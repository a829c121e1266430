#!/usr/bin/env bash
# Train on several nodes without a scheduler. Run this on every node, with the same arguments:
#
#   HEAD=node-0 NODES=4 GPUS=8 NAME=mine bash experiments/cluster/torchrun.sh experiments/paper/elastic_256.yaml
#
# HEAD is the host name or address of the node that coordinates the processes, and NAME is the name of the run. The runs
# folder must be on a file system that all nodes share. If a process fails, all processes stop; run the same command
# again to resume from the last checkpoint.

set -euo pipefail
: "${1:?the first argument must be the YAML file of an experiment}"
: "${HEAD:?}" "${NODES:?}" "${GPUS:?}" "${NAME:?}"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" \
  --rdzv-backend c10d --rdzv-endpoint "$HEAD:${PORT:-29400}" --rdzv-id "$NAME" \
  -m pocketdit run "$@" --resume --name "$NAME" training.nodes="$NODES" training.devices="$GPUS"
