"""Export of trained taggers to ONNX with their model cards."""
