"""Lets the onnx package check an exported network.

    deno task export CHECKPOINT --to onnx --out net.onnx
    pip install onnx && python check_onnx.py net.onnx

Exit status 1 if the file is not valid: types, shapes and operators are inferred and checked for its opset.
"""

import sys

import onnx

if len(sys.argv) != 2:
    sys.exit(__doc__)
model = onnx.load(sys.argv[1])
try:
    onnx.checker.check_model(model, full_check=True)
except onnx.checker.ValidationError as error:
    sys.exit(str(error))
opset = model.opset_import[0].version
print(
    f"valid: IR {model.ir_version}, opset {opset}, {len(model.graph.node)} nodes, {len(model.graph.initializer)} weights"
)
