// Writes and reads safetensors files for python_reads_test.py.
//   safetensors_program write FILE   one tensor of every type, as the test knows them
//   safetensors_program read FILE    prints "name dtype shape hex" a tensor, then "key=value" of the metadata
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "tests/trainer/checkpoint/sample_checkpoint.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

Status Write(const std::string& path) {
  const std::vector<HostTensor> tensors = {
      SampleTensor<float>("f32", DType::kF32, {2, 3}, {0.1f, -0.0f, 1e-45f, 3.4028235e38f, std::numeric_limits<float>::infinity(), -2.5f}),
      SampleTensor<double>("f64", DType::kF64, {2}, {0.1, -1e300}),
      SampleTensor<uint16_t>("bf16", DType::kBF16, {3}, {0x3f80, 0xc020, 0x7f80}),  // 1, -2.5, infinity
      SampleTensor<uint16_t>("f16", DType::kF16, {2, 1}, {0x3c00, 0xc100}),         // 1, -2.5
      SampleTensor<int64_t>("i64", DType::kI64, {}, {std::numeric_limits<int64_t>::min()}),
      SampleTensor<int32_t>("i32", DType::kI32, {2}, {-1, 2147483647}),
      SampleTensor<uint8_t>("u8", DType::kU8, {1, 1, 3}, {0, 128, 255}),
      SampleTensor<uint8_t>("bool", DType::kBool, {2}, {1, 0}),
      SampleTensor<float>("empty", DType::kF32, {0, 4}, {}),
      SampleTensor<float>("n\xc3\xa4me \"quoted\"", DType::kF32, {1}, {7}),
  };
  std::vector<TensorView> views;
  for (const HostTensor& tensor : tensors) views.push_back(tensor.view());
  ASSIGN_OR_RETURN(const auto file, PosixStorage().Create(path));
  RETURN_IF_ERROR(WriteSafetensors(*file, views, {{"alias.head", "f32"}, {"k", "v \"\\\n"}}));
  return file->Close();
}

Status Read(const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, PosixStorage().Open(path));
  ASSIGN_OR_RETURN(const auto contents, ReadSafetensors(*file));
  for (const HostTensor& tensor : contents.tensors) {
    std::string shape;
    for (const int64_t size : tensor.info.shape) shape += Cat(shape.empty() ? "" : ",", size);
    std::printf("%s %s [%s] %s\n", tensor.info.name.c_str(), std::string(SafetensorsName(tensor.info.dtype)).c_str(), shape.c_str(),
                Hex(tensor.bytes).c_str());
  }
  for (const auto& [key, value] : contents.metadata) std::printf("%s=%s\n", key.c_str(), value.c_str());
  return OkStatus();
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) {
  const std::string verb = argc == 3 ? argv[1] : "";
  const dtrain::Status status = verb == "write"  ? dtrain::Write(argv[2])
                                : verb == "read" ? dtrain::Read(argv[2])
                                                 : dtrain::InvalidArgument("usage: safetensors_program write|read FILE");
  if (!status.ok()) std::fprintf(stderr, "%s\n", dtrain::Message(status).c_str());
  return status.ok() ? 0 : 1;
}
