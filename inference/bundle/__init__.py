"""A model as one file: made, checked and unpacked; its model card; its network as ONNX."""
