# Goal: Python's own safetensors library and dtrain read each other's files, every type, bit for bit.
# Method: the C++ program writes and Python reads, then the other way round. Usage: python_reads_test.py PROGRAM
# Exit code 77 (skipped for CTest) where the library is missing.
import json
import struct
import subprocess
import sys
import tempfile

try:
    import safetensors
    import safetensors.torch
    import torch
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROGRAM = sys.argv[1]
NAMES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
         torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}
F32 = torch.tensor([[0.1, -0.0, 1e-45], [3.4028235e38, float("inf"), -2.5]], dtype=torch.float32)
TENSORS = {
    "f32": F32,
    "f64": torch.tensor([0.1, -1e300], dtype=torch.float64),
    "bf16": torch.tensor([1, -2.5, float("inf")], dtype=torch.bfloat16),
    "f16": torch.tensor([[1], [-2.5]], dtype=torch.float16),
    "i64": torch.tensor(-(2**63), dtype=torch.int64),
    "i32": torch.tensor([-1, 2147483647], dtype=torch.int32),
    "u8": torch.tensor([[[0, 128, 255]]], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "empty": torch.zeros((0, 4), dtype=torch.float32),
    'näme "quoted"': torch.tensor([7.0]),
}
METADATA = {"alias.head": "f32", "k": 'v "\\\n'}


def raw(tensor):
    """The bytes of a tensor as they lie in memory, as hexadecimal digits."""
    if tensor.numel() == 0:
        return ""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes().hex()


def expect(found, wanted, what):
    if found != wanted:
        sys.exit(f"{what}: found {found!r}, expected {wanted!r}")


def cpp_writes_python_reads(path):
    subprocess.run([PROGRAM, "write", path], check=True)
    with safetensors.safe_open(path, framework="pt") as file:
        expect(dict(file.metadata()), METADATA, "metadata")
        expect(sorted(file.keys()), sorted(TENSORS), "names")
        for name, wanted in TENSORS.items():
            found = file.get_tensor(name)
            expect(found.dtype, wanted.dtype, name)
            expect(tuple(found.shape), tuple(wanted.shape), name)
            expect(raw(found), raw(wanted), name)
    with open(path, "rb") as file:
        header_bytes = struct.unpack("<Q", file.read(8))[0]
        json.loads(file.read(header_bytes))
    expect((8 + header_bytes) % 64, 0, "begin of the data")


def python_writes_cpp_reads(path):
    safetensors.torch.save_file(TENSORS, path, metadata=METADATA)
    lines = subprocess.run([PROGRAM, "read", path], check=True, capture_output=True, text=True).stdout
    wanted = "".join(f"{name} {NAMES[TENSORS[name].dtype]} [{','.join(map(str, TENSORS[name].shape))}] {raw(TENSORS[name])}\n"
                     for name in sorted(TENSORS, key=lambda name: name.encode()))
    wanted += "".join(f"{key}={METADATA[key]}\n" for key in sorted(METADATA))
    expect(lines, wanted, "what dtrain read")


def type_that_dtrain_has_not_is_named(path):
    safetensors.torch.save_file({"a": torch.zeros(3, dtype=torch.int16)}, path)
    ended = subprocess.run([PROGRAM, "read", path], capture_output=True, text=True)
    expect(ended.returncode, 1, "exit code")
    if 'the dtype "I16" is unknown' not in ended.stderr:
        sys.exit(f"the message does not name the type: {ended.stderr}")


with tempfile.TemporaryDirectory() as folder:
    for number, test in enumerate((cpp_writes_python_reads, python_writes_cpp_reads, type_that_dtrain_has_not_is_named)):
        test(f"{folder}/{number}.safetensors")
        print(f"ok: {test.__name__}")
