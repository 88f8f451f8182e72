#!/bin/sh
# What a training step should take on a GPU that is not there: its kernels are compiled for one by
# Mesa's RADV on "null hardware", and estimate.py reads their machine code.
#
#   sh tests/bench/gpulab/run.sh [BATCH RESIZE SUBGROUP] [-- --kernels --narrow]
#
# It needs gcc, python3 and Debian's packages; work goes to runs/gpulab, and nothing is installed.
# CHIP=navi21 is an RX 6800, and the only one that the estimate knows; navi31, vega10 compile too.
set -eu

src=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$src/../../.." && pwd -P)
lab=$root/runs/gpulab
out=$lab/step
chip=${CHIP:-navi21}
arguments=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  arguments="$arguments $1"
  shift
done
[ $# -eq 0 ] || shift

rm -rf "$out"
mkdir -p "$lab/layer.d" "$out/isa"
[ -f "$lab/radv_icd.json" ] || sh "$src/get.sh" "$lab"
headers=$lab/dev/usr/include
[ -x "$lab/radvstat" ] || gcc -O1 -I"$headers" "$src/radvstat.c" -o "$lab/radvstat" -l:libvulkan.so.1
[ -f "$lab/layer.so" ] ||
  gcc -O1 -shared -fPIC -fvisibility=hidden -I"$headers" "$src/layer.c" -o "$lab/layer.so"
printf '{"file_format_version": "1.2.0", "layer": {"name": "VK_LAYER_gpulab_dump", "type": "GLOBAL",
"library_path": "%s", "api_version": "1.3.239", "implementation_version": "1", "description": "dump"}}
' "$lab/layer.so" >"$lab/layer.d/gpulab.json"

cd "$root"
# shellcheck disable=SC2086 # arguments are words
VK_LAYER_PATH=$lab/layer.d VK_INSTANCE_LAYERS=VK_LAYER_gpulab_dump GPULAB_DIR=$out \
  deno run -A --no-check "$src/capture.ts" "$out" $arguments
RADV_FORCE_FAMILY=$chip VK_DRIVER_FILES=$lab/radv_icd.json \
  "$lab/radvstat" --isa "$out/isa" "$out"/*.spv >"$out/$chip.jsonl" 2>"$lab/radvstat.log"
python3 "$src/estimate.py" "$out" "$chip" "$@"
