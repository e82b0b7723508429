"""Puts a side-car reward channel into its policy's GGUF, every tensor as it is: python merge.py policy.gguf channel.gguf both.gguf."""
import sys

import gguf


def copy(writer, reader, wanted):
    """Adds the metadata and the tensors whose names are wanted."""
    for name, field in reader.fields.items():
        if wanted(name):
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, field.types[1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        if wanted(tensor.name):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)


policy, channel = (gguf.GGUFReader(path) for path in sys.argv[1:3])
writer = gguf.GGUFWriter(sys.argv[3], policy.fields["general.architecture"].contents())
header = ("GGUF.", "general.architecture", "reward.")
copy(writer, policy, lambda name: not name.startswith(header))
copy(writer, channel, lambda name: name.startswith("reward."))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
